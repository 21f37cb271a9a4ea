#include "apps/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace graft {

std::string escaped_markup(std::string_view text) {
  std::string out;
  for (char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if ((code < 0x20 && c != '\t' && c != '\n') || code == 0x7F) continue;
    out += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : c == '"' ? "&quot;" : std::string(1, c);
  }
  return out;
}

std::string svg_begin(const ChartSize& size, std::string_view title, std::string_view description,
                      std::string_view style) {
  std::string svg = fmt::format("<svg viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" font-size=\"{:.4g}\"", size.width,
                                size.height, size.font);
  if (!style.empty()) svg += fmt::format(" class=\"{}\"", style);
  svg += fmt::format("><title>{}</title>", escaped_markup(title));
  if (!description.empty()) svg += fmt::format("<desc>{}</desc>", escaped_markup(description));
  return svg + "\n";
}

std::string svg_text(double x, double y, std::string_view anchor, std::string_view words, std::string_view more) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y, anchor, more,
                     escaped_markup(words));
}

std::string svg_line(double x1, double y1, double x2, double y2, std::string_view style) {
  return fmt::format("<path class=\"{}\" d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}\"/>\n", style, x1, y1, x2, y2);
}

std::string svg_path(const std::vector<double>& x, const std::vector<double>& y, std::string_view style,
                     std::string_view more) {
  std::string d;
  bool is_drawn = false, is_open = false;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const bool is_finite = std::isfinite(x[i]) && std::isfinite(y[i]);
    if (is_finite) d += fmt::format("{}{:.1f} {:.1f}", is_open ? 'L' : 'M', x[i], y[i]);
    is_drawn = is_drawn || (is_finite && is_open);
    is_open = is_finite;
  }
  return is_drawn ? fmt::format("<path class=\"{}\"{} d=\"{}\"/>\n", style, more, d) : std::string();
}

double round_distance(double low, double high, int parts, std::initializer_list<double> factors) {
  const double least = (high - low) / parts, power = std::pow(10, std::floor(std::log10(least)));
  for (double factor : factors)
    if (factor * power >= least * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

Axis Axis::around(const std::vector<double>& values, bool is_log) {
  constexpr double kDecades = 0.12, kShare = 0.05;
  double least = INFINITY, most = -INFINITY;
  for (double v : values)
    if (std::isfinite(v) && (!is_log || v > 0)) least = std::min(least, v), most = std::max(most, v);
  if (least > most) return {is_log ? 0.1 : 0.0, 1, is_log};
  if (is_log) return {least * std::pow(10, -kDecades), most * std::pow(10, kDecades), true};
  const double margin = most > least ? kShare * (most - least) : std::max(kShare * std::abs(most), 1e-6);
  return {least - margin, most + margin};
}

double Axis::share(double value) const {
  return is_log ? (std::log10(value) - std::log10(low)) / (std::log10(high) - std::log10(low))
                : (value - low) / (high - low);
}

std::vector<double> Axis::ticks(int parts) const {
  std::vector<double> ticks;
  if (is_log) {
    const double from = std::log10(low), to = std::log10(high);
    const std::vector<double> factors = to - from > 2.6 ? std::vector<double>{1} : std::vector<double>{1, 2, 5};
    for (int d = int(std::floor(from)); d <= int(std::floor(to)); ++d)
      for (double factor : factors)
        if (const double v = factor * std::pow(10, d); share(v) >= 0 && share(v) <= 1) ticks.push_back(v);
    return ticks;
  }
  const double distance = round_distance(low, high, parts);
  for (double k = std::ceil(low / distance - 1e-9); k * distance <= high + 1e-9 * distance; ++k)
    ticks.push_back(k * distance + 0.0);  // 0 instead of -0
  return ticks;
}

}  // namespace graft
