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

}  // namespace graft
