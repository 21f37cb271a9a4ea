// The charts of a study's report, as SVG. Panels are small and stand side by side, so that a phone shows them one below
// the other at the same size. Colours come from the page's style: .s0 to .s7 for the lines of strategies, .q0 to .q8
// for cells of a map, .frozen for what did not train.
#pragma once

#include <string>
#include <vector>

#include "apps/report/report_numbers.h"
#include "apps/svg.h"
#include "data/internals.h"

namespace graft {

/// "s3", and from the ninth strategy on "s0 dashed".
std::string strategy_style(std::size_t strategy);

/// Mean ranks on one line, 1 at the left; bars join strategies that Nemenyi's test does not tell apart.
std::string critical_difference_svg(const ReportRanks& ranks, const ChartSize& size);

/// Groups of neighbours in rank order that lie within the critical difference, none within another: first and last
/// position of each, in the order of mean ranks.
std::vector<std::pair<std::size_t, std::size_t>> rank_cliques(const RankTest& test);

/// What one panel of learning curves shows.
struct CurvePanel {
  std::string title;
  double EpochReport::*train = nullptr;
  double EpochReport::*val = nullptr;
  bool is_loss = false;
};
inline const CurvePanel kAccuracyPanel{"accuracy", &EpochReport::train_accuracy, &EpochReport::val_macro_accuracy};
inline const CurvePanel kAnswersPanel{"accuracy", &EpochReport::train_accuracy, &EpochReport::val_accuracy};
inline const CurvePanel kLossPanel{"loss", &EpochReport::train_loss, &EpochReport::val_loss, true};

/// Of one strategy, over the epochs: the mean over its runs as a line, their extremes as a band, validation strong and
/// training dashed. `y` is common to all strategies of a group; see curve_axis.
std::string learning_curve_svg(const ReportEntry& entry, std::size_t strategy, const CurvePanel& panel, const Axis& y,
                               std::int64_t epochs);
/// Of the loss not always as far as the values go: those of one strategy far above all others would make lines at the
/// bottom of these. The axis ends at the largest that is not above both three times ln(classes), the loss of answers at
/// random (of several labels ln 2), and four times the median of what strategies end with.
Axis curve_axis(const ReportGroup& group, const CurvePanel& panel);
/// Whether values lie above the axis: lines end at its upper edge there, and a panel's heading says how far they go.
bool is_cut(const ReportGroup& group, const CurvePanel& panel, const Axis& y);
/// Longest run of a group.
std::int64_t most_epochs(const ReportGroup& group);

/// Mean over the seeds of a strategy, at each epoch that one of them has.
struct SeedBand {
  std::vector<double> epoch, mean, low, high;
};
SeedBand seed_band(const ReportEntry& entry, double EpochReport::*value);
/// The part of a band at or below the limit, with a point where each of its lines crosses it; a mean above is NaN.
SeedBand cut_at(const SeedBand& band, double limit);

/// A line on a grid of x from 0 to 1, the mean over seeds and, of more than two classes, over classes.
struct UnitCurve {
  std::vector<double> x, y;
};
/// True positive rate over false positive rate.
UnitCurve mean_roc(const ReportGroup& group, const ReportEntry& entry);
/// Precision over recall: that of the highest threshold which reaches the recall.
UnitCurve mean_precision_recall(const ReportGroup& group, const ReportEntry& entry);

enum class UnitChart { roc, precision_recall };
/// All strategies of a group in one chart.
std::string unit_chart_svg(const ReportGroup& group, UnitChart chart, const ChartSize& size);

/// Accuracy over top probability of one strategy, in 15 bins, seeds together; a dot's area grows with its cases.
std::string reliability_svg(const ReportGroup& group, std::size_t entry);

/// Score with its interval over the training time of one seed.
std::string time_score_svg(const StudyReport& report, const ReportGroup& group, const ChartSize& size);

/// Blocks (rows, the input's at the top) over epochs; a cell is the mean of what was recorded in that epoch, frozen
/// blocks are crossed out.
struct InternalsMap {
  std::vector<std::string> blocks;
  std::vector<std::int64_t> epochs;
  std::vector<std::vector<double>> relative_gradient, update_ratio;  // [block][epoch], NaN: did not train
};
InternalsMap internals_map(const Internals& internals);
/// What the cells of several maps span, logarithmic: one scale for all strategies of a group.
Axis internals_scale(const std::vector<InternalsMap>& maps, std::vector<std::vector<double>> InternalsMap::*quantity);
std::string internals_svg(const InternalsMap& map, std::vector<std::vector<double>> InternalsMap::*quantity,
                          const Axis& scale, std::string_view title);

}  // namespace graft
