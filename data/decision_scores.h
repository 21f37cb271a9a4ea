// The scores that the confusion matrix alone decides: metrics.cpp takes them of counts, statistics.cpp of the counts
// that resampled cases give.
#pragma once

#include <cstddef>
#include <limits>
#include <span>

namespace graft {

/// What a score is that its cases leave undefined.
inline constexpr double kUndefinedScore = std::numeric_limits<double>::quiet_NaN();

/// As the fields of Metrics.
struct DecisionScores {
  double accuracy = 0.0, macro_accuracy = 0.0, macro_f1 = 0.0, weighted_f1 = 0.0, kappa = 0.0, sensitivity = 0.0,
         specificity = 0.0;
};

/// confusion: (classes, classes), [label][predicted], counts or weights of any sum above 0.
DecisionScores decision_scores(std::span<const double> confusion, std::size_t classes);

/// Of several labels per image. confusions: (classes, 2, 2), [class][holds][predicted]. The mean over the classes of
/// what each is by itself, undefined ones left out; macro accuracy is that of (sensitivity + specificity) / 2, weighted
/// F1 weighted by the images of a class.
DecisionScores multi_label_decision_scores(std::span<const double> confusions, std::size_t classes);

struct Metrics;
/// Into the fields of the same names.
void take_decisions(Metrics& metrics, const DecisionScores& decisions);

/// F1 of what holds; confusion: (2, 2), [holds][predicted]. Undefined where it neither holds nor is predicted.
double binary_f1(std::span<const double> confusion);

/// Mean of those that are defined.
class DefinedMean {
 public:
  void add(double value) {
    if (value != value) return;
    sum_ += value;
    ++count_;
  }
  double value() const { return count_ > 0 ? sum_ / count_ : kUndefinedScore; }

 private:
  double sum_ = 0.0, count_ = 0.0;
};

}  // namespace graft
