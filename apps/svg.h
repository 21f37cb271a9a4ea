// Pieces of charts as SVG: text, lines, axes with round ticks, the frame of a plot. Whole charts are in roofline.h,
// lr_curve.h and report/. Colours come from the style of the page or file around a chart, by class.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

/// Pixels of a chart's own coordinates; pages scale it to the width that there is.
struct ChartSize {
  double width = 860, height = 440, font = 12;
};

/// Text as HTML and XML have it, inside elements and attributes. Control characters, which XML cannot hold, are
/// dropped.
std::string escaped_markup(std::string_view text);

/// Opening tag of a chart inside a page, with what it is for those who cannot see it. `style`: further classes.
std::string svg_begin(const ChartSize& size, std::string_view title, std::string_view description = {},
                      std::string_view style = {});
/// `anchor`: start, middle or end; `more`: further attributes, with a space before each.
std::string svg_text(double x, double y, std::string_view anchor, std::string_view words, std::string_view more = {});
std::string svg_line(double x1, double y1, double x2, double y2, std::string_view style);
/// Straight lines through the points; a point that is not finite interrupts them. Empty without two neighbours.
std::string svg_path(const std::vector<double>& x, const std::vector<double>& y, std::string_view style,
                     std::string_view more = {});

/// The smallest of `factors` times a power of ten that divides the range into at most `parts`. Requires low < high.
double round_distance(double low, double high, int parts, std::initializer_list<double> factors = {1, 2, 5});

/// Values from `low` to `high` along one side of a plot. Requires low < high, of logarithmic axes 0 < low.
struct Axis {
  double low = 0, high = 1;
  bool is_log = false;

  /// A little more than the values; those that are not finite (or, of logarithmic axes, positive) do not count. 0 to 1
  /// without any.
  static Axis around(const std::vector<double>& values, bool is_log = false);
  /// 0 at low, 1 at high.
  double share(double value) const;
  /// Round values within the axis: about `parts` of them; of logarithmic axes powers of ten and, over few decades, 2
  /// and 5 times these.
  std::vector<double> ticks(int parts = 5) const;
};

/// Places inside a chart whose axes leave `left`, `right`, `top` and `bottom` pixels free around them.
struct Plot {
  ChartSize size;
  Axis x, y;
  double left = 0, right = 0, top = 0, bottom = 0;

  double across(double value) const { return left + x.share(value) * (size.width - left - right); }
  double down(double value) const { return size.height - bottom - y.share(value) * (size.height - top - bottom); }
  double end() const { return size.width - right; }
  double floor() const { return size.height - bottom; }

  /// A line (class grid) and a label at each value. Labels that would touch the one before are left out.
  template <class Label>
  std::string x_grid(const std::vector<double>& values, Label label) const {
    std::string svg;
    double labelled_to = 0;
    for (double v : values) {
      svg += svg_line(across(v), top, across(v), floor(), "grid");
      const std::string words = label(v);
      const double half_width = 0.33 * size.font * double(words.size());
      if (across(v) - half_width < labelled_to) continue;
      labelled_to = across(v) + half_width;
      svg += svg_text(across(v), floor() + 1.4 * size.font, "middle", words);
    }
    return svg;
  }
  template <class Label>
  std::string y_grid(const std::vector<double>& values, Label label) const {
    std::string svg;
    for (double v : values)
      svg += svg_line(left, down(v), end(), down(v), "grid") +
             svg_text(left - 0.5 * size.font, down(v) + 0.35 * size.font, "end", label(v));
    return svg;
  }
};

}  // namespace graft
