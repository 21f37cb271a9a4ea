// The numbers of a study's report, computed once from what the trainings gave: scores with intervals, comparisons,
// ranks. Every table, chart and sentence is made from these, so that all of them agree. Nothing here knows how a report
// looks: the page is report_page.h, the tables report_tables.h, the sentences report_words.h.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "data/leakage.h"
#include "data/statistics.h"
#include "strategies/study/results.h"

namespace graft {

/// What one seed's network answered on the test images; with folds, on the images of all folds, fold after fold.
struct SeedAnswers {
  std::int64_t seed = 0;
  std::vector<const CellResult*> cells;  // one, or one per fold
  std::vector<double> probabilities;     // (n, classes)
  double score = 0;                      // by the study's score
};

/// One strategy of one network on one data set.
struct ReportEntry {
  std::string strategy;
  std::vector<const CellResult*> cells;  // all that the study plans, finished or not
  std::int64_t finished = 0, failed = 0;
  std::vector<SeedAnswers> seeds;                      // those whose every fold is finished
  std::array<Interval, std::size(kScores)> intervals;  // in the order of Score; NaN without a seed
  VarianceParts variance;                              // of the mean over seeds
  double train_seconds = 0;                            // mean of a seed, all folds; NaN without a seed
  double lr_min = 0, lr_max = 0;                       // of the finished cells
  /// This minus the best (of several best the one from which it is hardest to tell apart); none: it is among the best,
  /// or cannot be compared.
  std::optional<Comparison> to_best;

  const Interval& interval(Score score) const { return intervals[static_cast<std::size_t>(score)]; }
  bool has_scores() const { return !seeds.empty(); }
};

/// The strategies of one network on one data set: what is compared with each other, on the same test images.
struct ReportGroup {
  std::string network, dataset;
  std::vector<std::string> class_names;
  std::vector<ReportEntry> entries;        // in the study's order
  std::vector<PairComparison> pairs;       // indices into entries; corrected together
  std::optional<std::size_t> best;         // of entries, the first of equals; none without a defined score
  std::vector<std::string> paths;          // (n): the test images
  std::vector<std::int32_t> labels;        // (n)
  LabelSets label_sets;                    // what they stand for
  std::vector<std::int64_t> clusters;      // (n), or empty: each image is its own
  std::int64_t named_groups = 0;           // patients, say; 0: none known
  std::vector<std::int64_t> class_counts;  // of the test images
  std::vector<std::string> excluded;       // ids of finished cells with other test images or classes than the first's

  std::int64_t classes() const { return std::ssize(class_names); }
  bool is_multi_label() const { return label_sets.is_multi_label(); }
  std::int64_t images() const { return std::ssize(labels); }
  Cases cases(const SeedAnswers& seed) const { return {seed.probabilities, labels, clusters, classes(), &label_sets}; }
  std::vector<Cases> cases(const ReportEntry& entry) const;
  /// Whether the entry has the best score, alone or with others. Means of the same scores in another order of seeds are
  /// equal, although their last bits may differ.
  bool is_best(std::size_t entry, Score score) const;
  std::vector<std::size_t> best_entries(Score score) const;
};

/// Ranks of a network's strategies over its data sets.
struct ReportRanks {
  std::string network;
  std::vector<std::string> strategies, datasets;  // those with a score everywhere
  RankTest test;
};

struct StudyReport {
  const StudyResults* results = nullptr;
  std::map<std::string, LeakageReport> leakage;  // by data set; none: not checked
  Score score = Score::macro_accuracy;
  BootstrapSpec bootstrap;
  std::vector<ReportGroup> groups;  // network after network, in the study's order
  std::vector<ReportRanks> ranks;   // of networks with scores on at least kRankedDatasets data sets
  std::int64_t cells = 0, finished = 0, failed = 0;
  std::int64_t comparison_resamples = 0;  // bootstrap.resamples, or more: see ReportSpec

  static constexpr std::size_t kRankedDatasets = 5;
  bool is_complete() const { return finished == cells; }
  std::int64_t pairs() const;  // compared in all groups, and corrected together
};

struct ReportSpec {
  BootstrapSpec bootstrap;  // comparisons take more resamples where Holm's correction of many pairs needs them
  int threads = 1;
  std::map<std::string, LeakageReport> leakage;
  std::function<void(const std::string& what, std::int64_t done, std::int64_t all)> progress;  // may be empty
};

/// `results` must outlive the report. A study without a finished cell gives a report without scores.
/// Errors: a score in the study that is none.
StudyReport make_report(const StudyResults& results, const ReportSpec& spec);

/// Of two values of the score, whether the first is better; NaN is worse than all.
bool is_better(Score score, double a, double b);

}  // namespace graft
