#include "data/weighted_score.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "data/decision_scores.h"

namespace graft {
namespace {

double of_decisions(Score score, const DecisionScores& d) {
  switch (score) {
    case Score::accuracy:
      return d.accuracy;
    case Score::macro_accuracy:
      return d.macro_accuracy;
    case Score::macro_f1:
      return d.macro_f1;
    case Score::weighted_f1:
      return d.weighted_f1;
    case Score::kappa:
      return d.kappa;
    case Score::sensitivity:
      return d.sensitivity;
    case Score::specificity:
      return d.specificity;
    default:
      return kUndefinedScore;
  }
}

}  // namespace

WeightedScore::WeightedScore(Score score, const Cases& cases)
    : score_(score),
      n_(cases.labels.size()),
      classes_(static_cast<std::size_t>(std::max<std::int64_t>(cases.classes, 0))),
      is_multi_label_(cases.is_multi_label()) {
  is_multi_label_ ? take_label_sets(cases) : take_labels(cases);
}

void WeightedScore::take_labels(const Cases& cases) {
  check_cases(cases.probabilities, cases.labels, cases.classes);
  const auto predicted = predicted_classes(cases.probabilities, cases.classes);
  for (std::size_t i = 0; i < n_; ++i) {
    const auto row = cases.probabilities.subspan(i * classes_, classes_);
    const auto label = static_cast<std::size_t>(cases.labels[i]), top = static_cast<std::size_t>(predicted[i]);
    cells_.push_back(static_cast<std::uint32_t>(label * classes_ + top));
    if (score_ == Score::brier) values_.push_back(case_brier(row, cases.labels[i]));
    if (score_ == Score::log_loss) values_.push_back(case_loss(row, cases.labels[i]));
    take_answer(row[top], label == top);
  }
  confusion_.resize(classes_ * classes_);
  for (std::size_t c = 0; c < classes_; ++c) {
    if (score_ == Score::auc && classes_ == 2 && c == 0) continue;  // class 1 says the same
    take_ranking(cases, c, [&](std::size_t i) { return static_cast<std::size_t>(cases.labels[i]) == c; });
  }
}

void WeightedScore::take_label_sets(const Cases& cases) {
  check_cases(cases.probabilities, cases.labels, cases.classes, cases.sets());
  const auto share = 1.0 / static_cast<double>(classes_);
  std::vector<std::uint8_t> holds;
  for (std::size_t i = 0; i < n_; ++i) {
    double mean = 0.0;
    for (std::size_t c = 0; c < classes_; ++c) {
      const double p = cases.probabilities[i * classes_ + c];
      const bool is_of = cases.sets().has(cases.labels[i], static_cast<std::int64_t>(c)), is_predicted = p > 0.5;
      holds.push_back(is_of ? 1 : 0);
      cells_.push_back(static_cast<std::uint32_t>(4 * c + (is_of ? 2 : 0) + (is_predicted ? 1 : 0)));
      if (score_ == Score::log_loss) mean += share * answer_loss(p, is_of);
      if (score_ == Score::brier) mean += share * answer_brier(p, is_of);
      take_answer(std::max(p, 1.0 - p), is_of == is_predicted);
    }
    if (score_ == Score::brier || score_ == Score::log_loss) values_.push_back(mean);
  }
  confusion_.resize(4 * classes_);
  for (std::size_t c = 0; c < classes_; ++c)
    take_ranking(cases, c, [&](std::size_t i) { return holds[i * classes_ + c] != 0; });
}

void WeightedScore::take_answer(double certainty, bool is_right) {
  if (score_ != Score::calibration_error) return;
  bins_.push_back(static_cast<std::uint8_t>(calibration_bin(certainty)));
  values_.push_back(((is_right ? 1.0 : 0.0) - certainty) / static_cast<double>(answers()));
}

template <class IsOf>
void WeightedScore::take_ranking(const Cases& cases, std::size_t class_index, const IsOf& is_of) {
  if (score_ != Score::auc && score_ != Score::average_precision) return;
  const auto p = [&](std::uint32_t at) { return cases.probabilities[at * classes_ + class_index]; };
  std::vector<std::uint32_t> order(n_);
  std::iota(order.begin(), order.end(), 0U);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return p(a) > p(b); });
  Ranking ranking{.at = order, .is_positive = {}, .ends_tie = {}};
  for (std::size_t i = 0; i < n_; ++i) {
    ranking.is_positive.push_back(is_of(order[i]) ? 1.0 : 0.0);
    ranking.ends_tie.push_back(i + 1 == n_ || p(order[i + 1]) < p(order[i]) ? 1 : 0);
    if (ranking.ends_tie.back() == 0) ranking.has_ties = true;
  }
  rankings_.push_back(std::move(ranking));
}

double WeightedScore::auc(const Ranking& ranking, std::span<const double> weights) const {
  double above = 0.0, seen = 0.0, sum = 0.0;  // positives so far, cases so far
  double positives = 0.0, negatives = 0.0;    // of a tie
  for (std::size_t i = 0; i < n_; ++i) {
    const double weight = weights[ranking.at[i]], positive = weight * ranking.is_positive[i];
    seen += weight;
    if (!ranking.has_ties) {  // the same sum, without a branch
      sum += (weight - positive) * (above + 0.5 * positive);
      above += positive;
      continue;
    }
    positives += positive;
    negatives += weight - positive;
    if (ranking.ends_tie[i] == 0) continue;
    sum += negatives * (above + 0.5 * positives);
    above += positives;
    positives = negatives = 0.0;
  }
  return above > 0.0 && seen > above ? sum / (above * (seen - above)) : kUndefinedScore;
}

double WeightedScore::average_precision(const Ranking& ranking, std::span<const double> weights) const {
  double above = 0.0, seen = 0.0, sum = 0.0, positives = 0.0;
  for (std::size_t i = 0; i < n_; ++i) {
    const double weight = weights[ranking.at[i]];
    seen += weight;
    positives += weight * ranking.is_positive[i];
    if (ranking.ends_tie[i] == 0 || positives == 0.0) continue;
    above += positives;
    sum += positives * (above / seen);
    positives = 0.0;
  }
  return above > 0.0 ? sum / above : kUndefinedScore;
}

double WeightedScore::mean_ranking_score(std::span<const double> weights) const {
  double sum = 0.0, defined = 0.0;
  for (const Ranking& ranking : rankings_) {
    const double value = score_ == Score::auc ? auc(ranking, weights) : average_precision(ranking, weights);
    if (std::isnan(value)) continue;
    sum += value;
    ++defined;
  }
  return defined > 0.0 ? sum / defined : kUndefinedScore;
}

double WeightedScore::binned_gap(std::span<const double> weights) const {
  std::array<double, kCalibrationBins> sums{};
  double n = 0.0;
  for (std::size_t i = 0, at = 0; i < n_; ++i) {
    for (std::size_t answer = 0; answer < answers(); ++answer, ++at) sums[bins_[at]] += weights[i] * values_[at];
    n += weights[i];
  }
  double sum = 0.0;
  for (const double each : sums) sum += std::abs(each);
  return sum / n;
}

double WeightedScore::operator()(std::span<const double> weights) const {
  switch (score_) {
    case Score::auc:
    case Score::average_precision:
      return mean_ranking_score(weights);
    case Score::brier:
    case Score::log_loss: {
      double sum = 0.0, n = 0.0;
      for (std::size_t i = 0; i < n_; ++i) {
        sum += weights[i] * values_[i];
        n += weights[i];
      }
      return sum / n;
    }
    case Score::calibration_error:
      return binned_gap(weights);
    default:
      std::fill(confusion_.begin(), confusion_.end(), 0.0);
      for (std::size_t i = 0, at = 0; i < n_; ++i)
        for (std::size_t answer = 0; answer < answers(); ++answer, ++at) confusion_[cells_[at]] += weights[i];
      return of_decisions(score_, is_multi_label_ ? multi_label_decision_scores(confusion_, classes_)
                                                  : decision_scores(confusion_, classes_));
  }
}

}  // namespace graft
