#include "strategies/analysis/internals_recorder.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace graft {
namespace {

constexpr std::int64_t kRecordsKept = 64;  // a chunk of the file's datasets
constexpr std::int64_t kShareKept = 8;     // or this part of the file: every flush copies it

InternalsHeader header_of(const InternalsRecorder::Spec& spec) {
  const Network& network = spec.network;
  InternalsHeader header{.architecture = network.info().architecture,
                         .strategy = spec.strategy,
                         .record_every = spec.every,
                         .blocks = network.blocks()};
  for (const Parameter& p : network.parameters().parameters())
    header.parameters.push_back({p.name, p.block, p.shape.size()});
  for (const RunningStatistics& s : network.parameters().statistics())
    header.norms.push_back({s.name, s.block, s.channels});
  return header;
}

/// All running statistics lie side by side behind the parameters in the value arena: one copy brings them over.
std::unique_ptr<HostCopy> copy_statistics(const ParameterSet& parameters) {
  const std::deque<RunningStatistics>& all = parameters.statistics();
  if (all.empty()) return nullptr;
  const std::int64_t begin = all.front().offset, end = all.back().offset + 2 * all.back().channels;
  const Tensor span = parameters.values().window(begin, {1, end - begin, 1, 1});
  return span.backend().begin_copy_out(span.view().data, (end - begin) * size_of(span.dtype()));
}

/// Batch norm after batch norm. `copied`: null if there are none.
std::vector<double> statistics_of(const ParameterSet& parameters, HostCopy* copied) {
  std::vector<double> values;
  const auto add = [&](const auto* numbers, std::int64_t begin, std::int64_t count) {
    values.insert(values.end(), numbers + begin, numbers + begin + count);
  };
  const std::deque<RunningStatistics>& all = parameters.statistics();
  for (const RunningStatistics& s : all) {
    const std::int64_t begin = s.offset - all.front().offset;
    if (s.value.dtype() == DType::f64)
      add(static_cast<const double*>(copied->wait()), begin, 2 * s.channels);
    else
      add(static_cast<const float*>(copied->wait()), begin, 2 * s.channels);
  }
  return values;
}

}  // namespace

NormDrift norm_drift(std::span<const double> statistics, std::span<const double> initial, double epsilon) {
  const std::size_t channels = statistics.size() / 2;
  NormDrift drift;
  for (std::size_t c = 0; c < channels; ++c) {
    const double variance0 = initial[channels + c] + epsilon, variance = statistics[channels + c] + epsilon;
    drift.mean += std::abs(statistics[c] - initial[c]) / std::sqrt(variance0) / double(channels);
    drift.variance += std::abs(std::log(variance / variance0)) / double(channels);
  }
  return drift;
}

InternalsRecorder::InternalsRecorder(const Spec& spec) : spec_(spec) {
  if (spec.last_step > 0) {
    initial_ = resume_internals(spec.path, header_of(spec), spec.last_step);
    written_ = (spec.last_step - 1) / spec.every + 1;
    return;
  }
  const ParameterSet& parameters = spec.network.parameters();
  initial_ = statistics_of(parameters, copy_statistics(parameters).get());
  create_internals(spec.path, header_of(spec), initial_);
}

InternalsRecorder::Snapshot InternalsRecorder::take(const Optimizer& optimizer) const {
  return {.update = optimizer.reading(), .statistics = copy_statistics(spec_.network.parameters())};
}

void InternalsRecorder::record(const RecordedStep& step, const Snapshot& snapshot,
                               std::span<const PenaltySpec> penalties) {
  records_.step.push_back(step.step), records_.epoch.push_back(step.epoch);
  records_.lr.push_back(step.lr), records_.loss.push_back(step.loss);
  add_norms(snapshot.update, penalties);
  add_drift(snapshot.statistics.get());
  if (records_.count() >= std::max(kRecordsKept, written_ / kShareKept)) flush();
}

void InternalsRecorder::add_norms(const StepReading& update, std::span<const PenaltySpec> penalties) {
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  const std::vector<ParameterSums> sums = update.sums();
  std::size_t i = 0;
  for (const Parameter& p : spec_.network.parameters().parameters()) {
    const ParameterSums& s = sums[i];
    const bool trains = p.is_trainable && p.has_gradient();
    const bool pulls_to_zero = !penalties.empty() && penalties[i].kind != PenaltyKind::none && !penalties[i].to_anchor;
    const auto add = [&](ParameterNorm which, double squares) {
      records_.norms[std::size_t(which)].push_back(trains ? std::sqrt(squares) : kNaN);
    };
    add(ParameterNorm::gradient, s.gradient_squares);
    add(ParameterNorm::weight, s.weight_squares);
    add(ParameterNorm::update, s.change_squares);
    add(ParameterNorm::anchor_distance, pulls_to_zero ? kNaN : s.distance_squares);
    ++i;
  }
}

void InternalsRecorder::add_drift(HostCopy* statistics) {
  const std::vector<double> now = statistics_of(spec_.network.parameters(), statistics);
  std::size_t at = 0;
  for (const RunningStatistics& s : spec_.network.parameters().statistics()) {
    const auto size = std::size_t(2 * s.channels);
    const NormDrift drift = norm_drift(std::span(now).subspan(at, size), std::span(initial_).subspan(at, size),
                                       spec_.network.info().bn_epsilon);
    records_.mean_drift.push_back(drift.mean), records_.variance_drift.push_back(drift.variance);
    at += size;
  }
}

void InternalsRecorder::flush() {
  append_internals(spec_.path, records_);
  written_ += records_.count();
  records_.clear();
}

}  // namespace graft
