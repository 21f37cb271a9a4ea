// How far scores can be trusted: intervals over test cases, comparisons of contenders on the same cases, and ranks over
// several data sets. docs/statistics.md says which method serves which score, and how often each holds in simulation.
// Everything is a function of its arguments and the seed; threads change nothing. The scores themselves: metrics.h.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "data/metrics.h"

namespace graft {

enum class Score {
  accuracy,
  macro_accuracy,
  macro_f1,
  weighted_f1,
  kappa,
  auc,
  average_precision,
  sensitivity,
  specificity,
  brier,
  calibration_error,
  log_loss
};

constexpr Score kScores[] = {Score::accuracy,
                             Score::macro_accuracy,
                             Score::macro_f1,
                             Score::weighted_f1,
                             Score::kappa,
                             Score::auc,
                             Score::average_precision,
                             Score::sensitivity,
                             Score::specificity,
                             Score::brier,
                             Score::calibration_error,
                             Score::log_loss};

/// As in summary.json and study files: "macro_f1". The log loss is "log_loss" here, "loss" in summary.json.
std::string_view name(Score score);
std::optional<Score> score_named(std::string_view name);
bool higher_is_better(Score score);
/// From the lowest to the highest value that the score can have: how large a difference of two can be at most. Infinite
/// for the log loss.
double score_range(Score score, std::int64_t classes);

/// What a model answered on test cases. The spans must outlive it.
struct Cases {
  std::span<const double> probabilities;   // (n, classes), row by row
  std::span<const std::int32_t> labels;    // (n)
  std::span<const std::int64_t> clusters;  // (n), any numbers, one per patient, say; empty: each case is its own
  std::int64_t classes = 0;
  const LabelSets* label_sets = nullptr;  // what the labels stand for; null: classes
  bool is_multi_label() const { return sets().is_multi_label(); }
  const LabelSets& sets() const {
    static const LabelSets kClasses;
    return label_sets ? *label_sets : kClasses;
  }
};

/// As compute_metrics gives it; NaN where undefined. Errors: as compute_metrics.
double score(Score score, const Cases& cases);
double score(Score score, const Metrics& metrics);

/// Where the score in the population lies: cases like these, and these trained models.
struct Interval {
  double estimate = 0.0;  // score() of the cases, or the mean over runs; NaN where undefined, and then low, high too
  double low = 0.0,
         high = 0.0;        // calibration_error is biased upwards; its interval is not, and may lie below the estimate
  std::string_view method;  // "Wilson", "BCa", …: the words of docs/statistics.md
  std::int64_t smallest_class = 0;  // cases of the rarest class that occurs; of several labels also those without one
  /// A class that occurs has fewer than 10 cases (with clusters: is in fewer than 10 clusters), or of several labels
  /// fewer lack it, so the interval may hold less often than it says.
  bool is_doubtful = false;
};

struct BootstrapSpec {
  std::int64_t resamples = 2000;
  double level = 0.95;
  std::uint64_t seed = 0;
};

/// Errors: sizes that do not match, fewer than two clusters, level outside 0..1, fewer than 100 resamples.
Interval interval(Score score, const Cases& cases, const BootstrapSpec& spec);

/// Of the mean over runs (seeds) on the same cases; cases, with their clusters, are resampled for all runs together.
/// The spread between seeds is not in it: see variance_parts. Errors: also runs on different cases.
Interval mean_interval(Score score, std::span<const Cases> runs, const BootstrapSpec& spec);

/// Of the recall of one class, mean over runs; of several labels per case that of those which have it. Errors: also a
/// class outside the classes.
Interval recall_interval(std::int64_t class_index, std::span<const Cases> runs, const BootstrapSpec& spec);

/// Wilson's interval of a proportion; successes and trials may be fractional (an effective number of cases).
/// Source: Wilson 1927.
Interval wilson_interval(double successes, double trials, double level);

/// a's score minus b's.
struct Comparison {
  double difference = 0.0, low = 0.0, high = 0.0;
  double p = 1.0;                   // two-sided, of this comparison alone
  double p_holm = 1.0;              // corrected for the comparisons made together; of a single one, p
  bool is_distinguishable = false;  // p_holm < 1 - level
};

/// Paired, on the same cases, of means over seeds. p by lots over clusters: how often random signs of each cluster's
/// contributions give as large a difference; of accuracy on single cases McNemar's exact test. The interval holds what
/// the same test does not reject. The scatter of seeds counts where a side has two runs or more; with one a side the
/// result is of these two trained models. The interval stays within what a difference of two such scores can be
/// (score_range). Errors: as interval; also cases that differ between a and b. Sources:
/// Hemerik, Goeman, Finos 2020 (signs of contributions); docs/statistics.md.
Comparison compare(Score score, std::span<const Cases> a, std::span<const Cases> b, const BootstrapSpec& spec);

struct PairComparison {
  std::size_t a = 0, b = 0;  // indices of contenders
  Comparison result;
};

/// Every pair a < b of contenders (each a list of runs) on the same cases, in order (0,1), (0,2), …, corrected together
/// by Holm's method. Much faster than compare for each.
std::vector<PairComparison> compare_all(Score score, std::span<const std::vector<Cases>> contenders,
                                        const BootstrapSpec& spec);

/// Holm's step-down correction: p values, corrected, in the order given. A NaN stays one and does not count.
/// Source: Holm 1979.
std::vector<double> holm(std::span<const double> p);

/// Corrects comparisons that are reported together, for example those of several data sets: sets p_holm and
/// is_distinguishable of each from its p.
void correct_together(std::span<Comparison* const> comparisons, double level);

/// Variances of a mean over seeds (squared units of the score): how much another draw of as many seeds, or of as many
/// cases, would move it.
struct VarianceParts {
  double seed = 0.0;   // NaN with one run, and then total is
  double cases = 0.0;  // of the mean over these seeds
  double total = 0.0;  // seed + cases
};

VarianceParts variance_parts(Score score, std::span<const Cases> runs);

/// Ranks of contenders over data sets.
struct RankTest {
  double statistic = 0.0;  // Iman and Davenport's F, from Friedman's chi-squared with ties
  double p = 1.0;  // of "all contenders are alike": all orders of ranks counted if they are at most 1e5, else by F
  double critical_difference = 0.0;  // Nemenyi: mean ranks further apart than this differ, at `level`
  std::vector<double> mean_ranks;    // 1 is best; ties share the average rank
};

/// Each data set ranks the contenders; level as in 0.95. Errors: fewer than two data sets or contenders, rows of
/// different lengths, a score that is not finite. Sources: Friedman 1937, Iman and Davenport 1980, Demsar 2006.
RankTest friedman_nemenyi(const std::vector<std::vector<double>>& scores /*[dataset][contender]*/,
                          bool higher_is_better, double level);

}  // namespace graft
