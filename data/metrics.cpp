#include "data/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "data/decision_scores.h"
#include "kernels/core.h"

namespace graft {
namespace {

/// Walks from the highest score down; `visit(positives, negatives, score)` once per distinct score.
template <typename Visit>
void by_descending_score(std::span<const double> scores, std::span<const std::uint8_t> is_positive, Visit visit) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  for (std::size_t i = 0; i < order.size();) {
    double positives = 0.0, negatives = 0.0;
    const double score = scores[order[i]];
    for (; i < order.size() && scores[order[i]] == score; ++i) {
      (is_positive[order[i]] != 0 ? positives : negatives) += 1.0;
    }
    visit(positives, negatives, score);
  }
}

double mean_or_undefined(double sum, std::int64_t count) {
  return count > 0 ? sum / static_cast<double>(count) : kUndefinedScore;
}

/// What the probabilities themselves decide.
void score_probabilities(Metrics& m, std::span<const double> probabilities, std::span<const std::int32_t> labels) {
  const std::size_t classes = m.confusion.size();
  double loss_sum = 0.0, square_sum = 0.0;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const auto p = probabilities.subspan(i * classes, classes);
    loss_sum += case_loss(p, labels[i]);
    square_sum += case_brier(p, labels[i]);
  }
  m.loss = loss_sum / static_cast<double>(m.n);
  m.brier = square_sum / static_cast<double>(m.n);
  m.calibration_error =
      calibration_error(reliability_diagram(probabilities, labels, static_cast<std::int64_t>(classes)));
}

/// What the ranking by probability decides.
void score_rankings(Metrics& m, std::span<const double> probabilities, std::span<const std::int32_t> labels) {
  const std::size_t classes = m.confusion.size();
  std::vector<double> scores(labels.size());
  std::vector<std::uint8_t> is_positive(labels.size());
  double auc_sum = 0.0, precision_sum = 0.0;
  std::int64_t auc_count = 0, precision_count = 0;
  for (std::size_t c = 0; c < classes; ++c) {
    for (std::size_t i = 0; i < labels.size(); ++i) {
      scores[i] = probabilities[i * classes + c];
      is_positive[i] = static_cast<std::size_t>(labels[i]) == c ? 1 : 0;
    }
    const double auc = roc_auc(scores, is_positive);
    const double precision = average_precision(scores, is_positive);
    // Of two classes the second is the positive one; the first would only repeat it.
    if (!std::isnan(auc) && (classes != 2 || c == 1)) {
      auc_sum += auc;
      ++auc_count;
    }
    if (!std::isnan(precision)) {
      precision_sum += precision;
      ++precision_count;
    }
  }
  m.auc = mean_or_undefined(auc_sum, auc_count);
  m.average_precision = mean_or_undefined(precision_sum, precision_count);
}

}  // namespace

void check_cases(std::span<const double> probabilities, std::span<const std::int32_t> labels, std::int64_t classes) {
  check_probabilities(probabilities, std::ssize(labels), classes);
  for (const std::int32_t label : labels) {
    if (label < 0 || label >= classes) throw Error(fmt::format("metrics: label {} among {} classes", label, classes));
  }
}

void check_probabilities(std::span<const double> probabilities, std::int64_t n, std::int64_t classes) {
  if (n == 0) throw Error("metrics: no samples to score");
  if (classes < 1 || std::ssize(probabilities) != n * classes)
    throw Error(fmt::format("metrics: expected {} x {} probabilities, got {}", n, classes, probabilities.size()));
  for (const double p : probabilities) {
    if (!std::isfinite(p)) throw Error("metrics: a probability is not finite; the model's output is broken");
  }
}

double roc_auc(std::span<const double> scores, std::span<const std::uint8_t> is_positive) {
  double positives_above = 0.0, negatives = 0.0, ordered_pairs = 0.0;
  by_descending_score(scores, is_positive, [&](double p, double q, double) {
    ordered_pairs += q * (positives_above + 0.5 * p);
    positives_above += p;
    negatives += q;
  });
  return positives_above > 0.0 && negatives > 0.0 ? ordered_pairs / (positives_above * negatives) : kUndefinedScore;
}

double average_precision(std::span<const double> scores, std::span<const std::uint8_t> is_positive) {
  double positives = 0.0, seen = 0.0, sum = 0.0;
  by_descending_score(scores, is_positive, [&](double p, double q, double) {
    positives += p;
    seen += p + q;
    sum += p * (positives / seen);
  });
  return positives > 0.0 ? sum / positives : kUndefinedScore;
}

std::vector<RocPoint> roc_curve(std::span<const double> scores, std::span<const std::uint8_t> is_positive) {
  std::vector<RocPoint> points{{.threshold = std::numeric_limits<double>::infinity()}};
  double negatives = 0.0, positives = 0.0;
  by_descending_score(scores, is_positive, [&](double p, double q, double score) {
    points.push_back({score, negatives += q, positives += p});
  });
  for (RocPoint& point : points) {
    point.false_positive_rate = negatives > 0.0 ? point.false_positive_rate / negatives : kUndefinedScore;
    point.true_positive_rate = positives > 0.0 ? point.true_positive_rate / positives : kUndefinedScore;
  }
  return points;
}

std::vector<PrecisionRecallPoint> precision_recall_curve(std::span<const double> scores,
                                                         std::span<const std::uint8_t> is_positive) {
  std::vector<PrecisionRecallPoint> points{{std::numeric_limits<double>::infinity(), 1.0, 0.0}};
  double positives = 0.0, seen = 0.0;
  by_descending_score(scores, is_positive, [&](double p, double q, double score) {
    positives += p;
    seen += p + q;
    points.push_back({score, positives / seen, positives});
  });
  for (PrecisionRecallPoint& point : points)
    point.recall = positives > 0.0 ? point.recall / positives : kUndefinedScore;
  return points;
}

std::size_t calibration_bin(double probability, std::size_t bins) {
  const auto width = static_cast<double>(bins);
  const double above = std::clamp(std::ceil(probability * width), 1.0, width);
  auto bin = static_cast<std::size_t>(above) - 1;
  // The product rounds: an edge belongs to the bin below it.
  if (bin > 0 && probability <= static_cast<double>(bin) / width) --bin;
  if (bin + 1 < bins && probability > static_cast<double>(bin + 1) / width) ++bin;
  return bin;
}

std::vector<ReliabilityBin> reliability_diagram(std::span<const double> probabilities,
                                                std::span<const std::int32_t> labels, std::int64_t classes,
                                                std::int64_t bins) {
  check_cases(probabilities, labels, classes);
  if (bins < 1) throw Error(fmt::format("reliability diagram: expected at least one bin, got {}", bins));
  std::vector<ReliabilityBin> diagram(static_cast<std::size_t>(bins));
  const auto width = static_cast<std::size_t>(classes);
  const auto predicted = predicted_classes(probabilities, classes);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const double top = probabilities[i * width + static_cast<std::size_t>(predicted[i])];
    ReliabilityBin& bin = diagram[calibration_bin(top, diagram.size())];
    ++bin.n;
    bin.mean_probability += top;
    bin.accuracy += predicted[i] == labels[i] ? 1.0 : 0.0;
  }
  for (std::size_t b = 0; b < diagram.size(); ++b) {
    diagram[b].low = static_cast<double>(b) / static_cast<double>(bins);
    diagram[b].high = static_cast<double>(b + 1) / static_cast<double>(bins);
    diagram[b].mean_probability = mean_or_undefined(diagram[b].mean_probability, diagram[b].n);
    diagram[b].accuracy = mean_or_undefined(diagram[b].accuracy, diagram[b].n);
  }
  return diagram;
}

double calibration_error(std::span<const ReliabilityBin> bins) {
  double sum = 0.0;
  std::int64_t n = 0;
  for (const ReliabilityBin& bin : bins) {
    if (bin.n == 0) continue;
    sum += static_cast<double>(bin.n) * std::abs(bin.accuracy - bin.mean_probability);
    n += bin.n;
  }
  return mean_or_undefined(sum, n);
}

double case_loss(std::span<const double> probabilities, std::int32_t label) {
  // A probability that underflowed to zero counts as the smallest double: the loss stays finite and large.
  return -std::log(std::max(probabilities[static_cast<std::size_t>(label)], std::numeric_limits<double>::min()));
}

double case_brier(std::span<const double> probabilities, std::int32_t label) {
  const auto square = [&](std::size_t c) {
    const double error = probabilities[c] - (static_cast<std::size_t>(label) == c ? 1.0 : 0.0);
    return error * error;
  };
  if (probabilities.size() == 2) return square(1);
  double sum = 0.0;
  for (std::size_t c = 0; c < probabilities.size(); ++c) sum += square(c);
  return sum;
}

std::vector<double> softmax_rows(std::span<const double> logits, std::int64_t classes) {
  std::vector<double> probabilities(logits.begin(), logits.end());
  const auto width = static_cast<std::size_t>(classes);
  for (std::size_t begin = 0; begin + width <= probabilities.size(); begin += width) {
    const std::span row(probabilities.data() + begin, width);
    const double largest = *std::max_element(row.begin(), row.end());
    double sum = 0.0;
    for (double& value : row) sum += value = std::exp(value - largest);
    for (double& value : row) value /= sum;
  }
  return probabilities;
}

std::vector<std::int32_t> predicted_classes(std::span<const double> probabilities, std::int64_t classes) {
  const auto width = static_cast<std::size_t>(classes);
  std::vector<std::int32_t> predicted;
  for (std::size_t begin = 0; begin + width <= probabilities.size(); begin += width) {
    const auto row = probabilities.subspan(begin, width);
    predicted.push_back(static_cast<std::int32_t>(std::max_element(row.begin(), row.end()) - row.begin()));
  }
  return predicted;
}

void take_decisions(Metrics& m, const DecisionScores& decisions) {
  m.accuracy = decisions.accuracy;
  m.macro_accuracy = decisions.macro_accuracy;
  m.macro_f1 = decisions.macro_f1;
  m.weighted_f1 = decisions.weighted_f1;
  m.kappa = decisions.kappa;
  m.sensitivity = decisions.sensitivity;
  m.specificity = decisions.specificity;
}

Metrics compute_metrics(std::span<const double> probabilities, std::span<const std::int32_t> labels,
                        std::int64_t classes) {
  check_cases(probabilities, labels, classes);
  const auto width = static_cast<std::size_t>(classes);
  Metrics m;
  m.n = static_cast<std::int64_t>(labels.size());
  m.confusion.assign(width, std::vector<std::int64_t>(width));
  const auto predicted = predicted_classes(probabilities, classes);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    ++m.confusion[static_cast<std::size_t>(labels[i])][static_cast<std::size_t>(predicted[i])];
  }
  std::vector<double> confusion;
  for (const auto& row : m.confusion) confusion.insert(confusion.end(), row.begin(), row.end());
  take_decisions(m, decision_scores(confusion, width));
  score_probabilities(m, probabilities, labels);
  score_rankings(m, probabilities, labels);
  return m;
}

}  // namespace graft
