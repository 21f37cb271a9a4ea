#include "data/statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numbers>
#include <numeric>
#include <optional>

#include "data/distributions.h"
#include "kernels/core.h"

namespace graft {
namespace {

struct ScoreName {
  Score score;
  std::string_view name;
};

constexpr ScoreName kNames[] = {{Score::accuracy, "accuracy"},
                                {Score::macro_accuracy, "macro_accuracy"},
                                {Score::macro_f1, "macro_f1"},
                                {Score::weighted_f1, "weighted_f1"},
                                {Score::kappa, "kappa"},
                                {Score::auc, "auc"},
                                {Score::average_precision, "average_precision"},
                                {Score::sensitivity, "sensitivity"},
                                {Score::specificity, "specificity"},
                                {Score::brier, "brier"},
                                {Score::calibration_error, "calibration_error"},
                                {Score::log_loss, "log_loss"}};
static_assert(std::size(kNames) == std::size(kScores));

}  // namespace

std::string_view name(Score score) { return std::ranges::find(kNames, score, &ScoreName::score)->name; }

std::optional<Score> score_named(std::string_view name) {
  const auto found = std::ranges::find(kNames, name, &ScoreName::name);
  if (found == std::end(kNames)) return std::nullopt;
  return found->score;
}

bool higher_is_better(Score score) {
  return score != Score::brier && score != Score::calibration_error && score != Score::log_loss;
}

double score_range(Score score, std::int64_t classes) {
  switch (score) {
    case Score::kappa:  // -1 to 1
      return 2.0;
    case Score::brier:  // of two classes the square of one probability's error, of more the sum over classes
      return classes > 2 ? 2.0 : 1.0;
    case Score::log_loss:
      return std::numeric_limits<double>::infinity();
    default:
      return 1.0;
  }
}

double score(Score score, const Metrics& m) {
  switch (score) {
    case Score::accuracy:
      return m.accuracy;
    case Score::macro_accuracy:
      return m.macro_accuracy;
    case Score::macro_f1:
      return m.macro_f1;
    case Score::weighted_f1:
      return m.weighted_f1;
    case Score::kappa:
      return m.kappa;
    case Score::auc:
      return m.auc;
    case Score::average_precision:
      return m.average_precision;
    case Score::sensitivity:
      return m.sensitivity;
    case Score::specificity:
      return m.specificity;
    case Score::brier:
      return m.brier;
    case Score::calibration_error:
      return m.calibration_error;
    case Score::log_loss:
      return m.loss;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

double score(Score which, const Cases& cases) {
  return score(which, compute_metrics(cases.probabilities, cases.labels, cases.classes, cases.sets()));
}

std::vector<double> holm(std::span<const double> p) {
  std::vector<double> corrected(p.begin(), p.end());
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (!std::isnan(p[i])) order.push_back(i);
  }
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p[a] < p[b]; });
  double largest = 0.0;
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    largest = std::max(largest, std::min(1.0, p[order[rank]] * static_cast<double>(order.size() - rank)));
    corrected[order[rank]] = largest;
  }
  return corrected;
}

namespace {

/// Ranks of one data set, 1 is best; equal scores share the mean of their ranks. Scores that differ by rounding alone
/// are equal: means of the same scores in another order of seeds.
std::vector<double> ranks(std::span<const double> scores, bool higher_is_better) {
  constexpr double kRounding = 1e-12;
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return higher_is_better ? scores[a] > scores[b] : scores[a] < scores[b];
  });
  std::vector<double> result(scores.size());
  for (std::size_t begin = 0, end = 0; begin < order.size(); begin = end) {
    while (end < order.size() && std::abs(scores[order[end]] - scores[order[begin]]) <= kRounding) ++end;
    for (std::size_t i = begin; i < end; ++i) result[order[i]] = 0.5 * static_cast<double>(begin + end + 1);
  }
  return result;
}

/// Orders of a row of ranks that differ; equal ranks are one.
double arrangements(std::vector<double> row) {
  std::sort(row.begin(), row.end());
  double count = 1.0, equal = 0.0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    equal = i > 0 && row[i] == row[i - 1] ? equal + 1.0 : 1.0;
    count *= static_cast<double>(i + 1) / equal;
  }
  return count;
}

/// Of all ways to order every row, the share whose sums of ranks lie as far apart; rows from `row` on are free.
void count_orders(std::vector<std::vector<double>>& rows, std::size_t row, std::vector<double>& sums, double observed,
                  std::int64_t& as_far, std::int64_t& all) {
  if (row == rows.size()) {
    double squares = 0.0;
    for (const double sum : sums) squares += sum * sum;
    ++all;
    as_far += squares >= observed * (1.0 - 1e-12);
    return;
  }
  std::vector<double> order = rows[row];
  std::sort(order.begin(), order.end());
  do {
    for (std::size_t c = 0; c < order.size(); ++c) sums[c] += order[c];
    count_orders(rows, row + 1, sums, observed, as_far, all);
    for (std::size_t c = 0; c < order.size(); ++c) sums[c] -= order[c];
  } while (std::next_permutation(order.begin(), order.end()));
}

/// Friedman's test by counting every order of ranks within data sets, where they are few; that is also where the F
/// distribution is far off. The first row may stay as it is: only relative orders matter.
std::optional<double> exact_rank_p(std::vector<std::vector<double>> rows) {
  constexpr double kMost = 1e5;
  double orders = 1.0;
  for (std::size_t i = 1; i < rows.size(); ++i) orders *= arrangements(rows[i]);
  if (orders > kMost) return std::nullopt;
  std::vector<double> sums(rows.front().size());
  double observed = 0.0;
  for (std::size_t c = 0; c < sums.size(); ++c) {
    double sum = 0.0;
    for (const std::vector<double>& row : rows) sum += row[c];
    observed += sum * sum;
  }
  sums = rows.front();
  std::int64_t as_far = 0, all = 0;
  count_orders(rows, 1, sums, observed, as_far, all);
  return static_cast<double>(as_far) / static_cast<double>(all);
}

}  // namespace

RankTest friedman_nemenyi(const std::vector<std::vector<double>>& scores, bool higher_is_better, double level) {
  const std::size_t datasets = scores.size(), contenders = scores.empty() ? 0 : scores.front().size();
  if (datasets < 2 || contenders < 2) {
    throw Error(
        fmt::format("ranks: expected at least two data sets and two contenders, got {} and {}", datasets, contenders));
  }
  if (!(level > 0.0 && level < 1.0)) throw Error(fmt::format("ranks: level is between 0 and 1, got {}", level));
  const auto n = static_cast<double>(datasets), k = static_cast<double>(contenders);
  RankTest test;
  test.mean_ranks.resize(contenders);
  std::vector<std::vector<double>> all_ranks;
  double squares = 0.0;
  for (const std::vector<double>& row : scores) {
    if (row.size() != contenders || !std::ranges::all_of(row, [](double value) { return std::isfinite(value); })) {
      throw Error("ranks: every data set needs a finite score of every contender");
    }
    const std::vector<double>& of_row = all_ranks.emplace_back(ranks(row, higher_is_better));
    for (std::size_t c = 0; c < contenders; ++c) {
      test.mean_ranks[c] += of_row[c] / n;
      squares += of_row[c] * of_row[c];
    }
  }
  double between = 0.0;
  for (const double rank : test.mean_ranks) between += n * n * (rank - 0.5 * (k + 1.0)) * (rank - 0.5 * (k + 1.0));
  const double spread = squares - n * k * (k + 1.0) * (k + 1.0) / 4.0;  // 0 if all is tied
  const double chi_squared = spread > 0.0 ? (k - 1.0) * between / spread : 0.0;
  const double left = n * (k - 1.0) - chi_squared;  // 0 if all data sets agree on every rank
  test.statistic = left > 1e-9 * n ? (n - 1.0) * chi_squared / left : std::numeric_limits<double>::infinity();
  if (const std::optional<double> exact = exact_rank_p(all_ranks)) {
    test.p = *exact;
  } else {
    test.p = std::isinf(test.statistic) ? 0.0 : f_tail(test.statistic, k - 1.0, (k - 1.0) * (n - 1.0));
  }
  test.critical_difference = normal_range_quantile(1.0 - level, static_cast<std::int64_t>(contenders)) /
                             std::numbers::sqrt2 * std::sqrt(k * (k + 1.0) / (6.0 * n));
  return test;
}

void correct_together(std::span<Comparison* const> comparisons, double level) {
  std::vector<double> p;
  for (const Comparison* comparison : comparisons) p.push_back(comparison->p);
  const std::vector<double> corrected = holm(p);
  for (std::size_t i = 0; i < comparisons.size(); ++i) {
    comparisons[i]->p_holm = corrected[i];
    comparisons[i]->is_distinguishable = corrected[i] < 1.0 - level;
  }
}

}  // namespace graft
