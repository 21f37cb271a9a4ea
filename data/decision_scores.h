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

}  // namespace graft
