#include "apps/lr_curve.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/svg.h"
#include "kernels/core.h"

namespace graft {
namespace {

struct Range {
  double low = 0, high = 1;
  double share(double value) const { return (value - low) / (high - low); }
};

/// Decimal logarithms of the rates that were tested.
Range decades_of(const RangeTest& test) {
  return {std::log10(test.points.front().lr), std::log10(test.points.back().lr)};
}

/// The losses worth showing: the smoothed curve up to its minimum, half as much above it, and the lowest loss of an
/// update. What diverges leaves the picture, or nothing else could be seen.
Range losses_of(const RangeTest& test) {
  const auto lowest = std::ranges::min_element(test.points, {}, &RangePoint::smoothed);
  const auto highest = std::max_element(test.points.begin(), lowest + 1,
                                        [](const auto& a, const auto& b) { return a.smoothed < b.smoothed; });
  const double fall = highest->smoothed - lowest->smoothed;
  const double low = std::ranges::min_element(test.points, {}, &RangePoint::loss)->loss;
  double high = std::ranges::max_element(test.points, {}, &RangePoint::smoothed)->smoothed;
  if (fall > 0) high = std::min(high, highest->smoothed + fall / 2);
  const double margin = std::max(0.04 * (high - low), 1e-3 * std::abs(high) + 1e-12);
  return {low - margin, high + margin};
}

double smoothed_at(const RangeTest& test, double log_lr) {
  const std::vector<RangePoint>& points = test.points;
  const auto after = std::ranges::lower_bound(points, log_lr, {}, [](const RangePoint& p) { return std::log10(p.lr); });
  if (after == points.begin()) return after->smoothed;
  if (after == points.end()) return points.back().smoothed;
  const double from = std::log10((after - 1)->lr), share = (log_lr - from) / (std::log10(after->lr) - from);
  return std::lerp((after - 1)->smoothed, after->smoothed, share);
}

// The terminal's picture.

constexpr int kMostRows = 17, kColumns = 68, kLabelWidth = 8, kRowsPerLabel = 5;

/// Rows are whole multiples of a round distance, so that their labels are exact.
class Canvas {
 public:
  Canvas(Range x, Range y)
      : x_(x),
        distance_(round_distance(y.low, y.high, kMostRows - 2, {1, 2, 4})),
        lowest_(std::llround(std::floor(y.low / distance_))),
        rows_(std::size_t(std::llround(std::ceil(y.high / distance_)) - lowest_ + 1), std::string(kColumns, ' ')) {}
  int column(double log_lr) const { return int(std::lround(std::clamp(x_.share(log_lr), 0.0, 1.0) * (kColumns - 1))); }
  /// From the bottom; outside the rows if the loss is outside the picture.
  int row(double loss) const {
    return int(std::lround(std::clamp(loss / distance_ - double(lowest_), -1.0, double(rows_.size()))));
  }
  void put(int row, int column, char mark) {
    if (row >= 0 && row < std::ssize(rows_)) rows_[std::size_t(row)][std::size_t(column)] = mark;
  }
  std::string text() const {
    std::string text;
    for (std::int64_t row = std::ssize(rows_) - 1; row >= 0; --row) {
      const std::int64_t multiple = lowest_ + row;
      const std::string label =
          multiple % kRowsPerLabel == 0 ? fmt::format("{:.4g}", double(multiple) * distance_) : std::string();
      std::string line = fmt::format("{:>{}} |{}", label, kLabelWidth, rows_[std::size_t(row)]);
      text += line.erase(line.find_last_not_of(' ') + 1) + "\n";
    }
    return text;
  }

 private:
  Range x_;
  double distance_;
  std::int64_t lowest_;  // row 0 is this multiple of the distance
  std::vector<std::string> rows_;
};

/// The smoothed curve: in every column the rows that it passes.
void draw_smoothed(Canvas& canvas, const RangeTest& test, const Range& x) {
  int before = -1;
  for (int column = 0; column < kColumns; ++column) {
    const int row = canvas.row(smoothed_at(test, std::lerp(x.low, x.high, double(column) / (kColumns - 1))));
    const int from = column == 0 ? row : row > before ? before + 1 : row < before ? before - 1 : row;
    for (int r = std::min(from, row); r <= std::max(from, row); ++r) canvas.put(r, column, '*');
    before = row;
  }
}

/// Axis and labels of the decades; below them A and B.
std::string axis_text(const RangeTest& test, const Canvas& canvas, const Range& x) {
  std::string axis(kColumns, '-'), labels(kColumns + kLabelWidth, ' '), marks(kColumns + 1, ' ');
  std::size_t free_from = 0;
  for (int decade = int(std::ceil(x.low - 1e-9)); decade <= x.high + 1e-9; ++decade) {
    const auto column = std::size_t(canvas.column(decade));
    axis[column] = '+';
    const std::string label = fmt::format("1e{}", decade);
    if (column < free_from || column + label.size() > std::size_t(kColumns + 2)) continue;
    labels.replace(column, label.size(), label);
    free_from = column + label.size() + 2;
  }
  // Two marks that would share a column stand side by side.
  if (test.steepest) marks[std::size_t(canvas.column(std::log10(*test.steepest)))] = 'A';
  if (test.tenth_of_min && std::log10(*test.tenth_of_min) >= x.low) {
    const auto column = std::size_t(canvas.column(std::log10(*test.tenth_of_min)));
    marks[marks[column] == 'A' ? column + 1 : column] = 'B';
  }
  const std::string indent(kLabelWidth, ' ');
  axis[0] = '-';  // beside the corner
  std::string text = indent + " +" + axis + "\n";
  for (std::string line : {indent + "  " + labels, indent + "  " + marks}) {
    line.erase(line.find_last_not_of(' ') + 1);
    if (!line.empty()) text += line + "\n";
  }
  return text;
}

// The picture as SVG.

constexpr double kWidth = 760, kHeight = 460, kLeft = 76, kRight = 24, kTop = 64, kBottom = 64;

struct Frame {
  Range x, y;
  double across(double lr) const { return kLeft + x.share(std::log10(lr)) * (kWidth - kLeft - kRight); }
  double down(double loss) const { return kTop + (1 - y.share(loss)) * (kHeight - kTop - kBottom); }
  static constexpr double bottom() { return kHeight - kBottom; }
  static constexpr double right() { return kWidth - kRight; }
};

std::string grid(const Frame& f) {
  std::string svg;
  for (int decade = int(std::floor(f.x.low)); decade <= f.x.high; ++decade) {
    for (int digit = 1; digit < 10; ++digit) {
      const double lr = digit * std::pow(10, decade), log_lr = std::log10(lr);
      if (log_lr < f.x.low - 1e-9 || log_lr > f.x.high + 1e-9) continue;
      const double x = f.across(lr);
      svg += svg_line(x, digit == 1 ? kTop : f.bottom(), x, f.bottom() + (digit == 1 ? 6 : 3),
                      digit == 1 ? "grid" : "tick");
      if (digit == 1)
        svg += fmt::format(
            "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">10<tspan dy=\"-5\" "
            "font-size=\"9\">{}</tspan></text>\n",
            x, f.bottom() + 22, decade);
    }
  }
  const double distance = round_distance(f.y.low, f.y.high, 7);
  for (double k = std::ceil(f.y.low / distance); k * distance <= f.y.high; ++k) {
    const double y = f.down(k * distance);
    svg += svg_line(kLeft, y, f.right(), y, "grid");
    svg += svg_text(kLeft - 8, y + 4, "end", fmt::format("{:.4g}", k * distance + 0.0));  // 0 instead of -0
  }
  return svg;
}

enum class Side { left, right };

/// A vertical line at a suggested rate with its label on one side.
std::string suggestion(const Frame& f, double lr, std::string_view name, std::string_view style, Side side) {
  if (std::log10(lr) < f.x.low) return {};
  const double x = f.across(lr);
  const bool is_left = side == Side::left && x > kLeft + 160;  // pixels that a label takes
  return svg_line(x, kTop, x, f.bottom(), style) +
         svg_text(is_left ? x - 6 : x + 6, kTop + 16, is_left ? "end" : "start", fmt::format("{}: {:.2g}", name, lr),
                  fmt::format(" class=\"{}-text\"", style));
}

/// The lower rate's label to the left, the higher one's to the right.
std::string suggestions(const Frame& f, const RangeTest& test) {
  if (!test.steepest || !test.tenth_of_min) return {};
  const bool is_lower = *test.steepest < *test.tenth_of_min;
  return suggestion(f, *test.steepest, "steepest descent", "steepest", is_lower ? Side::left : Side::right) +
         suggestion(f, *test.tenth_of_min, "minimum / 10", "tenth", is_lower ? Side::right : Side::left);
}

// What it suggests.

bool is_steepest_within(const RangeTest& test, std::int64_t steps) {
  if (!test.steepest) return false;
  const auto place = std::ranges::find(test.points, *test.steepest, &RangePoint::lr) - test.points.begin();
  return place > steps / 10 && !(test.falls_to_the_end && place + 1 == std::ssize(test.points));
}

bool is_tenth_within(const RangeTest& test) {
  return test.tenth_of_min && !test.falls_to_the_end && *test.tenth_of_min >= test.points.front().lr;
}

std::string tenth_text(const RangeTest& test) {
  if (test.falls_to_the_end) return "(minimum at the edge of the curve: not reliable)";
  if (!is_tenth_within(test)) return "(below the rates tested: not reliable)";
  return fmt::format("(the smoothed loss is smallest at {:.1e})", test.lowest_lr);
}

}  // namespace

std::optional<double> rate_to_start_from(const RangeTest& test, std::int64_t steps) {
  if (!is_steepest_within(test, steps)) return is_tenth_within(test) ? test.tenth_of_min : std::nullopt;
  return is_tenth_within(test) ? std::min(*test.steepest, *test.tenth_of_min) : *test.steepest;
}

std::string suggestions_text(const RangeTest& test, std::int64_t steps) {
  if (!test.tenth_of_min)
    return "The loss did not fall at any rate, so nothing is suggested; more --steps or another range may show more.\n";
  const bool has_a = is_steepest_within(test, steps), has_b = is_tenth_within(test);
  std::string text;
  if (test.steepest)
    text += fmt::format("A  steepest descent  {:.1e}{}\n", *test.steepest,
                        has_a ? "" : "   (at the edge of the curve: not reliable)");
  text += fmt::format("B  minimum / 10      {:.1e}   {}\n", *test.tenth_of_min, tenth_text(test));
  if (test.falls_to_the_end) text += "The loss still falls at the highest rate; a larger --max-lr may show more.\n";
  const std::optional<double> start = rate_to_start_from(test, steps);
  if (!start) return text + "Start from neither; more --steps or a wider range of rates may show more.\n";
  return text + fmt::format("Start from {} ({:.1e}){}\n", start == test.steepest ? "A" : "B", *start,
                            has_a && has_b ? ", the lower; try up to the other if it trains slowly." : ".");
}

std::string terminal_curve(const RangeTest& test) {
  if (test.points.size() < 2) return {};
  const Range x = decades_of(test), y = losses_of(test);
  Canvas canvas(x, y);
  for (const RangePoint& p : test.points) canvas.put(canvas.row(p.loss), canvas.column(std::log10(p.lr)), '.');
  draw_smoothed(canvas, test, x);
  std::string text = fmt::format("{:>{}}    . each update    * smoothed\n", "loss", kLabelWidth);
  return text + canvas.text() + axis_text(test, canvas, x);
}

std::string svg_curve(const RangeTest& test) {
  if (test.points.size() < 2) throw Error("find-lr: a curve needs two finite losses; lower --min-lr");
  const Frame f{decades_of(test), losses_of(test)};
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
      "font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\n"
      "<title>Learning-rate range test</title>\n"
      "<style>.grid{{stroke:#e4e4e4}}.tick{{stroke:#999}}.axis{{stroke:#555;fill:none}}.loss{{fill:#9db4c8}}"
      ".smoothed{{fill:none;stroke:#1f5f99;stroke-width:2.2;stroke-linejoin:round}}"
      ".steepest{{stroke:#c0561a;stroke-dasharray:5 3}}.steepest-text{{fill:#c0561a}}"
      ".tenth{{stroke:#3b7d3b;stroke-dasharray:2 3}}.tenth-text{{fill:#3b7d3b}}</style>\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"#fff\"/>\n"
      "<clipPath id=\"plot\"><rect x=\"{2}\" y=\"{3}\" width=\"{4}\" height=\"{5}\"/></clipPath>\n",
      kWidth, kHeight, kLeft, kTop, kWidth - kLeft - kRight, kHeight - kTop - kBottom);
  svg += svg_text(kLeft, 26, "start", fmt::format("Learning-rate range test: {}, {}", test.architecture, test.strategy),
                  " font-size=\"16\" font-weight=\"bold\"");
  const std::string stage = test.stages > 1 ? fmt::format("stage {} of {}, ", test.stage, test.stages) : std::string();
  svg += svg_text(kLeft, 46, "start",
                  fmt::format("{}{} updates of {} images; points: each update, line: moving average", stage,
                              test.points.size(), test.batch),
                  " fill=\"#666\"");
  svg += grid(f) + "<g clip-path=\"url(#plot)\">\n";
  for (const RangePoint& p : test.points)
    svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2\" class=\"loss\"/>\n", f.across(p.lr),
                       std::clamp(f.down(p.loss), -kHeight, 2 * kHeight));
  svg += "<polyline class=\"smoothed\" points=\"";
  for (const RangePoint& p : test.points)
    svg += fmt::format("{:.1f},{:.1f} ", f.across(p.lr), std::clamp(f.down(p.smoothed), -kHeight, 2 * kHeight));
  svg += "\"/>\n</g>\n";
  svg += fmt::format("<path d=\"M{0} {1}V{2}H{3}\" class=\"axis\"/>\n", kLeft, kTop, f.bottom(), f.right());
  svg += suggestions(f, test);
  svg += svg_text((kLeft + f.right()) / 2, kHeight - 16, "middle", "learning rate");
  svg += fmt::format("<text transform=\"translate(20 {:.0f}) rotate(-90)\" text-anchor=\"middle\">loss</text>\n",
                     (kTop + f.bottom()) / 2);
  return svg + "</svg>\n";
}

std::string csv_curve(const RangeTest& test) {
  std::string csv = "step,lr,loss,smoothed_loss\n";
  std::int64_t step = 0;
  for (const RangePoint& p : test.points)
    csv += fmt::format("{},{:.12g},{:.12g},{:.12g}\n", ++step, p.lr, p.loss, p.smoothed);
  return csv;
}

}  // namespace graft
