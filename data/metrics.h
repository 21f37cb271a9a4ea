// Scores of a classifier from its probabilities: the numbers under "test" in summary.json, and the points of the curves
// that show them. Defined as in scikit-learn, and tested against it. Intervals and comparisons between runs are in
// statistics.h.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/label_sets.h"

namespace graft {

/// One class of a multi-label set as a task of two classes: whether it holds.
struct ClassScores {
  std::int64_t positives = 0;  // its images
  double auc = 0.0, average_precision = 0.0, sensitivity = 0.0, specificity = 0.0, f1 = 0.0;
};

/// Undefined scores (AUC with one class present, say) are NaN; write them as null.
/// Of several labels per image each class is a task of two classes, decided at 0.5, and a score is the mean over the
/// classes where it is defined; loss, brier and calibration_error are over all classes of all images at once.
struct Metrics {
  std::int64_t n = 0;
  double loss = 0.0;  // mean -log p(label)
  double accuracy = 0.0;
  double macro_accuracy = 0.0;     // mean recall over the classes present (balanced_accuracy_score)
  double macro_f1 = 0.0;           // over the classes that occur as label or prediction (f1_score, macro)
  double kappa = 0.0;              // Cohen's, unweighted
  double auc = 0.0;                // two classes: of class 1; more: mean of one-vs-rest over the classes present
  double average_precision = 0.0;  // mean of one-vs-rest over the classes present
  double weighted_f1 = 0.0;        // mean F1 of the classes, weighted by their cases (f1_score, weighted)
  double sensitivity = 0.0;        // two classes: recall of class 1; else mean recall over the classes present
  double specificity = 0.0;        // two classes: recall of class 0; else mean of one-vs-rest where there are others
  double brier = 0.0;              // two classes: mean (p1 - y)^2; else mean of the sum over classes (brier_score_loss)
  double calibration_error = 0.0;  // of the top probability, 15 bins: calibration_error() below
  std::vector<std::vector<std::int64_t>> confusion;  // [label][predicted]; none of several labels per image
  // Of several labels per image:
  double subset_accuracy = 0.0;  // images all of whose answers are right (accuracy_score)
  std::vector<ClassScores> of_classes;
  bool is_multi_label() const { return !of_classes.empty(); }
};

/// probabilities: (n, classes), row by row; labels: (n). The prediction is the first largest probability.
/// Errors: sizes that do not match, no samples, a label outside the classes, a probability that is not finite.
Metrics compute_metrics(std::span<const double> probabilities, std::span<const std::int32_t> labels,
                        std::int64_t classes);

/// The same of several labels per image. `labels` number `sets`; a class is predicted where its probability exceeds
/// 0.5. accuracy is the share of right answers among all (MedMNIST's ACC).
Metrics compute_metrics(std::span<const double> probabilities, std::span<const std::int32_t> labels,
                        std::int64_t classes, const LabelSets& sets);

/// Throws the errors of compute_metrics.
void check_cases(std::span<const double> probabilities, std::span<const std::int32_t> labels, std::int64_t classes);
void check_cases(std::span<const double> probabilities, std::span<const std::int32_t> labels, std::int64_t classes,
                 const LabelSets& sets);
/// Those that the probabilities of n images can have.
void check_probabilities(std::span<const double> probabilities, std::int64_t n, std::int64_t classes);

/// Softmax of each row of logits (n, classes), in double.
std::vector<double> softmax_rows(std::span<const double> logits, std::int64_t classes);

/// The sigmoid of each logit, in double.
std::vector<double> sigmoids(std::span<const double> logits);

/// Index of the first largest value of each row.
std::vector<std::int32_t> predicted_classes(std::span<const double> probabilities, std::int64_t classes);

/// What one case adds to the log loss and to the Brier score, whose means they are. probabilities: (classes).
double case_loss(std::span<const double> probabilities, std::int32_t label);
double case_brier(std::span<const double> probabilities, std::int32_t label);

/// The same of one class that holds or does not, with probability p: of several labels per image the means are over all
/// classes, too. p counts within 2^-52 .. 1 - 2^-52, as in scikit-learn's log_loss: a sigmoid may round to 1.
double answer_loss(double p, bool holds);
double answer_brier(double p, bool holds);

/// One class of several labels per image as a task of two classes: 1 where it holds.
struct BinaryCases {
  std::vector<double> probabilities;  // (n, 2)
  std::vector<std::int32_t> labels;   // (n)
};
BinaryCases binary_cases(std::span<const double> probabilities, std::span<const std::int32_t> labels,
                         std::int64_t classes, const LabelSets& sets, std::int64_t class_index);

/// Area under the ROC curve; equal scores count half. NaN unless both kinds occur. scores, is_positive: (n).
double roc_auc(std::span<const double> scores, std::span<const std::uint8_t> is_positive);

/// Sum over distinct thresholds of (recall gained) * precision. NaN without a positive.
double average_precision(std::span<const double> scores, std::span<const std::uint8_t> is_positive);

/// What calling every case positive whose score is at least `threshold` gives.
struct RocPoint {
  double threshold = 0.0, false_positive_rate = 0.0, true_positive_rate = 0.0;
};

/// From (infinity, 0, 0), one point per distinct score, highest first, to (lowest score, 1, 1): roc_curve with
/// drop_intermediate=False. A rate without cases is NaN. scores, is_positive: (n).
std::vector<RocPoint> roc_curve(std::span<const double> scores, std::span<const std::uint8_t> is_positive);

struct PrecisionRecallPoint {
  double threshold = 0.0, precision = 0.0, recall = 0.0;
};

/// From (infinity, 1, 0), one point per distinct score, highest first: precision_recall_curve, backwards.
/// average_precision is the area of its steps. Without a positive, recall is NaN.
std::vector<PrecisionRecallPoint> precision_recall_curve(std::span<const double> scores,
                                                         std::span<const std::uint8_t> is_positive);

constexpr std::int64_t kCalibrationBins = 15;

/// Of the cases whose top probability lies in (low, high].
struct ReliabilityBin {
  double low = 0.0, high = 0.0;
  std::int64_t n = 0;
  double mean_probability = 0.0, accuracy = 0.0;  // NaN when empty
};

/// The bins of equal width of a reliability diagram, all of them, lowest first. probabilities: (n, classes), labels:
/// (n).
std::vector<ReliabilityBin> reliability_diagram(std::span<const double> probabilities,
                                                std::span<const std::int32_t> labels, std::int64_t classes,
                                                std::int64_t bins = kCalibrationBins);

/// The bin of a probability, 0 .. bins-1: bin b holds (b / bins, (b + 1) / bins], the first one 0 as well.
std::size_t calibration_bin(double probability, std::size_t bins = kCalibrationBins);

/// Expected calibration error: sum over the bins of n_bin / n * |accuracy - mean probability|. It is biased upwards:
/// noise within a bin counts as an error, so that a perfectly calibrated model does not reach 0. Source: Guo et al.
/// 2017.
double calibration_error(std::span<const ReliabilityBin> bins);

}  // namespace graft
