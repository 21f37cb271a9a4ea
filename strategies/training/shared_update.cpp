#include "strategies/training/shared_update.h"

#include <cmath>

namespace graft {
namespace {

/// Calls `f(statistics)` for those that training moves.
template <typename F>
void for_each_moving(ParameterSet& parameters, const F& f) {
  for (RunningStatistics& s : parameters.statistics())
    if (s.update_running) f(s);
}

std::vector<double> moving_statistics(ParameterSet& parameters) {
  std::vector<double> all;
  for_each_moving(parameters, [&](const RunningStatistics& s) {
    const std::vector<double> values = s.value.to_host();
    all.insert(all.end(), values.begin(), values.end());
  });
  return all;
}

}  // namespace

void SharedUpdate::begin() {
  if (ranks_.count() == 1) return;
  for (const RunningStatistics& s : parameters_.statistics())
    if (s.batch_share < 1)
      throw UsageError(
          "stoch-norm: it normalises by running statistics, which one batch of an update moves for the next; several "
          "processes cannot share an update's batches, start one");
  statistics_ = moving_statistics(parameters_);
}

void SharedUpdate::take_first_ranks_gradients() {
  if (ranks_.count() > 1) combine_gradients(ranks_.is_first());
}

void SharedUpdate::combine(const DealtBatches& batches) {
  if (ranks_.count() == 1) return;
  combine_gradients(batches.own > 0);
  combine_statistics(batches);
}

void SharedUpdate::combine_gradients(bool has_own) {
  if (!has_own) parameters_.zero_gradients();
  const View gradients = parameters_.gradients().view();
  const auto size = std::size_t(parameters_.gradients().shape().size());
  switch (gradients.dtype) {
    case DType::f32:
      return ranks_.sum(std::span(gradients.as<float>(), size));
    case DType::f64:
      return ranks_.sum(std::span(gradients.as<double>(), size));
    default:
      throw Error("training: several processes cannot add up gradients of this type");
  }
}

void SharedUpdate::combine_statistics(const DealtBatches& batches) {
  std::vector<double> moved = moving_statistics(parameters_);
  std::size_t i = 0;
  // What `count` batches leave of values before them.
  const auto left = [](const RunningStatistics& s, std::int64_t count) {
    return std::pow(1 - s.momentum, double(count));
  };
  for_each_moving(parameters_, [&](const RunningStatistics& s) {
    const double kept = left(s, batches.own), weight = left(s, batches.behind);
    for (std::int64_t k = 0; k < 2 * s.channels; ++k, ++i) moved[i] = weight * (moved[i] - kept * statistics_[i]);
  });
  ranks_.sum(moved);
  i = 0;
  for_each_moving(parameters_, [&](RunningStatistics& s) {
    const double kept = left(s, batches.all());
    std::vector<double> values;
    for (std::int64_t k = 0; k < 2 * s.channels; ++k, ++i) values.push_back(kept * statistics_[i] + moved[i]);
    s.value.from_host(values);
    ++s.version;
  });
}

}  // namespace graft
