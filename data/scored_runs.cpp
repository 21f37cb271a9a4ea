#include "data/scored_runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_map>

#include "kernels/core.h"
#include "kernels/philox.h"

namespace graft {
namespace {

/// The first run, after what must hold of all was checked.
const Cases& checked(std::span<const Cases> runs) {
  if (runs.empty()) throw Error("statistics: no runs");
  for (const Cases& run : runs) {
    const Cases& first = runs.front();
    check_cases(run.probabilities, run.labels, run.classes, run.sets());
    if (!run.clusters.empty() && run.clusters.size() != run.labels.size()) {
      throw Error(fmt::format("statistics: {} clusters for {} cases; give one number per case, or none",
                              run.clusters.size(), run.labels.size()));
    }
    if (run.classes != first.classes || !std::ranges::equal(run.labels, first.labels) ||
        !std::ranges::equal(run.clusters, first.clusters) || !(run.sets() == first.sets())) {
      throw Error("statistics: runs on different cases; what is averaged or compared needs the same test split");
    }
  }
  return runs.front();
}

/// Where a case counts: its class, or of several labels every class, either with those that have it or behind them.
std::vector<std::size_t> classes_of_case(const Cases& cases, std::size_t i) {
  if (!cases.is_multi_label()) return {static_cast<std::size_t>(cases.labels[i])};
  std::vector<std::size_t> found;
  for (std::int64_t c = 0; c < cases.classes; ++c)
    found.push_back(static_cast<std::size_t>(cases.sets().has(cases.labels[i], c) ? c : cases.classes + c));
  return found;
}

/// One less than the number of normal influences that would have the same fourth moment; `otherwise` without any.
double normal_freedom(const Jackknife& jackknife, double otherwise) {
  double squares = 0.0, fourth = 0.0;
  for (const double influence : jackknife.influence) {
    squares += influence * influence;
    fourth += influence * influence * influence * influence;
  }
  return fourth > 0.0 ? 3.0 * squares * squares / fourth - 1.0 : otherwise;
}

std::vector<WeightedScore> weighted_scores(Score score, std::span<const Cases> runs) {
  std::vector<WeightedScore> scores;
  for (const Cases& run : runs) scores.emplace_back(score, run);
  return scores;
}

}  // namespace

void check_spec(const BootstrapSpec& spec) {
  if (!(spec.level > 0.0 && spec.level < 1.0)) {
    throw Error(fmt::format("statistics: level is between 0 and 1, such as 0.95; got {}", spec.level));
  }
  constexpr std::int64_t kFewest = 100;
  if (spec.resamples < kFewest) {
    throw Error(fmt::format("statistics: expected at least {} resamples, got {}", kFewest, spec.resamples));
  }
}

void check_varies(const ScoredRuns& runs) {
  if (runs.clusters().count() >= 2) return;
  throw Error(fmt::format("statistics: {} case(s) in one cluster; nothing is known of how scores vary", runs.cases()));
}

Clusters::Clusters(const Cases& cases)
    : class_count_(static_cast<std::size_t>(cases.classes) * (cases.is_multi_label() ? 2 : 1)),
      effective_count_(class_count_.size()) {
  std::unordered_map<std::int64_t, std::uint32_t> numbers;
  for (std::size_t i = 0; i < cases.labels.size(); ++i) {
    const std::int64_t name = cases.clusters.empty() ? static_cast<std::int64_t>(i) : cases.clusters[i];
    of_cases_.push_back(numbers.try_emplace(name, static_cast<std::uint32_t>(numbers.size())).first->second);
  }
  count_ = numbers.size();
  are_cases_ = count_ == cases.labels.size();
  std::vector<std::map<std::uint32_t, double>> sizes(effective_count_.size());
  std::vector<double> whole(count_);
  for (std::size_t i = 0; i < cases.labels.size(); ++i) {
    ++whole[of_cases_[i]];
    for (const std::size_t c : classes_of_case(cases, i)) ++sizes[c][of_cases_[i]];
  }
  double squares_of_all = 0.0;
  for (const double size : whole) squares_of_all += size * size;
  effective_count_of_all_ = static_cast<double>(cases.labels.size() * cases.labels.size()) / squares_of_all;
  const auto classes = static_cast<std::size_t>(cases.classes);
  for (std::size_t c = 0; c < sizes.size(); ++c) {
    double sum = 0.0, squares = 0.0;
    for (const auto& [cluster, size] : sizes[c]) {
      sum += size;
      squares += size * size;
    }
    if (sum == 0.0) continue;
    class_count_[c] = sum;
    effective_count_[c] = sum * sum / squares;
    const auto clusters = static_cast<std::int64_t>(sizes[c].size());
    const auto n = static_cast<std::int64_t>(sum);
    smallest_clusters_ = smallest_clusters_ == 0 ? clusters : std::min(smallest_clusters_, clusters);
    std::int64_t& smallest = c < classes ? smallest_present_ : smallest_absent_;
    smallest = smallest == 0 ? clusters : std::min(smallest, clusters);
    smallest_cases_ = smallest_cases_ == 0 ? n : std::min(smallest_cases_, n);
  }
}

ScoredRuns::ScoredRuns(Score score, std::span<const Cases> runs)
    : labels_(checked(runs).labels.begin(), checked(runs).labels.end()),
      clusters_(runs.front()),
      runs_(weighted_scores(score, runs)) {}

double ScoredRuns::mean_score(std::span<const double> weights) const {
  double sum = 0.0;
  for (const WeightedScore& run : runs_) sum += run(weights);
  return sum / static_cast<double>(runs_.size());
}

double ScoredRuns::estimate() const { return mean_score(std::vector<double>(cases(), 1.0)); }

template <typename Evaluate>
Jackknife ScoredRuns::leave_out(const Evaluate& evaluate) const {
  const std::size_t count = clusters_.count();
  std::vector<std::vector<std::uint32_t>> members(count);
  for (std::size_t i = 0; i < cases(); ++i) members[clusters_.of_cases()[i]].push_back(static_cast<std::uint32_t>(i));
  std::vector<double> weights(cases(), 1.0);
  Jackknife result{.estimate = evaluate(weights)};
  double mean = 0.0;
  for (const auto& cluster : members) {
    for (const std::uint32_t i : cluster) weights[i] = 0.0;
    const double influence = result.estimate - evaluate(weights);
    for (const std::uint32_t i : cluster) weights[i] = 1.0;
    result.influence.push_back(std::isnan(influence) ? 0.0 : influence);
    mean += result.influence.back() / static_cast<double>(count);
  }
  double squares = 0.0, cubes = 0.0;
  for (const double influence : result.influence) {
    const double about = influence - mean;
    squares += about * about;
    cubes += about * about * about;
  }
  result.variance = squares * static_cast<double>(count - 1) / static_cast<double>(count);
  if (squares > 0.0) result.acceleration = cubes / (6.0 * std::pow(squares, 1.5));
  return result;
}

Jackknife ScoredRuns::jackknife() const {
  return leave_out([&](std::span<const double> weights) { return mean_score(weights); });
}

Jackknife ScoredRuns::jackknife_of(std::size_t run) const {
  return leave_out([&](std::span<const double> weights) { return runs_[run](weights); });
}

double ScoredRuns::degrees_of_freedom(const Jackknife* known) const {
  const double most = std::max(1.0, static_cast<double>(clusters_.count()) - 1.0);
  if (is_multi_label()) {
    const double freedom = std::max(1.0, clusters_.effective_count() - 1.0);
    return std::clamp(std::min(freedom, normal_freedom(known ? *known : jackknife(), freedom)), 1.0, most);
  }
  std::vector<double> weights(cases(), 1.0), share(classes());
  const double whole = mean_score(weights);
  double sum = 0.0;
  for (std::size_t i = 0; i < cases(); ++i) {
    weights[i] = 0.0;
    const double influence = mean_score(weights) - whole;
    weights[i] = 1.0;
    if (std::isnan(influence)) continue;
    share[static_cast<std::size_t>(labels_[i])] += influence * influence;
    sum += influence * influence;
  }
  if (sum == 0.0) return most;
  double inverse = 0.0;
  for (std::size_t c = 0; c < share.size(); ++c) {
    const double part = share[c] / sum;
    if (part > 0.0) inverse += part * part / std::max(1.0, clusters_.effective_count_of_classes()[c] - 1.0);
  }
  double freedom = 1.0 / inverse;
  if (runs_.front().score() == Score::auc || runs_.front().score() == Score::average_precision)
    freedom = std::min(freedom, normal_freedom(known ? *known : jackknife(), freedom));
  return std::clamp(freedom, 1.0, most);
}

void ScoredRuns::draw(std::uint64_t seed, std::int64_t resample, std::span<double> counts) const {
  Random random({.seed = seed, .stream = RandomStream::resampling, .index = static_cast<std::uint64_t>(resample)});
  std::fill(counts.begin(), counts.end(), 0.0);
  const std::uint64_t count = counts.size();
  // The high half of bits * count: uniform to count / 2^32.
  for (std::size_t k = 0; k < counts.size(); ++k) ++counts[(std::uint64_t{random.bits()} * count) >> 32];
}

double ScoredRuns::score_of(std::span<const double> counts, std::span<double> case_weights) const {
  for (std::size_t i = 0; i < case_weights.size(); ++i) case_weights[i] = counts[clusters_.of_cases()[i]];
  return mean_score(case_weights);
}

}  // namespace graft
