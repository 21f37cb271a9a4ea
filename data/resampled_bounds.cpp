#include "data/resampled_bounds.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "data/decision_scores.h"
#include "data/distributions.h"

namespace graft {
namespace {

/// Where `probability` of sorted values lies below: the expected place of order statistics.
double quantile(std::span<const double> sorted, double probability) {
  const double at = probability * static_cast<double>(sorted.size() + 1) - 1.0;
  if (!(at > 0.0)) return sorted.front();
  const auto below = static_cast<std::size_t>(at);
  if (below + 1 >= sorted.size()) return sorted.back();
  return std::lerp(sorted[below], sorted[below + 1], at - std::floor(at));
}

/// How many standard errors a percentile interval's ends should be off for the t distribution's level: resampled
/// clusters vary less than clusters do, by (k - 1) / k, and their variance is uncertain. Source: Hesterberg 2015.
double widened_z(const ScoredRuns& runs, double level, const Jackknife* known = nullptr) {
  const auto k = static_cast<double>(runs.clusters().count());
  return std::sqrt(k / (k - 1.0)) * student_t_quantile(0.5 + 0.5 * level, runs.degrees_of_freedom(known));
}

}  // namespace

Bounds bca_bounds(const ScoredRuns& runs, const BootstrapSpec& spec) {
  const Jackknife jackknife = runs.jackknife();
  std::vector<double> counts(runs.clusters().count()), weights(runs.cases()), values;
  for (std::int64_t r = 0; r < spec.resamples; ++r) {
    runs.draw(spec.seed, r, counts);
    const double value = runs.score_of(counts, weights);
    if (!std::isnan(value)) values.push_back(value);
  }
  if (values.empty()) return {kUndefinedScore, kUndefinedScore};
  std::sort(values.begin(), values.end());
  const auto [first, last] = std::equal_range(values.begin(), values.end(), jackknife.estimate);
  const auto size = static_cast<double>(values.size());
  const double below = (static_cast<double>(first - values.begin()) + static_cast<double>(last - values.begin())) / 2.0;
  const double bias = normal_quantile(std::clamp(below / size, 1.0 / (size + 1.0), size / (size + 1.0)));
  const double z = widened_z(runs, spec.level, &jackknife);
  const auto bound = [&](double at) {
    const double shifted = bias + at;
    const double scale = 1.0 - jackknife.acceleration * shifted;
    if (!(scale > 0.0)) return shifted < 0.0 ? values.front() : values.back();  // beyond what the formula is for
    return quantile(values, normal_cdf(bias + shifted / scale));
  };
  return {std::min(bound(-z), jackknife.estimate), std::max(bound(z), jackknife.estimate)};
}

Bounds bootstrap_t_bounds(const ScoredRuns& runs, const BootstrapSpec& spec) {
  const double estimate = runs.estimate();
  const std::size_t count = runs.clusters().count();
  std::vector<double> totals(count), sizes(count), counts(count), t_values;
  for (std::size_t i = 0; i < runs.cases(); ++i) {
    const std::uint32_t k = runs.clusters().of_cases()[i];
    for (const WeightedScore& run : runs.runs()) totals[k] += run.values()[i] / static_cast<double>(runs.runs().size());
    ++sizes[k];
  }
  /// Mean and its standard error.
  const auto weighted = [&] {
    double sum = 0.0, n = 0.0, squares = 0.0;
    for (std::size_t k = 0; k < count; ++k) {
      sum += counts[k] * totals[k];
      n += counts[k] * sizes[k];
    }
    for (std::size_t k = 0; k < count; ++k) {
      const double about = totals[k] - sum / n * sizes[k];
      squares += counts[k] * about * about;
    }
    return std::pair{sum / n, std::sqrt(squares) / n};
  };
  std::fill(counts.begin(), counts.end(), 1.0);
  const double error = weighted().second;
  for (std::int64_t r = 0; r < spec.resamples; ++r) {
    runs.draw(spec.seed, r, counts);
    const auto [mean, standard_error] = weighted();
    if (standard_error > 0.0) t_values.push_back((mean - estimate) / standard_error);
  }
  if (t_values.empty()) return {estimate, estimate};
  std::sort(t_values.begin(), t_values.end());
  const double tail = 0.5 - 0.5 * spec.level;
  return {std::max(0.0, estimate - error * quantile(t_values, 1.0 - tail)),
          estimate - error * quantile(t_values, tail)};
}

Bounds calibration_error_bounds(const ScoredRuns& runs, const BootstrapSpec& spec) {
  const double estimate = runs.estimate();
  constexpr auto kBins = static_cast<std::size_t>(kCalibrationBins);
  using Shares = std::array<double, kBins>;
  const std::size_t count = runs.clusters().count(), run_count = runs.runs().size();
  std::vector<std::vector<Shares>> of_clusters(run_count, std::vector<Shares>(count, Shares{}));
  std::vector<double> sizes(count), counts(count, 1.0);
  for (std::size_t i = 0; i < runs.cases(); ++i) {
    const std::uint32_t k = runs.clusters().of_cases()[i];
    ++sizes[k];
    for (std::size_t run = 0; run < run_count; ++run) {
      const WeightedScore& scored = runs.runs()[run];
      const std::size_t answers = scored.answers();
      for (std::size_t at = i * answers; at < (i + 1) * answers; ++at)
        of_clusters[run][k][scored.bins()[at]] += scored.values()[at];
    }
  }
  const auto shares = [&] {
    std::vector<Shares> result(run_count, Shares{});
    double n = 0.0;
    for (std::size_t k = 0; k < count; ++k) {
      if (counts[k] == 0.0) continue;
      n += counts[k] * sizes[k];
      for (std::size_t run = 0; run < run_count; ++run) {
        for (std::size_t b = 0; b < kBins; ++b) result[run][b] += counts[k] * of_clusters[run][k][b];
      }
    }
    for (Shares& each : result) {
      for (double& share : each) share /= n;
    }
    return result;
  };
  const std::vector<Shares> observed = shares();
  std::vector<std::vector<Shares>> noise;
  for (std::int64_t r = 0; r < spec.resamples; ++r) {
    runs.draw(spec.seed, r, counts);
    noise.push_back(shares());
    for (std::size_t run = 0; run < run_count; ++run) {
      for (std::size_t b = 0; b < kBins; ++b) noise.back()[run][b] -= observed[run][b];
    }
  }
  /// How often the estimate would be below the one observed.
  const auto below = [&](double scale) {
    std::int64_t hits = 0;
    for (const auto& each : noise) {
      double sum = 0.0;
      for (std::size_t run = 0; run < run_count; ++run) {
        for (std::size_t b = 0; b < kBins; ++b) sum += std::abs(scale * observed[run][b] + each[run][b]);
      }
      if (sum / static_cast<double>(run_count) < estimate) ++hits;
    }
    return static_cast<double>(hits) / static_cast<double>(noise.size());
  };
  const auto scale_where = [&](double target) {
    if (below(0.0) <= target) return 0.0;
    double low = 0.0, high = 1.0;
    while (below(high) > target && high < 1e6) high *= 2.0;
    for (int step = 0; step < 20; ++step) {
      const double middle = 0.5 * (low + high);
      (below(middle) > target ? low : high) = middle;
    }
    return 0.5 * (low + high);
  };
  const double tail = normal_cdf(-widened_z(runs, spec.level));
  return {scale_where(1.0 - tail) * estimate, std::min(1.0, scale_where(tail) * estimate)};
}

}  // namespace graft
