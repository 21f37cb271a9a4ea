#include "strategies/training/predictor.h"

#include <limits>

namespace graft {
namespace {

/// Of the weights and running statistics: every change makes it larger.
std::uint64_t version_of(const ParameterSet& set) {
  std::uint64_t sum = 0;
  for (const Parameter& p : set.parameters()) sum += p.version;
  for (const RunningStatistics& s : set.statistics()) sum += s.version;
  return sum;
}

/// Steps of training and of evaluation have other kinds.
std::int64_t kind_of(std::size_t number) { return std::numeric_limits<std::int64_t>::min() + std::int64_t(number); }

}  // namespace

Predictor::Predictor(const Network& network, bool captures)
    : network_(network),
      context_(network.context()),
      captures_(captures && context_.backend().supports_capture()),
      inference_(context_),
      evaluation_(context_) {}

Tensor Predictor::operator()(const Tensor& x) {
  const std::int64_t kind = kind_of(batches_.size() + 1);
  Batch& batch = batches_.try_emplace(x.shape(), Batch{{context_.backend(), kind}, {}}).first->second;
  PlannedStep step = batch.calls.begin();
  const Tensor logits = captures_ && batch.calls.can_replay(step) ? replay(batch, step, x) : network_.forward(x);
  batch.calls.end(step);
  return logits;
}

Tensor Predictor::replay(Batch& batch, const PlannedStep& step, const Tensor& x) {
  const Identity identity{.x = x.view().data, .weights = version_of(network_.parameters())};
  if (!batch.calls.are_current(step, identity)) {
    batch.logits = {};
    batch.calls.capture(step, identity, [&] { batch.logits = network_.forward(x); });
  }
  batch.calls.replay();
  ++replays_;
  return batch.logits;
}

}  // namespace graft
