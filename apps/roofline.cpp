#include "apps/roofline.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "apps/profile_table.h"

namespace graft {
namespace {

/// One layer and pass.
struct Dot {
  std::string layer;
  const char* pass;
  Cost cost;
  double x = 0, y = 0;
};

std::vector<Dot> dots_of(const Profile& p, bool with_flops) {
  std::vector<Dot> dots;
  const auto add = [&](const std::string& layer, const char* pass, const Cost& c) {
    if (c.seconds <= 0 || c.bytes <= 0 || (c.flops > 0) != with_flops) return;
    const double amount = with_flops ? c.flops : c.bytes;
    dots.push_back({layer, pass, c, with_flops ? c.flops / c.bytes : c.bytes, amount / c.seconds});
  };
  Cost update;
  for (const LayerProfile& layer : p.layers) {
    add(layer.name, "forward", layer.forward);
    add(layer.name, "backward", layer.backward);
    update += layer.update;
  }
  add("optimizer", "update", update);
  // Small dots are drawn last, so that none is hidden.
  std::ranges::stable_sort(dots, std::greater{}, [](const Dot& d) { return d.cost.seconds; });
  return dots;
}

/// Decimal logarithms, a little more than the values need.
struct LogRange {
  double low = 0, high = 1;
  static LogRange around(double least, double most) {
    constexpr double kMargin = 0.12;
    return {std::log10(least) - kMargin, std::log10(most) + kMargin};
  }
  double least() const { return std::pow(10, low); }
  double share(double value) const { return (std::log10(value) - low) / (high - low); }
  /// Powers of ten, and over few decades 2 and 5 times these.
  std::vector<double> ticks() const {
    const std::vector<double> factors = high - low > 2.6 ? std::vector<double>{1} : std::vector<double>{1, 2, 5};
    std::vector<double> ticks;
    for (int d = int(std::floor(low)); d <= int(std::floor(high)); ++d)
      for (double factor : factors)
        if (const double v = factor * std::pow(10, d); share(v) >= 0 && share(v) <= 1) ticks.push_back(v);
    return ticks;
  }
};

/// Powers of a thousand with their prefix.
std::string prefixed(double value, std::string_view unit) {
  constexpr std::string_view kPrefixes[] = {"", "k", "M", "G", "T", "P"};
  std::size_t i = 0;
  for (; value >= 999.5 && i + 1 < std::size(kPrefixes); ++i) value /= 1000;
  const std::string number = fmt::format("{:.3g}", value), name = std::string(kPrefixes[i]) + std::string(unit);
  return name.empty() ? number : number + " " + name;
}

class Chart {
 public:
  Chart(const ChartSize& size, LogRange x, LogRange y) : size_(size), x_(x), y_(y) {}

  double across(double value) const { return left() + x_.share(value) * (right() - left()); }
  double down(double value) const { return bottom() - y_.share(value) * (bottom() - top()); }
  double left() const { return 7.4 * size_.font; }
  double right() const { return size_.width - size_.font; }
  double top() const { return size_.font; }
  double bottom() const { return size_.height - 3.6 * size_.font; }

  std::string begin(std::string_view name) const {
    return fmt::format("<svg viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\" font-size=\"{:.0f}\">\n",
                       size_.width, size_.height, name, size_.font);
  }
  std::string axes(std::string_view x_label, std::string_view x_unit, std::string_view y_unit) const {
    std::string svg;
    double labelled_to = 0;
    for (double v : x_.ticks()) {
      svg += fmt::format("<path class=\"grid\" d=\"M{:.1f} {:.1f}V{:.1f}\"/>\n", across(v), top(), bottom());
      // Labels that would touch the one before are left out.
      const std::string label = prefixed(v, x_unit);
      const double half_width = 0.33 * size_.font * double(label.size());
      if (across(v) - half_width < labelled_to) continue;
      labelled_to = across(v) + half_width;
      svg += text(across(v), bottom() + 1.4 * size_.font, "middle", label);
    }
    for (double v : y_.ticks()) {
      svg += fmt::format("<path class=\"grid\" d=\"M{:.1f} {:.1f}H{:.1f}\"/>\n", left(), down(v), right());
      svg += text(left() - 0.5 * size_.font, down(v) + 0.35 * size_.font, "end", prefixed(v, y_unit));
    }
    svg += text((left() + right()) / 2, bottom() + 3 * size_.font, "middle", x_label);
    return svg;
  }
  std::string dots(const std::vector<Dot>& dots, const std::function<std::string(const Dot&)>& tip,
                   double total_seconds) const {
    std::string svg;
    for (const Dot& d : dots) {
      const double radius = size_.font * (0.22 + 1.6 * std::sqrt(d.cost.seconds / total_seconds));
      svg +=
          fmt::format("<circle class=\"dot {}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\"><title>{}</title></circle>\n",
                      d.pass, across(d.x), down(d.y), radius, escaped_markup(tip(d)));
    }
    return svg;
  }
  static std::string text(double x, double y, std::string_view anchor, std::string_view words,
                          std::string_view more = "") {
    return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y, anchor, more,
                       escaped_markup(words));
  }
  const ChartSize& size() const { return size_; }

 private:
  ChartSize size_;
  LogRange x_, y_;
};

std::string times_text(const Profile& p, const Dot& d) {
  return fmt::format("{}, {}\n{} ms, {:.1f}% of the step", d.layer, d.pass, short_number(1e3 * d.cost.seconds),
                     100 * d.cost.seconds / p.seconds);
}

double of_bound(const Profile& p, const Dot& d) { return bound_of(d.cost, p.limits).seconds / d.cost.seconds; }

std::string nothing_to_show(const ChartSize& size, std::string_view name) {
  const Chart chart(size, {}, {});
  return chart.begin(name) + Chart::text(size.width / 2, size.height / 2, "middle", "no such layer") + "</svg>\n";
}

/// Limits of a chart: the values of all dots and `more`.
LogRange range_of(const std::vector<Dot>& dots, double Dot::*value, std::initializer_list<double> more) {
  double least = *more.begin(), most = least;
  const auto include = [&](double v) { least = std::min(least, v), most = std::max(most, v); };
  for (double v : more) include(v);
  for (const Dot& d : dots) include(d.*value);
  return LogRange::around(least, most);
}

}  // namespace

std::string escaped_markup(std::string_view text) {
  std::string out;
  for (char c : text)
    out += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : c == '"' ? "&quot;" : std::string(1, c);
  return out;
}

std::string roofline_svg(const Profile& p, const ChartSize& size) {
  constexpr std::string_view kName = "Roofline: FLOP/s over FLOPs per byte";
  const std::vector<Dot> dots = dots_of(p, true);
  if (dots.empty()) return nothing_to_show(size, kName);
  const double flops = p.limits.flops_per_second, bytes = p.limits.bytes_per_second, ridge = flops / bytes;
  const LogRange x_range = range_of(dots, &Dot::x, {ridge / 3, ridge * 3});
  const Chart chart(size, x_range, range_of(dots, &Dot::y, {flops, flops / 30}));
  std::string svg = chart.begin(kName) + chart.axes("FLOPs per byte moved", "", "FLOP/s");

  // The roof: the slope of memory up to the ridge, from where computing is the limit.
  const auto roof_at = [&](double x) { return std::min(flops, bytes * x); };
  svg += fmt::format(
      "<clipPath id=\"plot{0:.0f}\"><rect x=\"{1:.1f}\" y=\"{2:.1f}\" width=\"{3:.1f}\" "
      "height=\"{4:.1f}\"/></clipPath>\n",
      size.width, chart.left(), chart.top(), chart.right() - chart.left(), chart.bottom() - chart.top());
  const double first = ridge / 1e6;
  svg += fmt::format(
      "<path class=\"roof\" clip-path=\"url(#plot{:.0f})\" d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}H{:.1f}\"/>\n", size.width,
      chart.across(first), chart.down(roof_at(first)), chart.across(ridge), chart.down(flops), chart.right());
  svg += Chart::text(chart.right() - 0.5 * size.font, chart.down(flops) - 0.5 * size.font, "end",
                     prefixed(flops, "FLOP/s"), " class=\"roof-text\"");
  // The slope's label stands in the middle of what can be seen of it.
  const double slope_x = std::sqrt(ridge * x_range.least()), slope_y = bytes * slope_x;
  const double angle =
      std::atan2(chart.down(bytes * 10) - chart.down(bytes * 100), chart.across(100) - chart.across(10));
  svg += fmt::format("<g transform=\"translate({:.1f} {:.1f}) rotate({:.1f})\">{}</g>\n", chart.across(slope_x),
                     chart.down(slope_y), -angle * 180 / 3.14159265358979,
                     Chart::text(0, -0.5 * size.font, "middle", prefixed(bytes, "B/s"), " class=\"roof-text\""));
  const auto tip = [&](const Dot& d) {
    return fmt::format("{}\n{} at {} (limit {:.0f}%)\n{:.3g} FLOPs per byte, {} moved", times_text(p, d),
                       prefixed(d.cost.flops, "FLOP"), prefixed(d.y, "FLOP/s"), 100 * of_bound(p, d), d.x,
                       prefixed(d.cost.bytes, "B"));
  };
  return svg + chart.dots(dots, tip, p.seconds) + "</svg>\n";
}

std::string bandwidth_svg(const Profile& p, const ChartSize& size) {
  constexpr std::string_view kName = "Bytes per second over bytes of layers without multiply-adds";
  const std::vector<Dot> dots = dots_of(p, false);
  if (dots.empty()) return nothing_to_show(size, kName);
  const double bytes = p.limits.bytes_per_second;
  const Chart chart(size, range_of(dots, &Dot::x, {dots.front().x}), range_of(dots, &Dot::y, {bytes, bytes / 5}));
  std::string svg = chart.begin(kName) + chart.axes("bytes moved", "B", "B/s");
  svg += fmt::format("<path class=\"roof\" d=\"M{:.1f} {:.1f}H{:.1f}\"/>\n", chart.left(), chart.down(bytes),
                     chart.right());
  svg += Chart::text(chart.left() + 0.5 * size.font, chart.down(bytes) - 0.5 * size.font, "start",
                     "copy: " + prefixed(bytes, "B/s"), " class=\"roof-text\"");
  const auto tip = [&](const Dot& d) {
    return fmt::format("{}\n{} moved at {} (limit {:.0f}%)", times_text(p, d), prefixed(d.x, "B"), prefixed(d.y, "B/s"),
                       100 * of_bound(p, d));
  };
  return svg + chart.dots(dots, tip, p.seconds) + "</svg>\n";
}

}  // namespace graft
