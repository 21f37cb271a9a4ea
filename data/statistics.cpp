#include "data/statistics.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>

namespace graft {
namespace {

struct ScoreName {
  Score score;
  std::string_view name;
};

constexpr ScoreName kNames[] = {{Score::accuracy, "accuracy"},
                                {Score::macro_accuracy, "macro_accuracy"},
                                {Score::macro_f1, "macro_f1"},
                                {Score::weighted_f1, "weighted_f1"},
                                {Score::kappa, "kappa"},
                                {Score::auc, "auc"},
                                {Score::average_precision, "average_precision"},
                                {Score::sensitivity, "sensitivity"},
                                {Score::specificity, "specificity"},
                                {Score::brier, "brier"},
                                {Score::calibration_error, "calibration_error"},
                                {Score::log_loss, "log_loss"}};
static_assert(std::size(kNames) == std::size(kScores));

}  // namespace

std::string_view name(Score score) { return std::ranges::find(kNames, score, &ScoreName::score)->name; }

std::optional<Score> score_named(std::string_view name) {
  const auto found = std::ranges::find(kNames, name, &ScoreName::name);
  if (found == std::end(kNames)) return std::nullopt;
  return found->score;
}

bool higher_is_better(Score score) {
  return score != Score::brier && score != Score::calibration_error && score != Score::log_loss;
}

double score(Score score, const Metrics& m) {
  switch (score) {
    case Score::accuracy:
      return m.accuracy;
    case Score::macro_accuracy:
      return m.macro_accuracy;
    case Score::macro_f1:
      return m.macro_f1;
    case Score::weighted_f1:
      return m.weighted_f1;
    case Score::kappa:
      return m.kappa;
    case Score::auc:
      return m.auc;
    case Score::average_precision:
      return m.average_precision;
    case Score::sensitivity:
      return m.sensitivity;
    case Score::specificity:
      return m.specificity;
    case Score::brier:
      return m.brier;
    case Score::calibration_error:
      return m.calibration_error;
    case Score::log_loss:
      return m.loss;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

double score(Score which, const Cases& cases) {
  return score(which, compute_metrics(cases.probabilities, cases.labels, cases.classes));
}

std::vector<double> holm(std::span<const double> p) {
  std::vector<double> corrected(p.begin(), p.end());
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (!std::isnan(p[i])) order.push_back(i);
  }
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p[a] < p[b]; });
  double largest = 0.0;
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    largest = std::max(largest, std::min(1.0, p[order[rank]] * static_cast<double>(order.size() - rank)));
    corrected[order[rank]] = largest;
  }
  return corrected;
}

void correct_together(std::span<Comparison* const> comparisons, double level) {
  std::vector<double> p;
  for (const Comparison* comparison : comparisons) p.push_back(comparison->p);
  const std::vector<double> corrected = holm(p);
  for (std::size_t i = 0; i < comparisons.size(); ++i) {
    comparisons[i]->p_holm = corrected[i];
    comparisons[i]->is_distinguishable = corrected[i] < 1.0 - level;
  }
}

}  // namespace graft
