// Runs (seeds) on the same cases, and their mean score when cases are drawn again or left out: what intervals.cpp and
// comparisons.cpp share. Cases of a cluster are drawn and left out together.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/statistics.h"
#include "data/weighted_score.h"

namespace graft {

/// Which cases go together.
class Clusters {
 public:
  explicit Clusters(const Cases& cases);

  std::size_t count() const { return count_; }
  bool are_cases() const { return are_cases_; }  // every cluster is one case
  std::span<const std::uint32_t> of_cases() const { return of_cases_; }
  /// Cases of each class; of several labels per case then those without it, class by class.
  std::span<const double> count_of_classes() const { return class_count_; }
  /// Over the cases of one class, (sum m)^2 / sum m^2 of the sizes m of its clusters: how many clusters of equal size
  /// they are worth; the number of its cases where every case is its own.
  std::span<const double> effective_count_of_classes() const { return effective_count_; }
  /// The same of all cases.
  double effective_count() const { return effective_count_of_all_; }
  /// Cases, or clusters if that is fewer, of the rarest class (or absence of one) that occurs; and its cases.
  std::int64_t smallest_class_clusters() const { return smallest_clusters_; }
  std::int64_t smallest_class_cases() const { return smallest_cases_; }
  /// Clusters with a case of the rarest class that occurs; of several labels with one that lacks the commonest.
  std::int64_t smallest_present_clusters() const { return smallest_present_; }
  std::int64_t smallest_absent_clusters() const { return smallest_absent_; }

 private:
  std::size_t count_ = 0;
  bool are_cases_ = true;
  std::vector<std::uint32_t> of_cases_;
  std::vector<double> class_count_, effective_count_;
  double effective_count_of_all_ = 0.0;
  std::int64_t smallest_clusters_ = 0, smallest_cases_ = 0, smallest_present_ = 0, smallest_absent_ = 0;
};

/// How a mean score changes without a cluster (or case).
struct Jackknife {
  double estimate = 0.0;
  /// (clusters): estimate - (score without the cluster); 0 where that is undefined.
  std::vector<double> influence;
  double variance = 0.0;      // (K - 1) / K * sum of (influence - mean)^2
  double acceleration = 0.0;  // sum of cubes / (6 * (sum of squares)^1.5), of influences about their mean
};

class ScoredRuns {
 public:
  /// Errors: no runs, sizes that do not match, runs on different cases.
  ScoredRuns(Score score, std::span<const Cases> runs);

  std::size_t cases() const { return labels_.size(); }
  std::size_t classes() const { return runs_.front().classes(); }
  std::span<const std::int32_t> labels() const { return labels_; }
  const Clusters& clusters() const { return clusters_; }
  bool is_multi_label() const { return runs_.front().is_multi_label(); }
  std::span<const WeightedScore> runs() const { return runs_; }

  double estimate() const;  // mean score over runs; NaN if one is
  /// Leaves out clusters in turn; of the mean over runs, or of one run.
  Jackknife jackknife() const;
  Jackknife jackknife_of(std::size_t run) const;
  /// Degrees of freedom of the jackknife variance: each class's share of it (by leaving out single cases) is worth its
  /// effective number of clusters, less one. Ranking scores near 1 hang on few clusters: for them no more than the
  /// number of normal influences with the same fourth moment, less one. Source: Satterthwaite 1946. Of several labels
  /// per case, which classes share, the cases are not divided, and all scores are taken as ranking ones. `known`:
  /// jackknife(), if it was computed.
  double degrees_of_freedom(const Jackknife* known = nullptr) const;

  /// How often resample number `resample` draws each cluster: as many draws as clusters. counts: (clusters).
  void draw(std::uint64_t seed, std::int64_t resample, std::span<double> counts) const;
  /// Mean score over runs with each case as often as its cluster is counted.
  double score_of(std::span<const double> counts, std::span<double> case_weights) const;

 private:
  template <typename Evaluate>
  Jackknife leave_out(const Evaluate& evaluate) const;
  double mean_score(std::span<const double> weights) const;

  std::vector<std::int32_t> labels_;
  Clusters clusters_;
  std::vector<WeightedScore> runs_;
};

/// Throw where a spec makes no sense, and where there are fewer than two clusters.
void check_spec(const BootstrapSpec& spec);
void check_varies(const ScoredRuns& runs);

}  // namespace graft
