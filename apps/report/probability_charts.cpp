// Charts of what probabilities are worth: ROC, precision and recall, reliability.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "apps/report/report_charts.h"
#include "apps/report/report_words.h"

namespace graft {
namespace {

constexpr int kGridPoints = 101;

/// What the curves of a class start from.
struct OneVsRest {
  std::vector<double> scores;
  std::vector<std::uint8_t> is_positive;
  bool has_both() const {
    const auto positives = std::ranges::count(is_positive, 1);
    return positives > 0 && positives < std::ssize(is_positive);
  }
};

OneVsRest one_vs_rest(const Cases& cases, std::int64_t positive) {
  OneVsRest out;
  for (std::size_t i = 0; i < cases.labels.size(); ++i) {
    out.scores.push_back(cases.probabilities[i * std::size_t(cases.classes) + std::size_t(positive)]);
    out.is_positive.push_back(cases.sets().has(cases.labels[i], positive));
  }
  return out;
}

double roc_at(const std::vector<RocPoint>& curve, double x) {
  // The last point at or left of x: the upper end of a rise.
  const auto after = std::ranges::upper_bound(curve, x + 1e-12, {}, &RocPoint::false_positive_rate);
  const RocPoint& before = *(after - 1);
  if (after == curve.end() || before.false_positive_rate >= x - 1e-12) return before.true_positive_rate;
  const double share = (x - before.false_positive_rate) / (after->false_positive_rate - before.false_positive_rate);
  return std::lerp(before.true_positive_rate, after->true_positive_rate, share);
}

double precision_at(const std::vector<PrecisionRecallPoint>& curve, double x) {
  const auto reached = std::ranges::lower_bound(curve, x - 1e-12, {}, &PrecisionRecallPoint::recall);
  // The point without cases says nothing about precision.
  if (reached == curve.begin() && curve.size() > 1) return curve[1].precision;
  return reached == curve.end() ? curve.back().precision : reached->precision;
}

template <class Curve, class At>
UnitCurve mean_curve(const ReportGroup& group, const ReportEntry& entry, const Curve& curve_of, const At& at) {
  UnitCurve mean;
  std::vector<double> sums(kGridPoints, 0.0);
  int count = 0;
  for (const Cases& cases : group.cases(entry)) {
    for (std::int64_t c = group.classes() == 2 && !group.is_multi_label() ? 1 : 0; c < group.classes(); ++c) {
      const OneVsRest one = one_vs_rest(cases, c);
      if (!one.has_both()) continue;
      const auto curve = curve_of(one.scores, one.is_positive);
      for (int i = 0; i < kGridPoints; ++i) sums[std::size_t(i)] += at(curve, double(i) / (kGridPoints - 1));
      ++count;
    }
  }
  if (count == 0) return mean;
  for (int i = 0; i < kGridPoints; ++i) {
    mean.x.push_back(double(i) / (kGridPoints - 1));
    mean.y.push_back(sums[std::size_t(i)] / count);
  }
  return mean;
}

/// Of all seeds; of several labels per image every class is an answer of two.
struct Answers {
  std::vector<double> probabilities;
  std::vector<std::int32_t> labels;
  std::int64_t classes = 2;
};

Answers all_answers(const ReportGroup& group, const ReportEntry& entry) {
  Answers all;
  const auto add = [&](const std::vector<double>& probabilities, const std::vector<std::int32_t>& labels) {
    all.probabilities.insert(all.probabilities.end(), probabilities.begin(), probabilities.end());
    all.labels.insert(all.labels.end(), labels.begin(), labels.end());
  };
  if (!group.is_multi_label()) all.classes = group.classes();
  for (const SeedAnswers& seed : entry.seeds) {
    if (!group.is_multi_label()) add(seed.probabilities, group.labels);
    for (std::int64_t c = 0; group.is_multi_label() && c < group.classes(); ++c) {
      const BinaryCases one = binary_cases(seed.probabilities, group.labels, group.classes(), group.label_sets, c);
      add(one.probabilities, one.labels);
    }
  }
  return all;
}

std::string share_text(double v) { return fmt::format("{:.1f}", v); }
const std::vector<double> kFifths{0, 0.2, 0.4, 0.6, 0.8, 1};

}  // namespace

UnitCurve mean_roc(const ReportGroup& group, const ReportEntry& entry) {
  UnitCurve curve = mean_curve(group, entry, roc_curve, roc_at);
  if (!curve.x.empty()) curve.x.insert(curve.x.begin(), 0), curve.y.insert(curve.y.begin(), 0);
  return curve;
}

UnitCurve mean_precision_recall(const ReportGroup& group, const ReportEntry& entry) {
  return mean_curve(group, entry, precision_recall_curve, precision_at);
}

std::string unit_chart_svg(const ReportGroup& group, UnitChart chart, const ChartSize& size) {
  const bool is_roc = chart == UnitChart::roc;
  const Score area = is_roc ? Score::auc : Score::average_precision;
  const double f = size.font;
  const Plot plot{size, {0, 1}, {0, 1}, 3.4 * f, 1.2 * f, 2.2 * f, 3.4 * f};
  std::string lines;
  std::vector<std::string> words;
  for (std::size_t i = 0; i < group.entries.size(); ++i) {
    const ReportEntry& entry = group.entries[i];
    const UnitCurve curve = is_roc ? mean_roc(group, entry) : mean_precision_recall(group, entry);
    if (curve.x.empty()) continue;
    std::vector<double> x, y;
    for (double v : curve.x) x.push_back(plot.across(v));
    for (double v : curve.y) y.push_back(plot.down(v));
    lines += svg_path(x, y, "line " + strategy_style(i));
    words.push_back(fmt::format("{} {}", entry.strategy, number_text(entry.interval(area).estimate)));
  }
  const std::string title = is_roc ? "ROC curves" : "Precision and recall";
  std::string svg = svg_begin(
      size, title, words.empty() ? "Nothing to show." : fmt::format("{}: {}.", heading_of(area), listed(words)));
  svg += plot.x_grid(kFifths, share_text) + plot.y_grid(kFifths, share_text);
  if (is_roc) svg += svg_line(plot.across(0), plot.down(0), plot.across(1), plot.down(1), "chance");
  svg += lines;
  if (words.empty()) svg += svg_text(size.width / 2, size.height / 2, "middle", "nothing to show");
  svg += svg_text((plot.left + plot.end()) / 2, size.height - 0.4 * f, "middle",
                  is_roc ? "false positive rate" : "recall");
  return svg + svg_text(0, 1.1 * f, "start", is_roc ? "true positive rate" : "precision") + "</svg>\n";
}

std::string reliability_svg(const ReportGroup& group, std::size_t index) {
  const ReportEntry& entry = group.entries[index];
  const ChartSize size{.width = 190, .height = 202, .font = 11};
  const Plot plot{size, {0, 1}, {0, 1}, 30, 15, 28, 34};  // the largest dot has a radius of 10.5
  const auto [probabilities, labels, classes] = all_answers(group, entry);
  std::string dots, words;
  std::vector<double> x, y;
  if (!labels.empty()) {
    for (const ReliabilityBin& bin : reliability_diagram(probabilities, labels, classes)) {
      if (bin.n == 0) continue;
      x.push_back(plot.across(bin.mean_probability)), y.push_back(plot.down(bin.accuracy));
      const double radius = 1.5 + 9 * std::sqrt(double(bin.n) / double(labels.size()));
      dots += fmt::format(
          "<circle class=\"dot mark {}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\"><title>{} at probability "
          "{:.2f}: {:.2f} right</title></circle>\n",
          strategy_style(index), x.back(), y.back(), radius, counted(bin.n, "answer", "answers"), bin.mean_probability,
          bin.accuracy);
      words += fmt::format("{:.2f}: {:.2f} ({}). ", bin.mean_probability, bin.accuracy, bin.n);
    }
  }
  std::string svg =
      svg_begin(size, fmt::format("{}: reliability", entry.strategy),
                words.empty() ? "Nothing to show." : "Probability, accuracy and number of answers: " + words);
  svg += svg_text(plot.left, 14, "start", entry.strategy, " class=\"strong\"");
  svg += plot.x_grid({0, 0.5, 1}, share_text) + plot.y_grid({0, 0.5, 1}, share_text);
  svg += svg_line(plot.across(0), plot.down(0), plot.across(1), plot.down(1), "chance");
  svg += svg_path(x, y, "thin " + strategy_style(index)) + dots;
  return svg + svg_text((plot.left + plot.end()) / 2, size.height - 4, "middle", "top probability") + "</svg>\n";
}

}  // namespace graft
