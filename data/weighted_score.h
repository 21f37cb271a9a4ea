// A score of the same cases under many weights: how often each was drawn in a resample, or 0 for those left out by the
// jackknife. What sorting and predicting give is found once, so that a resample costs one pass over the cases.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/statistics.h"

namespace graft {

/// Of one run. Not safe for threads to share: it keeps scratch space.
class WeightedScore {
 public:
  /// Checks the cases as compute_metrics does. The cases may go away afterwards.
  WeightedScore(Score score, const Cases& cases);

  /// weights: (n), at least 0; whole numbers say how often a case occurs. Equal to score() of the cases so repeated;
  /// NaN where that is undefined.
  double operator()(std::span<const double> weights) const;

  Score score() const { return score_; }
  std::size_t n() const { return n_; }
  std::size_t classes() const { return classes_; }
  /// label * classes + predicted, of each case.
  std::span<const std::uint32_t> cells() const { return cells_; }
  /// What each case adds: to the mean of log_loss and brier; to its bin of calibration_error, correct - top
  /// probability.
  std::span<const double> values() const { return values_; }
  std::span<const std::uint8_t> bins() const { return bins_; }

 private:
  /// The cases by one class's probability, highest first.
  struct Ranking {
    std::vector<std::uint32_t> at;       // case
    std::vector<double> is_positive;     // 1 if it is of the class, else 0
    std::vector<std::uint8_t> ends_tie;  // the next case has a lower probability
    bool has_ties = false;
  };

  double auc(const Ranking& ranking, std::span<const double> weights) const;
  double average_precision(const Ranking& ranking, std::span<const double> weights) const;
  double mean_ranking_score(std::span<const double> weights) const;
  double binned_gap(std::span<const double> weights) const;

  Score score_;
  std::size_t n_, classes_;
  std::vector<std::uint32_t> cells_;
  std::vector<Ranking> rankings_;   // auc, average_precision
  std::vector<double> values_;      // per case: log loss, Brier, or gap
  std::vector<std::uint8_t> bins_;  // calibration_error
  mutable std::vector<double> confusion_;
};

}  // namespace graft
