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

/// Powers of a thousand with their prefix.
std::string prefixed(double value, std::string_view unit) {
  constexpr std::string_view kPrefixes[] = {"", "k", "M", "G", "T", "P"};
  std::size_t i = 0;
  for (; value >= 999.5 && i + 1 < std::size(kPrefixes); ++i) value /= 1000;
  const std::string number = fmt::format("{:.3g}", value), name = std::string(kPrefixes[i]) + std::string(unit);
  return name.empty() ? number : number + " " + name;
}

/// Both axes logarithmic, room for the labels of rates on the left.
Plot plot_of(const ChartSize& size, const Axis& x, const Axis& y) {
  return {size, x, y, 7.4 * size.font, size.font, size.font, 3.6 * size.font};
}

std::string axes(const Plot& plot, std::string_view x_label, std::string_view x_unit, std::string_view y_unit) {
  return plot.x_grid(plot.x.ticks(), [&](double v) { return prefixed(v, x_unit); }) +
         plot.y_grid(plot.y.ticks(), [&](double v) { return prefixed(v, y_unit); }) +
         svg_text((plot.left + plot.end()) / 2, plot.floor() + 3 * plot.size.font, "middle", x_label);
}

std::string drawn(const std::vector<Dot>& dots, const Plot& plot, const std::function<std::string(const Dot&)>& tip,
                  double total_seconds) {
  std::string svg;
  for (const Dot& d : dots) {
    const double radius = plot.size.font * (0.22 + 1.6 * std::sqrt(d.cost.seconds / total_seconds));
    svg += fmt::format("<circle class=\"dot {}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\"><title>{}</title></circle>\n",
                       d.pass, plot.across(d.x), plot.down(d.y), radius, escaped_markup(tip(d)));
  }
  return svg;
}

std::string times_text(const Profile& p, const Dot& d) {
  return fmt::format("{}, {}\n{} ms, {:.1f}% of the step", d.layer, d.pass, short_number(1e3 * d.cost.seconds),
                     100 * d.cost.seconds / p.seconds);
}

double of_bound(const Profile& p, const Dot& d) { return bound_of(d.cost, p.limits).seconds / d.cost.seconds; }

std::string nothing_to_show(const ChartSize& size, std::string_view name) {
  return svg_begin(size, name) + svg_text(size.width / 2, size.height / 2, "middle", "no such layer") + "</svg>\n";
}

/// Limits of a chart: the values of all dots and `more`.
Axis range_of(const std::vector<Dot>& dots, double Dot::*value, std::vector<double> values) {
  for (const Dot& d : dots) values.push_back(d.*value);
  return Axis::around(values, true);
}

}  // namespace

std::string roofline_svg(const Profile& p, const ChartSize& size) {
  constexpr std::string_view kName = "Roofline: FLOP/s over FLOPs per byte";
  const std::vector<Dot> dots = dots_of(p, true);
  if (dots.empty()) return nothing_to_show(size, kName);
  const double flops = p.limits.flops_per_second, bytes = p.limits.bytes_per_second, ridge = flops / bytes;
  const Axis x_range = range_of(dots, &Dot::x, {ridge / 3, ridge * 3});
  const Plot chart = plot_of(size, x_range, range_of(dots, &Dot::y, {flops, flops / 30}));
  std::string svg = svg_begin(size, kName) + axes(chart, "FLOPs per byte moved", "", "FLOP/s");

  // The roof: the slope of memory up to the ridge, from where computing is the limit.
  const auto roof_at = [&](double x) { return std::min(flops, bytes * x); };
  svg += fmt::format(
      "<clipPath id=\"plot{0:.0f}\"><rect x=\"{1:.1f}\" y=\"{2:.1f}\" width=\"{3:.1f}\" "
      "height=\"{4:.1f}\"/></clipPath>\n",
      size.width, chart.left, chart.top, chart.end() - chart.left, chart.floor() - chart.top);
  const double first = ridge / 1e6;
  svg += fmt::format(
      "<path class=\"roof\" clip-path=\"url(#plot{:.0f})\" d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}H{:.1f}\"/>\n", size.width,
      chart.across(first), chart.down(roof_at(first)), chart.across(ridge), chart.down(flops), chart.end());
  svg += svg_text(chart.end() - 0.5 * size.font, chart.down(flops) - 0.5 * size.font, "end", prefixed(flops, "FLOP/s"),
                  " class=\"roof-text\"");
  // The slope's label stands in the middle of what can be seen of it.
  const double slope_x = std::sqrt(ridge * x_range.low), slope_y = bytes * slope_x;
  const double angle =
      std::atan2(chart.down(bytes * 10) - chart.down(bytes * 100), chart.across(100) - chart.across(10));
  svg += fmt::format("<g transform=\"translate({:.1f} {:.1f}) rotate({:.1f})\">{}</g>\n", chart.across(slope_x),
                     chart.down(slope_y), -angle * 180 / 3.14159265358979,
                     svg_text(0, -0.5 * size.font, "middle", prefixed(bytes, "B/s"), " class=\"roof-text\""));
  const auto tip = [&](const Dot& d) {
    return fmt::format("{}\n{} at {} (limit {:.0f}%)\n{:.3g} FLOPs per byte, {} moved", times_text(p, d),
                       prefixed(d.cost.flops, "FLOP"), prefixed(d.y, "FLOP/s"), 100 * of_bound(p, d), d.x,
                       prefixed(d.cost.bytes, "B"));
  };
  return svg + drawn(dots, chart, tip, p.seconds) + "</svg>\n";
}

std::string bandwidth_svg(const Profile& p, const ChartSize& size) {
  constexpr std::string_view kName = "Bytes per second over bytes of layers without multiply-adds";
  const std::vector<Dot> dots = dots_of(p, false);
  if (dots.empty()) return nothing_to_show(size, kName);
  const double bytes = p.limits.bytes_per_second;
  const Plot chart = plot_of(size, range_of(dots, &Dot::x, {}), range_of(dots, &Dot::y, {bytes, bytes / 5}));
  std::string svg = svg_begin(size, kName) + axes(chart, "bytes moved", "B", "B/s");
  svg +=
      fmt::format("<path class=\"roof\" d=\"M{:.1f} {:.1f}H{:.1f}\"/>\n", chart.left, chart.down(bytes), chart.end());
  svg += svg_text(chart.left + 0.5 * size.font, chart.down(bytes) - 0.5 * size.font, "start",
                  "copy: " + prefixed(bytes, "B/s"), " class=\"roof-text\"");
  const auto tip = [&](const Dot& d) {
    return fmt::format("{}\n{} moved at {} (limit {:.0f}%)", times_text(p, d), prefixed(d.x, "B"), prefixed(d.y, "B/s"),
                       100 * of_bound(p, d));
  };
  return svg + drawn(dots, chart, tip, p.seconds) + "</svg>\n";
}

}  // namespace graft
