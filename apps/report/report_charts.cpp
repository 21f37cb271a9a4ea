#include "apps/report/report_charts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "apps/report/report_words.h"

namespace graft {
namespace {

constexpr double kNoPoint = std::numeric_limits<double>::quiet_NaN();  // a gap in the curve
constexpr ChartSize kPanel{.width = 260, .height = 170, .font = 11};

std::string plain(double v) { return fmt::format("{:.4g}", v); }

/// Strategies in the order of their mean ranks.
std::vector<std::size_t> rank_order(const RankTest& test) {
  std::vector<std::size_t> order(test.mean_ranks.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return test.mean_ranks[i]; });
  return order;
}

/// A filled area between two lines.
std::string band(const std::vector<double>& x, const std::vector<double>& low, const std::vector<double>& high,
                 std::string_view style) {
  std::string d;
  for (std::size_t i = 0; i < x.size(); ++i)
    if (std::isfinite(low[i])) d += fmt::format("{}{:.1f} {:.1f}", d.empty() ? 'M' : 'L', x[i], low[i]);
  for (std::size_t i = x.size(); i-- > 0;)
    if (std::isfinite(high[i])) d += fmt::format("L{:.1f} {:.1f}", x[i], high[i]);
  return d.empty() ? d : fmt::format("<path class=\"band {}\" d=\"{}z\"/>\n", style, d);
}

std::vector<double> placed(const std::vector<double>& values, const std::function<double(double)>& place) {
  std::vector<double> places;
  for (double v : values) places.push_back(place(v));
  return places;
}

/// Round seconds, minutes and hours within the axis: few over a wide range, more over a narrow one.
std::vector<double> time_ticks(const Axis& axis) {
  constexpr double kCoarse[] = {0.1, 1, 10, 60, 600, 3600, 36000, 360000};
  constexpr double kFine[] = {0.1, 0.2, 0.5,  1,    2,    5,    10,    20,    30,    60,     120,
                              300, 600, 1200, 1800, 3600, 7200, 18000, 36000, 86400, 180000, 360000};
  const auto within = [&](auto& all) {
    std::vector<double> ticks;
    for (double t : all)
      if (t >= axis.low && t <= axis.high) ticks.push_back(t);
    return ticks;
  };
  const std::vector<double> coarse = within(kCoarse);
  return coarse.size() >= 3 ? coarse : within(kFine);
}

std::string time_tick_text(double seconds) {
  return seconds < 60     ? fmt::format("{:.4g} s", seconds)
         : seconds < 3600 ? fmt::format("{:.4g} min", seconds / 60)
                          : fmt::format("{:.4g} h", seconds / 3600);
}

/// A name that fits, its middle left out.
std::string fitting(const std::string& name, double width, double font) {
  std::vector<std::string> letters;
  for (char c : name)
    if ((c & 0xC0) != 0x80 || letters.empty())
      letters.emplace_back(1, c);
    else
      letters.back() += c;
  const auto room = std::size_t(std::max(4.0, width / (0.58 * font)));
  if (letters.size() <= room) return name;
  std::string text;
  for (std::size_t i = 0; i < room / 2; ++i) text += letters[i];
  text += "…";
  for (std::size_t i = letters.size() - (room - room / 2 - 1); i < letters.size(); ++i) text += letters[i];
  return text;
}

/// Lowest and highest of the seeds, all strategies and epochs.
std::vector<double> curve_values(const ReportGroup& group, const CurvePanel& panel) {
  std::vector<double> values;
  for (const ReportEntry& entry : group.entries)
    for (auto member : {panel.train, panel.val}) {
      const SeedBand all = seed_band(entry, member);
      values.insert(values.end(), all.low.begin(), all.low.end());
      values.insert(values.end(), all.high.begin(), all.high.end());
    }
  return values;
}

/// From here on a loss is far off: above three times that of answers at random, and above four times the median of what
/// strategies end with.
double far_off_loss(const ReportGroup& group, const CurvePanel& panel) {
  std::vector<double> last;
  for (const ReportEntry& entry : group.entries)
    for (auto member : {panel.train, panel.val})
      if (const SeedBand all = seed_band(entry, member); !all.mean.empty()) last.push_back(all.mean.back());
  if (last.empty()) return INFINITY;
  std::ranges::sort(last);
  const double at_random = std::log(group.is_multi_label() ? 2.0 : double(std::max<std::int64_t>(group.classes(), 2)));
  return std::max(3 * at_random, 4 * last[(last.size() - 1) / 2]);
}

}  // namespace

std::string strategy_style(std::size_t strategy) {
  constexpr std::size_t kColours = 8;
  return fmt::format("s{}{}", strategy % kColours, strategy >= kColours ? " dashed" : "");
}

// Critical difference.

std::vector<std::pair<std::size_t, std::size_t>> rank_cliques(const RankTest& test) {
  const std::vector<std::size_t> order = rank_order(test);
  std::vector<std::pair<std::size_t, std::size_t>> cliques;
  for (std::size_t first = 0; first < order.size(); ++first) {
    std::size_t last = first;
    while (last + 1 < order.size() &&
           test.mean_ranks[order[last + 1]] - test.mean_ranks[order[first]] <= test.critical_difference)
      ++last;
    if (last > first && (cliques.empty() || last > cliques.back().second)) cliques.emplace_back(first, last);
  }
  return cliques;
}

std::string critical_difference_svg(const ReportRanks& ranks, const ChartSize& size) {
  const RankTest& test = ranks.test;
  const std::vector<std::size_t> order = rank_order(test);
  const std::size_t count = order.size(), on_left = (count + 1) / 2;
  const std::vector<std::pair<std::size_t, std::size_t>> cliques = rank_cliques(test);
  const double f = size.font, label_width = std::max(0.3 * size.width, 13 * size.font), top = 4.2 * f;
  const double bars = top + f, names = bars + f * (0.8 * double(cliques.size()) + 1);
  ChartSize whole = size;
  whole.height = names + 1.5 * f * double(on_left) + 0.4 * f;
  const Axis axis{1, double(count)};
  const auto across = [&](double rank) { return label_width + axis.share(rank) * (size.width - 2 * label_width); };
  std::vector<std::string> words;
  for (std::size_t i : order) words.push_back(fmt::format("{} {:.2f}", ranks.strategies[i], test.mean_ranks[i]));
  std::string svg = svg_begin(whole, "Critical-difference diagram",
                              fmt::format("Mean ranks over {} data sets, 1 is best: {}. Critical difference {:.2f}.",
                                          ranks.datasets.size(), listed(words), test.critical_difference));
  // The length of the critical difference, as far as the axis is long.
  const double cd_end = across(std::min(1 + test.critical_difference, double(count)));
  svg += svg_line(across(1), 1.7 * f, cd_end, 1.7 * f, "axis") + svg_line(across(1), 1.4 * f, across(1), 2 * f, "axis");
  if (1 + test.critical_difference <= double(count)) svg += svg_line(cd_end, 1.4 * f, cd_end, 2 * f, "axis");
  svg += svg_text(across(1), f, "start", fmt::format("critical difference {:.2f}", test.critical_difference));
  svg += svg_line(across(1), top, across(double(count)), top, "axis");
  for (std::size_t rank = 1; rank <= count; ++rank)
    svg += svg_line(across(double(rank)), top - 0.4 * f, across(double(rank)), top, "axis") +
           svg_text(across(double(rank)), top - 0.8 * f, "middle", std::to_string(rank));
  for (std::size_t i = 0; i < count; ++i) {
    const bool is_left = i < on_left;
    const double x = across(test.mean_ranks[order[i]]);
    const double y = names + 1.5 * f * double(is_left ? i : count - 1 - i) + 0.7 * f;
    const double end = is_left ? label_width - 0.5 * f : size.width - label_width + 0.5 * f;
    svg += fmt::format("<path class=\"leader\" d=\"M{:.1f} {:.1f}V{:.1f}H{:.1f}\"/>\n", x, top, y, end);
    svg += svg_text(is_left ? end - 0.4 * f : end + 0.4 * f, y + 0.35 * f, is_left ? "end" : "start",
                    fmt::format("{} {:.2f}", fitting(ranks.strategies[order[i]], label_width - 4 * f, f),
                                test.mean_ranks[order[i]]),
                    " class=\"strong\"");
  }
  for (std::size_t c = 0; c < cliques.size(); ++c) {
    const double y = bars + 0.8 * f * double(c);
    svg += svg_line(across(test.mean_ranks[order[cliques[c].first]]) - 0.3 * f, y,
                    across(test.mean_ranks[order[cliques[c].second]]) + 0.3 * f, y, "clique");
  }
  return svg + "</svg>\n";
}

// Learning curves.

SeedBand seed_band(const ReportEntry& entry, double EpochReport::*value) {
  std::map<std::int64_t, std::vector<double>> by_epoch;
  for (const CellResult* cell : entry.cells)
    for (const EpochReport& row : cell->curve)
      if (std::isfinite(row.*value)) by_epoch[row.epoch].push_back(row.*value);
  SeedBand all;
  for (const auto& [epoch, values] : by_epoch) {
    all.epoch.push_back(double(epoch));
    all.mean.push_back(std::accumulate(values.begin(), values.end(), 0.0) / double(values.size()));
    all.low.push_back(*std::ranges::min_element(values));
    all.high.push_back(*std::ranges::max_element(values));
  }
  return all;
}

SeedBand cut_at(const SeedBand& band, double limit) {
  constexpr std::vector<double> SeedBand::*kLines[] = {&SeedBand::mean, &SeedBand::low, &SeedBand::high};
  SeedBand cut;
  const auto add = [&](std::size_t i, double share) {  // between epoch i and the next
    const std::size_t next = std::min(i + 1, band.epoch.size() - 1);
    cut.epoch.push_back(std::lerp(band.epoch[i], band.epoch[next], share));
    for (auto line : kLines) (cut.*line).push_back(std::lerp((band.*line)[i], (band.*line)[next], share));
  };
  for (std::size_t i = 0; i < band.epoch.size(); ++i) {
    add(i, 0);
    std::vector<double> crossings;
    for (auto line : kLines) {
      if (i + 1 == band.epoch.size()) continue;
      const double here = (band.*line)[i], then = (band.*line)[i + 1];
      if ((here > limit) != (then > limit)) crossings.push_back((limit - here) / (then - here));
    }
    std::ranges::sort(crossings);
    for (double share : crossings) add(i, share);
  }
  const double above = limit + 1e-9 * std::abs(limit);  // a crossing itself is rounded
  for (double& v : cut.mean) v = v > above ? kNoPoint : std::min(v, limit);
  for (double& v : cut.low) v = std::min(v, limit);
  for (double& v : cut.high) v = std::min(v, limit);
  return cut;
}

Axis curve_axis(const ReportGroup& group, const CurvePanel& panel) {
  std::vector<double> values = curve_values(group, panel);
  if (panel.is_loss) {
    const double far_off = far_off_loss(group, panel);
    std::erase_if(values, [&](double v) { return v > far_off; });
  }
  return Axis::around(values);
}

bool is_cut(const ReportGroup& group, const CurvePanel& panel, const Axis& y) {
  return std::ranges::any_of(curve_values(group, panel), [&](double v) { return v > y.high; });
}

std::int64_t most_epochs(const ReportGroup& group) {
  std::int64_t most = 1;
  for (const ReportEntry& entry : group.entries)
    for (const CellResult* cell : entry.cells)
      for (const EpochReport& row : cell->curve) most = std::max(most, row.epoch);
  return most;
}

std::string learning_curve_svg(const ReportEntry& entry, std::size_t strategy, const CurvePanel& panel, const Axis& y,
                               std::int64_t epochs) {
  const SeedBand train = seed_band(entry, panel.train), val = seed_band(entry, panel.val);
  const SeedBand shown_train = cut_at(train, y.high), shown_val = cut_at(val, y.high);
  double highest = y.high;
  for (const SeedBand* all : {&train, &val})
    for (double v : all->high) highest = std::max(highest, v);
  const Plot plot{kPanel, {0.5, double(epochs) + 0.5}, y, 36, 8, 22, 32};
  const std::string style = strategy_style(strategy);
  const auto across = [&](double e) { return plot.across(e); };
  const auto down = [&](double v) { return plot.down(v); };
  std::string description = "No epoch is finished.";
  if (!val.mean.empty())
    description = fmt::format("Validation {} goes from {} to {} in {:.0f} epochs; training ends at {}.", panel.title,
                              number_text(val.mean.front()), number_text(val.mean.back()), val.epoch.back(),
                              train.mean.empty() ? "–" : number_text(train.mean.back()));
  std::string svg = svg_begin(kPanel, fmt::format("{}: {} by epoch", entry.strategy, panel.title), description);
  const bool has_more = highest > y.high;
  svg +=
      svg_text(plot.left, 14, "start", fitting(entry.strategy, has_more ? 125 : 170, 11), " class=\"strong\"") +
      svg_text(plot.end(), 14, "end", has_more ? fmt::format("{}, up to {:.3g}", panel.title, highest) : panel.title);
  std::vector<double> whole;
  const double distance = std::max(1.0, round_distance(0, double(epochs), 6));
  for (double e = distance; e <= double(epochs); e += distance) whole.push_back(e);
  if (distance > 1) whole.insert(whole.begin(), 1);
  svg += plot.x_grid(whole, plain) + plot.y_grid(y.ticks(4), plain);
  for (const auto& [shown, band_style] : {std::pair(&shown_train, std::string("train")), std::pair(&shown_val, style)})
    svg += band(placed(shown->epoch, across), placed(shown->low, down), placed(shown->high, down), band_style);
  svg += svg_path(placed(shown_train.epoch, across), placed(shown_train.mean, down), "line train");
  svg += svg_path(placed(shown_val.epoch, across), placed(shown_val.mean, down), "line " + style);
  if (val.epoch.size() == 1 && val.mean[0] <= y.high)  // one epoch is no line
    svg += fmt::format("<circle class=\"mark {}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"/>\n", style,
                       plot.across(val.epoch[0]), plot.down(val.mean[0]));
  if (val.epoch.empty()) svg += svg_text((plot.left + plot.end()) / 2, plot.size.height / 2, "middle", "nothing yet");
  return svg + svg_text((plot.left + plot.end()) / 2, kPanel.height - 3, "middle", "epoch") + "</svg>\n";
}

// Time and score.

std::string time_score_svg(const StudyReport& report, const ReportGroup& group, const ChartSize& size) {
  std::vector<double> times, scores;
  std::vector<std::string> words;
  for (const ReportEntry& entry : group.entries) {
    if (!entry.has_scores()) continue;
    const Interval& interval = entry.interval(report.score);
    times.push_back(std::max(entry.train_seconds, 0.1));
    for (double v : {interval.low, interval.estimate, interval.high}) scores.push_back(v);
    words.push_back(
        fmt::format("{} {} in {}", entry.strategy, number_text(interval.estimate), time_text(entry.train_seconds)));
  }
  const double f = size.font;
  const Plot plot{size, Axis::around(times, true), Axis::around(scores), 4 * f, 1.2 * f, 2.2 * f, 3.4 * f};
  std::string svg =
      svg_begin(size, "Training time and score", words.empty() ? "Nothing is finished." : listed(words) + ".");
  svg += plot.x_grid(time_ticks(plot.x), time_tick_text);
  svg += plot.y_grid(plot.y.ticks(), plain);
  for (std::size_t i = 0; i < group.entries.size(); ++i) {
    const ReportEntry& entry = group.entries[i];
    const Interval& interval = entry.interval(report.score);
    if (!entry.has_scores() || !std::isfinite(interval.estimate)) continue;
    const double x = plot.across(std::max(entry.train_seconds, 0.1)), y = plot.down(interval.estimate);
    const std::string style = strategy_style(i);
    if (std::isfinite(interval.low))
      svg += svg_line(x, plot.down(interval.low), x, plot.down(interval.high), "line " + style);
    svg += fmt::format(
        "<circle class=\"dot mark {}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\"><title>{}</title></circle>\n", style, x,
        y, 0.42 * f,
        escaped_markup(fmt::format("{}\n{} {} ({})\n{} to train", entry.strategy, words_of(report.score),
                                   number_text(interval.estimate), range_text(interval.low, interval.high),
                                   time_text(entry.train_seconds))));
  }
  svg += svg_text(0, 1.1 * f, "start", words_of(report.score));
  return svg + svg_text((plot.left + plot.end()) / 2, size.height - 0.4 * f, "middle", "time to train one seed") +
         "</svg>\n";
}

// Internals.

InternalsMap internals_map(const Internals& internals) {
  const std::vector<InternalsSeries> series = block_series(internals);
  InternalsMap map;
  map.epochs = internals.records.epoch;
  std::ranges::sort(map.epochs);
  map.epochs.erase(std::ranges::unique(map.epochs).begin(), map.epochs.end());
  for (const InternalsSeries& s : series) {
    map.blocks.push_back(s.name);
    for (auto [from, to] : {std::pair{&s.relative_gradient_norm, &map.relative_gradient},
                            std::pair{&s.update_ratio, &map.update_ratio}}) {
      to->emplace_back();
      for (std::int64_t epoch : map.epochs) {
        double sum = 0;
        std::int64_t count = 0;
        for (std::size_t r = 0; r < from->size(); ++r)
          if (internals.records.epoch[r] == epoch && std::isfinite((*from)[r])) sum += (*from)[r], ++count;
        to->back().push_back(count > 0 ? sum / double(count) : kNoPoint);
      }
    }
  }
  return map;
}

Axis internals_scale(const std::vector<InternalsMap>& maps, std::vector<std::vector<double>> InternalsMap::*quantity) {
  std::vector<double> values;
  for (const InternalsMap& map : maps)
    for (const std::vector<double>& row : map.*quantity) values.insert(values.end(), row.begin(), row.end());
  return Axis::around(values, true);
}

std::string internals_svg(const InternalsMap& map, std::vector<std::vector<double>> InternalsMap::*quantity,
                          const Axis& scale, std::string_view title) {
  constexpr std::size_t kShades = 9;
  const std::vector<std::vector<double>>& rows = map.*quantity;
  const double left = 78, top = 22, bottom = 30, row_height = 15;
  const ChartSize size{.width = 300, .height = top + bottom + row_height * double(rows.size()), .font = 11};
  const double cell_width = (size.width - left - 6) / double(std::max<std::size_t>(map.epochs.size(), 1));
  std::array<std::string, kShades> shades;
  std::string frozen, crosses, words;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    double first = kNoPoint, last = kNoPoint;
    for (std::size_t e = 0; e < rows[r].size(); ++e) {
      const double x = left + cell_width * double(e), y = top + row_height * double(r), v = rows[r][e];
      const std::string box =
          fmt::format("M{:.1f} {:.1f}h{:.1f}v{:.1f}h-{:.1f}z", x, y, cell_width, row_height, cell_width);
      if (std::isfinite(v)) {
        const double share = v > 0 ? std::clamp(scale.share(v), 0.0, 1.0) : 0;
        shades[std::min(kShades - 1, std::size_t(share * kShades))] += box;
        if (std::isnan(first)) first = v;
        last = v;
      } else {
        frozen += box;
        crosses += fmt::format("M{:.1f} {:.1f}l{:.1f} -{:.1f}", x, y + row_height, cell_width, row_height);
      }
    }
    words += std::isnan(first) ? fmt::format("{}: frozen. ", map.blocks[r])
                               : fmt::format("{}: {:.2g} to {:.2g}. ", map.blocks[r], first, last);
  }
  std::string svg = svg_begin(size, title, words);
  svg += svg_text(left, 14, "start", title, " class=\"strong\"");
  if (!frozen.empty())
    svg += fmt::format("<path class=\"frozen\" d=\"{}\"/><path class=\"cross\" d=\"{}\"/>\n", frozen, crosses);
  for (std::size_t q = 0; q < kShades; ++q)
    if (!shades[q].empty()) svg += fmt::format("<path class=\"q{}\" d=\"{}\"/>\n", q, shades[q]);
  for (std::size_t r = 0; r < rows.size(); ++r)
    svg += svg_text(left - 5, top + row_height * (double(r) + 0.75), "end", fitting(map.blocks[r], left - 6, 11));
  const std::size_t every = std::max<std::size_t>(1, std::size_t(std::ceil(22 / cell_width)));
  for (std::size_t e = 0; e < map.epochs.size(); e += every)
    svg += svg_text(left + cell_width * (double(e) + 0.5), size.height - bottom + 13, "middle",
                    std::to_string(map.epochs[e]));
  return svg + svg_text((left + size.width) / 2, size.height - 3, "middle", "epoch") + "</svg>\n";
}

}  // namespace graft
