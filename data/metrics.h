// Scores of a classifier from its probabilities: the numbers under "test" in summary.json. Defined as in scikit-learn,
// and tested against it. Intervals and comparisons between runs are not here.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace graft {

/// Undefined scores (AUC with one class present, say) are NaN; write them as null.
struct Metrics {
  std::int64_t n = 0;
  double loss = 0.0;  // mean -log p(label)
  double accuracy = 0.0;
  double macro_accuracy = 0.0;     // mean recall over the classes present (balanced_accuracy_score)
  double macro_f1 = 0.0;           // over the classes that occur as label or prediction (f1_score, macro)
  double kappa = 0.0;              // Cohen's, unweighted
  double auc = 0.0;                // two classes: of class 1; more: mean of one-vs-rest over the classes present
  double average_precision = 0.0;  // mean of one-vs-rest over the classes present
  std::vector<std::vector<std::int64_t>> confusion;  // [label][predicted]
};

/// probabilities: (n, classes), row by row; labels: (n). The prediction is the first largest probability.
/// Errors: sizes that do not match, no samples, a label outside the classes, a probability that is not finite.
Metrics compute_metrics(std::span<const double> probabilities, std::span<const std::int32_t> labels,
                        std::int64_t classes);

/// Softmax of each row of logits (n, classes), in double.
std::vector<double> softmax_rows(std::span<const float> logits, std::int64_t classes);

/// Index of the first largest value of each row.
std::vector<std::int32_t> predicted_classes(std::span<const double> probabilities, std::int64_t classes);

/// Area under the ROC curve; equal scores count half. NaN unless both kinds occur. scores, is_positive: (n).
double roc_auc(std::span<const double> scores, std::span<const std::uint8_t> is_positive);

/// Sum over distinct thresholds of (recall gained) * precision. NaN without a positive.
double average_precision(std::span<const double> scores, std::span<const std::uint8_t> is_positive);

}  // namespace graft
