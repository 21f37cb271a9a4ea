#include "data/decision_scores.h"

#include <numeric>

namespace graft {
namespace {

double ratio_or_undefined(double part, double whole) { return whole > 0.0 ? part / whole : kUndefinedScore; }

}  // namespace

DecisionScores decision_scores(std::span<const double> confusion, std::size_t classes) {
  DecisionScores scores;
  const double n = std::accumulate(confusion.begin(), confusion.end(), 0.0);
  double correct = 0.0, recall_sum = 0.0, f1_sum = 0.0, weighted_f1_sum = 0.0, specificity_sum = 0.0, by_chance = 0.0;
  double present = 0.0, occurring = 0.0, contrasted = 0.0;
  for (std::size_t c = 0; c < classes; ++c) {
    double labelled = 0.0, predicted = 0.0;
    for (std::size_t o = 0; o < classes; ++o) {
      labelled += confusion[c * classes + o];
      predicted += confusion[o * classes + c];
    }
    const double hits = confusion[c * classes + c];
    correct += hits;
    by_chance += labelled * predicted;
    if (labelled > 0.0) {
      recall_sum += hits / labelled;
      ++present;
    }
    if (labelled + predicted > 0.0) {
      const double f1 = 2.0 * hits / (labelled + predicted);
      f1_sum += f1;
      weighted_f1_sum += labelled * f1;
      ++occurring;
    }
    if (labelled < n) {
      specificity_sum += (n - labelled - predicted + hits) / (n - labelled);
      ++contrasted;
    }
    // Of two classes the second is the positive one.
    if (classes == 2) (c == 0 ? scores.specificity : scores.sensitivity) = ratio_or_undefined(hits, labelled);
  }
  scores.accuracy = correct / n;
  scores.macro_accuracy = ratio_or_undefined(recall_sum, present);
  scores.macro_f1 = ratio_or_undefined(f1_sum, occurring);
  scores.weighted_f1 = weighted_f1_sum / n;
  const double expected = by_chance / (n * n);
  scores.kappa = expected < 1.0 ? (scores.accuracy - expected) / (1.0 - expected) : kUndefinedScore;
  if (classes != 2) {
    scores.sensitivity = scores.macro_accuracy;
    scores.specificity = ratio_or_undefined(specificity_sum, contrasted);
  }
  return scores;
}

double binary_f1(std::span<const double> confusion) {
  return ratio_or_undefined(2.0 * confusion[3], confusion[1] + confusion[2] + 2.0 * confusion[3]);
}

DecisionScores multi_label_decision_scores(std::span<const double> confusions, std::size_t classes) {
  DefinedMean accuracy, macro_accuracy, f1, kappa, sensitivity, specificity;
  double positives = 0.0, weighted_f1 = 0.0;
  for (std::size_t c = 0; c < classes; ++c) {
    const auto confusion = confusions.subspan(4 * c, 4);
    const DecisionScores d = decision_scores(confusion, 2);
    const double of_class = confusion[2] + confusion[3], class_f1 = binary_f1(confusion);
    accuracy.add(d.accuracy);
    macro_accuracy.add((d.sensitivity + d.specificity) / 2.0);
    f1.add(class_f1);
    kappa.add(d.kappa);
    sensitivity.add(d.sensitivity);
    specificity.add(d.specificity);
    if (of_class > 0.0) weighted_f1 += of_class * class_f1;
    positives += of_class;
  }
  return {.accuracy = accuracy.value(),
          .macro_accuracy = macro_accuracy.value(),
          .macro_f1 = f1.value(),
          .weighted_f1 = ratio_or_undefined(weighted_f1, positives),
          .kappa = kappa.value(),
          .sensitivity = sensitivity.value(),
          .specificity = specificity.value()};
}

}  // namespace graft
