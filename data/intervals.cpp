#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "data/decision_scores.h"
#include "data/distributions.h"
#include "data/resampled_bounds.h"
#include "data/scored_runs.h"
#include "data/statistics.h"
#include "kernels/core.h"

namespace graft {
namespace {

constexpr std::int64_t kFewCases = 10;
constexpr Interval kUndefinedInterval{.estimate = kUndefinedScore,
                                      .low = kUndefinedScore,
                                      .high = kUndefinedScore,
                                      .method = "undefined",
                                      .is_doubtful = true};

double upper_z(double level) { return normal_quantile(0.5 + 0.5 * level); }

double upper_t(const ScoredRuns& runs, double level) {
  return student_t_quantile(0.5 + 0.5 * level, runs.degrees_of_freedom());
}

/// Wilson's bounds with z of one's choice; proportion in 0..1.
Bounds wilson_bounds(double proportion, double trials, double z) {
  const double shrink = 1.0 + z * z / trials;
  const double middle = (proportion + z * z / (2.0 * trials)) / shrink;
  const double half =
      z / shrink * std::sqrt(proportion * (1.0 - proportion) / trials + z * z / (4.0 * trials * trials));
  // At the ends exactly, in spite of rounding.
  return {proportion == 0.0 ? 0.0 : std::max(0.0, middle - half),
          proportion == 1.0 ? 1.0 : std::min(1.0, middle + half)};
}

/// Of a mean of recalls (or of one proportion, accuracy): what a binomial of as many cases as give the jackknife's
/// variance allows. For that variance one case, half of it right and half wrong, is added, an equal share to each
/// class: a small class without a wrong case would seem to have none. Sources: Korn and Graubard 1998 (effective
/// number, degrees of freedom); Brown, Cai, DasGupta 2001 (half a case).
Bounds effective_wilson(const ScoredRuns& runs, double estimate, double level) {
  const std::size_t classes = runs.classes(), run_count = runs.runs().size();
  const bool is_accuracy = runs.runs().front().score() == Score::accuracy;
  std::vector<double> right(is_accuracy ? 1 : classes), n(right.size());
  double together = 1.0;  // cases per cluster
  for (const WeightedScore& run : runs.runs()) {
    for (const std::uint32_t cell : run.cells()) {
      const std::size_t label = cell / classes, part = is_accuracy ? 0 : label;
      n[part] += 1.0 / static_cast<double>(run_count);
      if (label == cell % classes) right[part] += 1.0 / static_cast<double>(run_count);
    }
  }
  const double added = 0.5 / static_cast<double>(n.size());
  double parts = 0.0, mean = 0.0, plain = 0.0, smoothed = 0.0;
  for (std::size_t c = 0; c < n.size(); ++c) {
    if (n[c] == 0.0) continue;
    const double p = right[c] / n[c], q = (right[c] + added) / (n[c] + 2.0 * added);
    parts += 1.0;
    mean += q;
    plain += p * (1.0 - p) / n[c];
    smoothed += q * (1.0 - q) / n[c];
  }
  mean /= parts;
  smoothed /= parts * parts;
  plain /= parts * parts;
  // Without a wrong case nothing is known of how cases of a cluster agree: they are taken to agree fully.
  const double jackknife = runs.jackknife().variance;
  for (std::size_t c = 0; c < classes; ++c) {
    const double clusters = runs.clusters().effective_count_of_classes()[c];
    if (clusters > 0.0) together = std::max(together, runs.clusters().count_of_classes()[c] / clusters);
  }
  const double variance = plain > 0.0 && jackknife > 0.0 ? jackknife * smoothed / plain : smoothed * together;
  const double z = upper_z(level);
  const double t = runs.clusters().are_cases() ? z : upper_t(runs, level);
  return wilson_bounds(estimate, mean * (1.0 - mean) / variance * (z * z) / (t * t), z);
}

/// The same without more ado, of a score in 0..1 whose variance is not 0.
Bounds effective_wilson_of_variance(const ScoredRuns& runs, const Jackknife& jackknife, double level) {
  const double z = upper_z(level), t = upper_t(runs, level), p = jackknife.estimate;
  return wilson_bounds(p, p * (1.0 - p) / jackknife.variance * (z * z) / (t * t), z);
}

/// Student's t on the scale of log(p / (1 - p)), with the jackknife's variance, of a score inside 0..1.
Bounds logit_t(const ScoredRuns& runs, const Jackknife& jackknife, double level) {
  const double p = jackknife.estimate, odds = p / (1.0 - p);
  const double factor = std::exp(upper_t(runs, level) * std::sqrt(jackknife.variance) / (p * (1.0 - p)));
  return {odds / factor / (1.0 + odds / factor), 1.0 - 1.0 / (1.0 + odds * factor)};
}

bool is_mean_of_recalls(Score score, std::size_t classes) {
  return score == Score::accuracy || score == Score::macro_accuracy || (score == Score::sensitivity && classes != 2);
}

/// The cases of one class.
struct ClassCases {
  std::vector<double> probabilities;
  std::vector<std::int32_t> labels;
  std::vector<std::int64_t> clusters;
};

ClassCases cases_of_class(const Cases& cases, std::int64_t class_index) {
  ClassCases chosen;
  const auto width = static_cast<std::size_t>(cases.classes);
  for (std::size_t i = 0; i < cases.labels.size(); ++i) {
    if (cases.labels[i] != class_index) continue;
    const auto row = cases.probabilities.subspan(i * width, width);
    chosen.probabilities.insert(chosen.probabilities.end(), row.begin(), row.end());
    chosen.labels.push_back(cases.labels[i]);
    if (!cases.clusters.empty()) chosen.clusters.push_back(cases.clusters[i]);
  }
  return chosen;
}

Interval interval_of(const ScoredRuns& runs) {
  return {.estimate = runs.estimate(),
          .smallest_class = runs.clusters().smallest_class_cases(),
          .is_doubtful = runs.clusters().smallest_class_clusters() < kFewCases};
}

void set_bounds(Interval& result, Bounds bounds, std::string_view method) {
  result.low = bounds.low;
  result.high = bounds.high;
  result.method = method;
}

Interval proportion_interval(const ScoredRuns& runs, double level) {
  Interval result = interval_of(runs);
  if (runs.runs().size() == 1 && runs.clusters().are_cases() && runs.runs().front().score() == Score::accuracy) {
    set_bounds(result, wilson_bounds(result.estimate, static_cast<double>(runs.cases()), upper_z(level)), "Wilson");
  } else {
    set_bounds(result, effective_wilson(runs, result.estimate, level), "Wilson, effective cases");
  }
  return result;
}

/// Of several labels: the clusters that a score of 0 or 1, or one that no case changes, is worth: those of the rarest
/// class where only its cases count, or of the rarest absence, or the fewer of both.
std::int64_t fewest_clusters(const ScoredRuns& runs, Score score) {
  const Clusters& clusters = runs.clusters();
  if (!runs.is_multi_label()) return clusters.smallest_class_clusters();
  if (score == Score::specificity) return clusters.smallest_absent_clusters();
  if (score == Score::sensitivity || score == Score::average_precision || score == Score::macro_f1 ||
      score == Score::weighted_f1)
    return clusters.smallest_present_clusters();
  return clusters.smallest_class_clusters();
}

/// Where no case makes a difference (every answer is no, say) resampling gives no width either.
bool is_flat(const ScoredRuns& runs, Score score) {
  return runs.is_multi_label() && score != Score::brier && runs.jackknife().variance == 0.0;
}

/// BCa, except where few clusters make it too narrow (the ranking scores near 1) or too wide (macro F1).
void set_resampled(Interval& result, Score score, const ScoredRuns& runs, const BootstrapSpec& spec) {
  const bool is_ranking = score == Score::auc || score == Score::average_precision;
  if (!runs.clusters().are_cases() && (is_ranking || score == Score::macro_f1)) {
    const Jackknife jackknife = runs.jackknife();
    if (jackknife.variance > 0.0 && result.estimate > 0.0 && result.estimate < 1.0) {
      if (is_ranking) {
        set_bounds(result, logit_t(runs, jackknife, spec.level), "logit-t");
      } else {
        set_bounds(result, effective_wilson_of_variance(runs, jackknife, spec.level), "Wilson, effective cases");
      }
      return;
    }
  }
  set_bounds(result, bca_bounds(runs, spec), "BCa");
}

}  // namespace

Interval wilson_interval(double successes, double trials, double level) {
  if (!(trials > 0.0 && successes >= 0.0 && successes <= trials)) {
    throw Error("wilson_interval: expected 0 <= successes <= trials and trials above 0");
  }
  check_spec({.level = level});
  Interval result{.estimate = successes / trials,
                  .smallest_class = static_cast<std::int64_t>(trials),
                  .is_doubtful = trials < kFewCases};
  set_bounds(result, wilson_bounds(result.estimate, trials, upper_z(level)), "Wilson");
  return result;
}

Interval recall_interval(std::int64_t class_index, std::span<const Cases> cases, const BootstrapSpec& spec) {
  check_spec(spec);
  const ScoredRuns all(Score::accuracy, cases);  // checks that runs fit together
  if (class_index < 0 || class_index >= static_cast<std::int64_t>(all.classes())) {
    throw Error(fmt::format("recall_interval: class {} among {} classes", class_index, all.classes()));
  }
  if (all.is_multi_label()) {
    std::vector<BinaryCases> answers;
    for (const Cases& run : cases)
      answers.push_back(binary_cases(run.probabilities, run.labels, run.classes, run.sets(), class_index));
    std::vector<Cases> of_answers;
    for (const BinaryCases& run : answers)
      of_answers.push_back({run.probabilities, run.labels, cases.front().clusters, 2});
    return recall_interval(1, of_answers, spec);
  }
  std::vector<ClassCases> chosen;
  for (const Cases& run : cases) chosen.push_back(cases_of_class(run, class_index));
  if (chosen.front().labels.empty()) return kUndefinedInterval;
  std::vector<Cases> of_class;
  for (const ClassCases& run : chosen) {
    of_class.push_back({run.probabilities, run.labels, run.clusters, cases.front().classes});
  }
  return proportion_interval(ScoredRuns(Score::accuracy, of_class), spec.level);
}

Interval mean_interval(Score score, std::span<const Cases> cases, const BootstrapSpec& spec) {
  check_spec(spec);
  const ScoredRuns runs(score, cases);
  check_varies(runs);
  const bool is_binary = runs.classes() == 2 && !runs.is_multi_label();
  if (is_binary && score == Score::sensitivity) return recall_interval(1, cases, spec);
  if (is_binary && score == Score::specificity) return recall_interval(0, cases, spec);
  Interval result = interval_of(runs);
  const bool has_no_width = is_flat(runs, score);
  if (std::isnan(result.estimate)) {
    set_bounds(result, {kUndefinedScore, kUndefinedScore}, "undefined");
  } else if (!runs.is_multi_label() && is_mean_of_recalls(score, runs.classes())) {
    result = proportion_interval(runs, spec.level);
  } else if (score == Score::log_loss) {
    set_bounds(result, bootstrap_t_bounds(runs, spec), "bootstrap-t");
  } else if (score == Score::calibration_error) {
    set_bounds(result, calibration_error_bounds(runs, spec), "inverted bootstrap");
  } else if (has_no_width && fewest_clusters(runs, score) == 0) {  // F1 of classes that no case has
    set_bounds(result, {kUndefinedScore, kUndefinedScore}, "undefined");
  } else if (has_no_width && result.estimate < 1.0) {
    const auto trials = static_cast<double>(fewest_clusters(runs, score));
    set_bounds(result, wilson_bounds(std::max(0.0, result.estimate), trials, upper_z(spec.level)),
               "Wilson, rarest class");
  } else if (higher_is_better(score) && result.estimate == 1.0) {
    // Perfect on these cases, and so in every resample: what as many right answers as the rarest class has would allow.
    const auto trials = static_cast<double>(fewest_clusters(runs, score));
    set_bounds(result, wilson_bounds(1.0, trials, upper_z(spec.level)), "Wilson, rarest class");
  } else {
    set_resampled(result, score, runs, spec);
  }
  return result;
}

Interval interval(Score score, const Cases& cases, const BootstrapSpec& spec) {
  return mean_interval(score, {&cases, 1}, spec);
}

}  // namespace graft
