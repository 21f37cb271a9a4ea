// Scores where an image may have several labels, or none.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "data/decision_scores.h"
#include "data/metrics.h"
#include "kernels/core.h"

namespace graft {

std::vector<double> sigmoids(std::span<const double> logits) {
  std::vector<double> probabilities;
  for (const double x : logits) probabilities.push_back(1 / (1 + std::exp(-x)));
  return probabilities;
}

void check_cases(std::span<const double> probabilities, std::span<const std::int32_t> labels, std::int64_t classes,
                 const LabelSets& sets) {
  if (!sets.is_multi_label()) return check_cases(probabilities, labels, classes);
  check_probabilities(probabilities, std::ssize(labels), classes);
  for (const std::int32_t label : labels)
    if (label < 0 || label >= sets.count())
      throw Error(fmt::format("metrics: label {} among {} combinations of classes", label, sets.count()));
}

double answer_loss(double p, bool holds) {
  constexpr double kLeast = std::numeric_limits<double>::epsilon();
  return -std::log(std::clamp(holds ? p : 1 - p, kLeast, 1 - kLeast));
}

double answer_brier(double p, bool holds) { return (p - double(holds)) * (p - double(holds)); }

BinaryCases binary_cases(std::span<const double> probabilities, std::span<const std::int32_t> labels,
                         std::int64_t classes, const LabelSets& sets, std::int64_t class_index) {
  BinaryCases cases;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const double p = probabilities[i * std::size_t(classes) + std::size_t(class_index)];
    cases.probabilities.insert(cases.probabilities.end(), {1 - p, p});
    cases.labels.push_back(sets.has(labels[i], class_index) ? 1 : 0);
  }
  return cases;
}

Metrics compute_metrics(std::span<const double> probabilities, std::span<const std::int32_t> labels,
                        std::int64_t classes, const LabelSets& sets) {
  if (!sets.is_multi_label()) return compute_metrics(probabilities, labels, classes);
  check_cases(probabilities, labels, classes, sets);
  const std::size_t n = labels.size();
  Metrics m;
  m.n = std::int64_t(n);
  DefinedMean auc, precision;
  std::vector<double> confusions;
  std::vector<std::uint8_t> is_right(n, 1);
  BinaryCases all;  // of every class
  for (std::int64_t c = 0; c < classes; ++c) {
    const BinaryCases cases = binary_cases(probabilities, labels, classes, sets, c);
    std::vector<double> scores, confusion(4);
    std::vector<std::uint8_t> holds;
    for (std::size_t i = 0; i < n; ++i) {
      const double p = cases.probabilities[2 * i + 1];
      scores.push_back(p);
      holds.push_back(cases.labels[i] == 1 ? 1 : 0);
      ++confusion[2U * holds[i] + (p > 0.5 ? 1U : 0U)];
      if ((p > 0.5) != (holds[i] == 1)) is_right[i] = 0;
      m.loss += answer_loss(p, holds[i] == 1) / double(n) / double(classes);
      m.brier += answer_brier(p, holds[i] == 1) / double(n) / double(classes);
    }
    all.probabilities.insert(all.probabilities.end(), cases.probabilities.begin(), cases.probabilities.end());
    all.labels.insert(all.labels.end(), cases.labels.begin(), cases.labels.end());
    confusions.insert(confusions.end(), confusion.begin(), confusion.end());
    const DecisionScores decisions = decision_scores(confusion, 2);
    m.of_classes.push_back({.positives = std::ranges::count(holds, 1),
                            .auc = roc_auc(scores, holds),
                            .average_precision = graft::average_precision(scores, holds),
                            .sensitivity = decisions.sensitivity,
                            .specificity = decisions.specificity,
                            .f1 = binary_f1(confusion)});
    auc.add(m.of_classes.back().auc);
    precision.add(m.of_classes.back().average_precision);
  }
  take_decisions(m, multi_label_decision_scores(confusions, std::size_t(classes)));
  m.auc = auc.value();
  m.average_precision = precision.value();
  m.calibration_error = calibration_error(reliability_diagram(all.probabilities, all.labels, 2));
  m.subset_accuracy = double(std::ranges::count(is_right, 1)) / double(n);
  return m;
}

}  // namespace graft
