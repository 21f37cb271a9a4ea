#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "data/scored_runs.h"
#include "data/statistics.h"
#include "kernels/core.h"
#include "kernels/philox.h"

namespace graft {
namespace {

/// Variances of the mean score over runs: between seeds, and between runs whatever they differ by.
struct Scatter {
  double seeds = std::numeric_limits<double>::quiet_NaN(), runs = seeds;  // of a single run unknown
};

/// What the scores of a few seeds differ by is partly noise of the cases: the part of the jackknife's influences in
/// which runs differ is taken off. Source: two-way random effects, as in Searle, Casella, McCulloch 1992, 4.
Scatter scatter(const ScoredRuns& runs) {
  const std::size_t count = runs.runs().size(), clusters = runs.clusters().count();
  if (count < 2) return {};
  std::vector<Jackknife> each;
  double mean = 0.0;
  for (std::size_t run = 0; run < count; ++run) {
    each.push_back(runs.jackknife_of(run));
    mean += each.back().estimate / static_cast<double>(count);
  }
  double between = 0.0, noise = 0.0;
  for (const Jackknife& run : each) between += (run.estimate - mean) * (run.estimate - mean);
  for (std::size_t k = 0; k < clusters; ++k) {
    double middle = 0.0;
    for (const Jackknife& run : each) middle += run.influence[k] / static_cast<double>(count);
    for (const Jackknife& run : each) noise += (run.influence[k] - middle) * (run.influence[k] - middle);
  }
  const double divisor = static_cast<double>((count - 1) * count);
  return {std::max(0.0, (between - noise) / divisor), between / divisor};
}

/// A mean score as a sum over clusters, and how it varies between seeds.
struct Contributions {
  double estimate = 0.0;
  std::vector<double> parts;  // (clusters), they sum to the estimate
  Scatter scatter;
  double freedom = 0.0;  // runs - 1
};

Contributions contributions(Score score, std::span<const Cases> cases) {
  const ScoredRuns runs(score, cases);
  check_varies(runs);
  const Jackknife jackknife = runs.jackknife();
  const auto k = static_cast<double>(jackknife.influence.size());
  double mean = 0.0;
  for (const double influence : jackknife.influence) mean += influence / k;
  Contributions result{.estimate = jackknife.estimate};
  // Pseudo-values over k, moved so that they sum to the estimate.
  for (const double influence : jackknife.influence) {
    result.parts.push_back((jackknife.estimate + (k - 1.0) * (influence - mean)) / k);
  }
  result.scatter = scatter(runs);
  result.freedom = static_cast<double>(cases.size() - 1);
  return result;
}

/// Sums of parts with random signs: what the difference of two contenders would be if, cluster by cluster, their names
/// were drawn by lot. Resample r takes the same signs for all.
std::vector<double> signed_sums(std::span<const double> parts, const BootstrapSpec& spec) {
  // Eight signs at a time, from a table of their 256 sums.
  const std::size_t blocks = (parts.size() + 7) / 8;
  std::vector<std::array<double, 256>> tables(blocks);
  for (std::size_t block = 0; block < blocks; ++block) {
    const auto of_block = parts.subspan(8 * block, std::min<std::size_t>(8, parts.size() - 8 * block));
    for (std::size_t signs = 0; signs < 256; ++signs) {
      double sum = 0.0;
      for (std::size_t k = 0; k < of_block.size(); ++k) sum += (signs >> k & 1) != 0 ? of_block[k] : -of_block[k];
      tables[block][signs] = sum;
    }
  }
  std::vector<double> sums(static_cast<std::size_t>(spec.resamples));
  for (std::size_t r = 0; r < sums.size(); ++r) {
    Random random({.seed = spec.seed, .stream = RandomStream::resampling, .epoch = 1, .index = r});
    std::uint32_t bits = 0;
    for (std::size_t block = 0; block < blocks; ++block) {
      bits = block % 4 == 0 ? random.bits() : bits >> 8;
      sums[r] += tables[block][bits & 255U];
    }
  }
  return sums;
}

/// A gamma variate of unit scale; shape > 0. Source: Marsaglia, Tsang 2000, and their way to shapes below 1.
template <class Normal>
double random_gamma(double shape, Random& random, const Normal& normal) {
  if (shape < 1.0) {
    const double boost = std::pow(1.0 - random.uniform(), 1.0 / shape);
    return random_gamma(shape + 1.0, random, normal) * boost;
  }
  const double d = shape - 1.0 / 3.0, c = 1.0 / std::sqrt(9.0 * d);
  for (;;) {
    const double x = normal(), root = 1.0 + c * x, v = root * root * root;
    if (root > 0.0 && std::log(1.0 - random.uniform()) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

/// What the scatter between seeds adds to a difference of means.
struct SeedNoise {
  double error = 0.0;
  double freedom = 0.0;  // of the whole variance, cases' and seeds'; 0: nothing is known of seeds
};

/// Sides may scatter differently (a linear probe hardly does). `cases`: the variance that cases give the difference, by
/// so many clusters. Satterthwaite's approximation of the degrees of freedom of the sum; the variance between seeds is
/// as uncertain as that between runs, of which it is what remains, and the whole has as many degrees as its least
/// certain part at least. A side with one run is taken to scatter as the other's runs do.
SeedNoise seed_noise(const Contributions& a, const Contributions& b, double cases) {
  if (a.freedom == 0.0 && b.freedom == 0.0) return {};
  Scatter of_a = a.scatter, of_b = b.scatter;
  double freedom_a = a.freedom, freedom_b = b.freedom;
  if (a.freedom == 0.0) of_a = {of_b.seeds * (b.freedom + 1.0), of_b.runs * (b.freedom + 1.0)}, freedom_a = b.freedom;
  if (b.freedom == 0.0) of_b = {of_a.seeds * (a.freedom + 1.0), of_a.runs * (a.freedom + 1.0)}, freedom_b = a.freedom;
  const double seeds = of_a.seeds + of_b.seeds, clusters = static_cast<double>(a.parts.size());
  const double uncertainty =
      cases * cases / (clusters - 1.0) + of_a.runs * of_a.runs / freedom_a + of_b.runs * of_b.runs / freedom_b;
  if (!(uncertainty > 0.0)) return {};
  const double least = std::min(freedom_a, freedom_b);
  return {std::sqrt(seeds), std::max(least, (cases + seeds) * (cases + seeds) / uncertainty)};
}

/// Resample r of a sum in which seeds are noise too: normal noise of seeds, and the factor by which Student's t is
/// wider than a normal distribution.
struct SeedDraw {
  double noise = 0.0, factor = 1.0;
};
SeedDraw draw_seeds(const SeedNoise& seeds, const BootstrapSpec& spec, std::size_t r) {
  if (seeds.freedom == 0.0) return {};
  Random random({.seed = spec.seed, .stream = RandomStream::resampling, .epoch = 2, .index = r});
  const auto normal = [&] {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - random.uniform()));
    return radius * std::cos(6.283185307179586 * random.uniform());
  };
  const double noise = seeds.error * normal();
  return {noise, std::sqrt(seeds.freedom / (2.0 * random_gamma(seeds.freedom / 2.0, random, normal)))};
}

struct Contender {
  Contributions of;
  std::vector<double> flipped;  // (resamples)
};

/// The differences delta around d for which |sum - delta * unit| >= |d - delta|: this resample is then as far away.
struct Span {
  double low, high;
};
Span as_far(double d, double sum, double unit) {
  const double first = unit != 1.0 ? (d - sum) / (1.0 - unit) : (d + sum) / 2.0;
  const double second = unit != -1.0 ? (d + sum) / (1.0 + unit) : first;
  const auto [least, most] = std::minmax({first, second});
  if (std::abs(unit) < 1.0) return {least, most};
  return d >= most ? Span{most, HUGE_VAL} : Span{-HUGE_VAL, least};
}

/// p and interval from one set of sums: delta is inside exactly if the test does not reject that the difference is
/// delta.
Comparison compare_contenders(const Contender& a, const Contender& b, std::span<const double> unit_flips,
                              const BootstrapSpec& spec) {
  Comparison result{.difference = a.of.estimate - b.of.estimate};
  if (std::isnan(result.difference)) {
    result.low = result.high = result.p = result.p_holm = result.difference;
    return result;
  }
  const double d = result.difference;
  double cases = 0.0;
  for (std::size_t k = 0; k < a.of.parts.size(); ++k)
    cases += (a.of.parts[k] - b.of.parts[k]) * (a.of.parts[k] - b.of.parts[k]);
  const SeedNoise seeds = seed_noise(a.of, b.of, cases);
  std::vector<double> lows, highs;
  std::int64_t as_large = 0;
  const double rounding = 1e-9 * std::abs(d) + 1e-15;  // sums of the same parts in another order are equal
  for (std::size_t r = 0; r < a.flipped.size(); ++r) {
    const SeedDraw draw = draw_seeds(seeds, spec, r);
    double sum = (a.flipped[r] - b.flipped[r] + draw.noise) * draw.factor;
    if (std::abs(std::abs(sum) - std::abs(d)) <= rounding) sum = std::copysign(d, sum);
    if (std::abs(sum) >= std::abs(d)) ++as_large;
    const Span span = as_far(d, sum, unit_flips[r] * draw.factor);
    lows.push_back(span.low);
    highs.push_back(span.high);
  }
  const auto resamples = static_cast<double>(lows.size());
  result.p = result.p_holm = static_cast<double>(as_large + 1) / (resamples + 1.0);
  std::sort(lows.begin(), lows.end());
  std::sort(highs.begin(), highs.end());
  // Inside while more than (1 - level) * (resamples + 1) - 1 resamples are as far away.
  const auto allowed =
      static_cast<std::size_t>(std::max(0.0, std::floor((1.0 - spec.level) * (resamples + 1.0) - 1.0 + 1e-9)));
  result.low = lows[std::min(allowed, lows.size() - 1)];
  result.high = highs[highs.size() - 1 - std::min(allowed, highs.size() - 1)];
  result.is_distinguishable = result.p < 1.0 - spec.level;
  return result;
}

/// Student's t with few degrees of freedom reaches further than scores do. `most`: see score_range; neither end changes
/// its sign, so interval and p still agree.
Comparison bounded(Comparison comparison, double most) {
  comparison.low = std::max(comparison.low, -most);
  comparison.high = std::min(comparison.high, most);
  return comparison;
}

}  // namespace

std::vector<PairComparison> compare_all(Score score, std::span<const std::vector<Cases>> contenders,
                                        const BootstrapSpec& spec) {
  check_spec(spec);
  std::vector<PairComparison> pairs;
  if (contenders.empty()) return pairs;
  std::vector<Contender> each;
  std::vector<Cases> firsts;
  for (const std::vector<Cases>& runs : contenders) {
    each.push_back({.of = contributions(score, runs), .flipped = {}});
    each.back().flipped = signed_sums(each.back().of.parts, spec);
    firsts.push_back(runs.front());
  }
  const ScoredRuns same(Score::accuracy, firsts);  // checks that contenders have the same cases
  const auto clusters = static_cast<double>(same.clusters().count());
  const std::vector<double> units = signed_sums(std::vector<double>(same.clusters().count(), 1.0 / clusters), spec);
  const double most = score_range(score, same.is_multi_label() ? 2 : firsts.front().classes);
  for (std::size_t a = 0; a < each.size(); ++a) {
    for (std::size_t b = a + 1; b < each.size(); ++b) {
      pairs.push_back({a, b, bounded(compare_contenders(each[a], each[b], units, spec), most)});
    }
  }
  std::vector<Comparison*> together;
  for (PairComparison& pair : pairs) together.push_back(&pair.result);
  correct_together(together, spec.level);
  return pairs;
}

Comparison compare(Score score, std::span<const Cases> a, std::span<const Cases> b, const BootstrapSpec& spec) {
  const std::vector<Cases> contenders[] = {{a.begin(), a.end()}, {b.begin(), b.end()}};
  return compare_all(score, contenders, spec).front().result;
}

VarianceParts variance_parts(Score score, std::span<const Cases> cases) {
  const ScoredRuns runs(score, cases);
  check_varies(runs);
  VarianceParts parts{.seed = scatter(runs).seeds, .cases = runs.jackknife().variance};
  parts.total = parts.seed + parts.cases;
  return parts;
}

}  // namespace graft
