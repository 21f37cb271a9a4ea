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
  /// Of several labels per case: each class is an answer.
  bool is_multi_label() const { return is_multi_label_; }
  std::size_t answers() const { return is_multi_label_ ? classes_ : 1; }  // of a case
  /// Of each answer label * classes + predicted, or 4 * class + 2 * holds + predicted.
  std::span<const std::uint32_t> cells() const { return cells_; }
  /// What each case adds to the mean of log_loss and brier; of calibration_error what each answer adds to its bin:
  /// (correct - its probability) / answers().
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

  void take_labels(const Cases& cases);
  void take_label_sets(const Cases& cases);
  void take_answer(double certainty, bool is_right);
  /// `is_of(i)`: whether case i is of the class.
  template <class IsOf>
  void take_ranking(const Cases& cases, std::size_t class_index, const IsOf& is_of);

  double auc(const Ranking& ranking, std::span<const double> weights) const;
  double average_precision(const Ranking& ranking, std::span<const double> weights) const;
  double mean_ranking_score(std::span<const double> weights) const;
  double binned_gap(std::span<const double> weights) const;

  Score score_;
  std::size_t n_, classes_;
  bool is_multi_label_;
  std::vector<std::uint32_t> cells_;
  std::vector<Ranking> rankings_;   // auc, average_precision
  std::vector<double> values_;      // per case: log loss or Brier; per answer: gap
  std::vector<std::uint8_t> bins_;  // calibration_error
  mutable std::vector<double> confusion_;
};

}  // namespace graft
