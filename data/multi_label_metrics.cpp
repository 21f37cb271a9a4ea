// Scores where an image may have several labels, or none.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "data/decision_scores.h"
#include "data/metrics.h"
#include "kernels/core.h"

namespace graft {
namespace {

/// Of those that are defined.
class DefinedMean {
 public:
  void add(double value) {
    if (std::isnan(value)) return;
    sum_ += value;
    ++count_;
  }
  double value() const { return count_ > 0 ? sum_ / double(count_) : kUndefinedScore; }

 private:
  double sum_ = 0;
  std::int64_t count_ = 0;
};

/// One class of all images.
struct BinaryCases {
  std::vector<double> probabilities;
  std::vector<std::uint8_t> holds;

  DecisionScores decisions() const {
    std::vector<double> confusion(4);  // [holds][predicted]
    for (std::size_t i = 0; i < holds.size(); ++i) ++confusion[2U * holds[i] + (probabilities[i] > 0.5 ? 1 : 0)];
    return decision_scores(confusion, 2);
  }
  /// 2 hits / (those of the class + those predicted); undefined where it is neither.
  double f1() const {
    double hits = 0, of_class = 0, predicted = 0;
    for (std::size_t i = 0; i < holds.size(); ++i) {
      const bool is_predicted = probabilities[i] > 0.5;
      hits += holds[i] != 0 && is_predicted, of_class += holds[i] != 0, predicted += is_predicted;
    }
    return of_class + predicted > 0 ? 2 * hits / (of_class + predicted) : kUndefinedScore;
  }
};

/// Clipped as scikit-learn's log_loss does: a sigmoid may round to 1.
double binary_loss(double p, bool holds) {
  constexpr double kLeast = std::numeric_limits<double>::epsilon();
  return -std::log(std::clamp(holds ? p : 1 - p, kLeast, 1 - kLeast));
}

}  // namespace

std::vector<double> sigmoids(std::span<const double> logits) {
  std::vector<double> probabilities;
  for (const double x : logits) probabilities.push_back(1 / (1 + std::exp(-x)));
  return probabilities;
}

Metrics compute_metrics(std::span<const double> probabilities, std::span<const std::int32_t> labels,
                        std::int64_t classes, const LabelSets& sets) {
  if (!sets.is_multi_label()) return compute_metrics(probabilities, labels, classes);
  check_probabilities(probabilities, std::ssize(labels), classes);
  for (const std::int32_t label : labels)
    if (label < 0 || label >= sets.count())
      throw Error(fmt::format("metrics: label {} among {} combinations of classes", label, sets.count()));
  const auto width = std::size_t(classes), n = labels.size();
  Metrics m;
  m.n = std::int64_t(n);
  DefinedMean accuracy, macro_accuracy, f1, kappa, auc, precision, sensitivity, specificity;
  double positives = 0, weighted_f1 = 0, loss = 0, brier = 0;
  std::vector<std::uint8_t> is_right(n, 1);
  std::vector<double> outcomes;  // of every image and class: that it does not hold, that it does
  std::vector<std::int32_t> held;
  for (std::size_t c = 0; c < width; ++c) {
    BinaryCases cases;
    for (std::size_t i = 0; i < n; ++i) {
      const double p = probabilities[i * width + c];
      const bool holds = sets.has(labels[i], std::int64_t(c));
      cases.probabilities.push_back(p);
      cases.holds.push_back(holds ? 1 : 0);
      outcomes.insert(outcomes.end(), {1 - p, p});
      held.push_back(holds ? 1 : 0);
      loss += binary_loss(p, holds);
      brier += (p - double(holds)) * (p - double(holds));
      if ((p > 0.5) != holds) is_right[i] = 0;
    }
    const DecisionScores decisions = cases.decisions();
    const ClassScores scores{.positives = std::ranges::count(cases.holds, 1),
                             .auc = roc_auc(cases.probabilities, cases.holds),
                             .average_precision = graft::average_precision(cases.probabilities, cases.holds),
                             .sensitivity = decisions.sensitivity,
                             .specificity = decisions.specificity,
                             .f1 = cases.f1()};
    m.of_classes.push_back(scores);
    accuracy.add(decisions.accuracy);
    kappa.add(decisions.kappa);
    macro_accuracy.add((scores.sensitivity + scores.specificity) / 2);
    sensitivity.add(scores.sensitivity);
    specificity.add(scores.specificity);
    auc.add(scores.auc);
    precision.add(scores.average_precision);
    f1.add(scores.f1);
    positives += double(scores.positives);
    if (scores.positives > 0) weighted_f1 += double(scores.positives) * scores.f1;
  }
  m.loss = loss / double(n * width);
  m.brier = brier / double(n * width);
  m.accuracy = accuracy.value();
  m.macro_accuracy = macro_accuracy.value();
  m.macro_f1 = f1.value();
  m.weighted_f1 = positives > 0 ? weighted_f1 / positives : kUndefinedScore;
  m.kappa = kappa.value();
  m.auc = auc.value();
  m.average_precision = precision.value();
  m.sensitivity = sensitivity.value();
  m.specificity = specificity.value();
  m.calibration_error = calibration_error(reliability_diagram(outcomes, held, 2));
  m.subset_accuracy = double(std::ranges::count(is_right, 1)) / double(n);
  return m;
}

}  // namespace graft
