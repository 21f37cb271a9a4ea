#include "data/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/core.h"

namespace graft {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

/// Walks from the highest score down; `visit(positives, negatives)` once per distinct score.
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
    visit(positives, negatives);
  }
}

double mean_or_undefined(double sum, std::int64_t count) {
  return count > 0 ? sum / static_cast<double>(count) : kUndefined;
}

void check_input(std::span<const double> probabilities, std::span<const std::int32_t> labels, std::int64_t classes) {
  if (labels.empty()) throw Error("metrics: no samples to score");
  if (classes < 1 || probabilities.size() != labels.size() * static_cast<std::size_t>(classes)) {
    throw Error(
        fmt::format("metrics: expected {} x {} probabilities, got {}", labels.size(), classes, probabilities.size()));
  }
  for (const std::int32_t label : labels) {
    if (label < 0 || label >= classes) throw Error(fmt::format("metrics: label {} among {} classes", label, classes));
  }
  for (const double p : probabilities) {
    if (!std::isfinite(p)) throw Error("metrics: a probability is not finite; the model's output is broken");
  }
}

/// What the confusion matrix alone decides.
void score_decisions(Metrics& m) {
  const std::size_t classes = m.confusion.size();
  const auto n = static_cast<double>(m.n);
  double correct = 0.0, recall_sum = 0.0, f1_sum = 0.0, by_chance = 0.0;
  std::int64_t present = 0, occurring = 0;
  for (std::size_t c = 0; c < classes; ++c) {
    double labelled = 0.0, predicted = 0.0;
    for (std::size_t o = 0; o < classes; ++o) {
      labelled += static_cast<double>(m.confusion[c][o]);
      predicted += static_cast<double>(m.confusion[o][c]);
    }
    const auto hits = static_cast<double>(m.confusion[c][c]);
    correct += hits;
    by_chance += labelled * predicted;
    if (labelled > 0.0) {
      recall_sum += hits / labelled;
      ++present;
    }
    if (labelled + predicted > 0.0) {
      f1_sum += 2.0 * hits / (labelled + predicted);
      ++occurring;
    }
  }
  m.accuracy = correct / n;
  m.macro_accuracy = mean_or_undefined(recall_sum, present);
  m.macro_f1 = mean_or_undefined(f1_sum, occurring);
  const double expected = by_chance / (n * n);
  m.kappa = expected < 1.0 ? (m.accuracy - expected) / (1.0 - expected) : kUndefined;
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

double roc_auc(std::span<const double> scores, std::span<const std::uint8_t> is_positive) {
  double positives_above = 0.0, negatives = 0.0, ordered_pairs = 0.0;
  by_descending_score(scores, is_positive, [&](double p, double q) {
    ordered_pairs += q * (positives_above + 0.5 * p);
    positives_above += p;
    negatives += q;
  });
  return positives_above > 0.0 && negatives > 0.0 ? ordered_pairs / (positives_above * negatives) : kUndefined;
}

double average_precision(std::span<const double> scores, std::span<const std::uint8_t> is_positive) {
  double positives = 0.0, seen = 0.0, sum = 0.0;
  by_descending_score(scores, is_positive, [&](double p, double q) {
    positives += p;
    seen += p + q;
    sum += p * (positives / seen);
  });
  return positives > 0.0 ? sum / positives : kUndefined;
}

std::vector<double> softmax_rows(std::span<const float> logits, std::int64_t classes) {
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

Metrics compute_metrics(std::span<const double> probabilities, std::span<const std::int32_t> labels,
                        std::int64_t classes) {
  check_input(probabilities, labels, classes);
  const auto width = static_cast<std::size_t>(classes);
  Metrics m;
  m.n = static_cast<std::int64_t>(labels.size());
  m.confusion.assign(width, std::vector<std::int64_t>(width));
  const auto predicted = predicted_classes(probabilities, classes);
  double loss_sum = 0.0;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const auto label = static_cast<std::size_t>(labels[i]);
    ++m.confusion[label][static_cast<std::size_t>(predicted[i])];
    // A probability that underflowed to zero counts as the smallest double: the loss stays finite and large.
    loss_sum -= std::log(std::max(probabilities[i * width + label], std::numeric_limits<double>::min()));
  }
  m.loss = loss_sum / static_cast<double>(m.n);
  score_decisions(m);
  score_rankings(m, probabilities, labels);
  return m;
}

}  // namespace graft
