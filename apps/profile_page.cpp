#include "apps/profile_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "apps/page.h"
#include "apps/profile_table.h"
#include "apps/roofline.h"
#include "apps/terminal.h"

namespace graft {
namespace {

constexpr const char* kProfileStyle = R"css(
:root { --data: #9a6fb0; --forward: #1f77b4; --backward: #d9731a; --update: #2a9d5c; --between: #a9b2bd; }
@media (prefers-color-scheme: dark) { :root { --data: #c49ad6; --forward: #62aee8; --backward: #f0994d; --update: #5cc98d;
  --between: #606c7a; } }
.bar { display: flex; height: 30px; border-radius: 5px; overflow: hidden; gap: 1px; background: var(--line); }
.bar i { display: block; min-width: 0; }
.data { background: var(--data); } .forward { background: var(--forward); } .backward { background: var(--backward); }
.update { background: var(--update); } .between { background: var(--between); }
svg .roof { stroke: var(--ink); stroke-width: 1.8; fill: none; } svg .roof-text { fill: var(--ink); font-weight: 600; }
svg .dot.forward { fill: var(--forward); stroke: var(--forward); }
svg .dot.backward { fill: var(--backward); stroke: var(--backward); }
svg .dot.update { fill: var(--update); stroke: var(--update); }
@media (max-width: 640px) {
  #layers td:first-child { max-width: 46vw; overflow: hidden; text-overflow: ellipsis; direction: rtl; } }
)css";

bool has_kernels(const Profile& p) { return p.kernels_per_step > 0; }

std::string figures(const Profile& p) {
  const Cost all = p.layer_total();
  const double bound = [&] {
    double seconds = 0;
    for (const LayerProfile& layer : p.layers)
      for (const Cost* c : {&layer.forward, &layer.backward, &layer.update}) seconds += bound_of(*c, p.limits).seconds;
    return seconds;
  }();
  return "<div class=\"figures\">\n" + figure_box(short_number(p.images_per_second()), "images/s") +
         figure_box(short_number(1e3 * p.plain) + " ms", "a step") +
         figure_box(fmt::format("{:.0f}%", 100 * bound / p.plain), "of the limits") +
         figure_box(short_number(all.flops / 1e9), "GFLOP a step") +
         figure_box(bytes_text(std::int64_t(all.bytes)), "moved a step") +
         figure_box(std::to_string(p.calls_per_step), "device calls") +
         (has_kernels(p) ? figure_box(std::to_string(p.kernels_per_step), "kernels") : "") +
         figure_box(bytes_text(p.peak_bytes), "peak memory") + "</div>\n";
}

/// How the step's time divides.
std::string time_split(const Profile& p) {
  struct Piece {
    std::string_view name, style;
    double seconds;
  };
  std::vector<Piece> pieces;
  double between = p.seconds;
  for (StepPart part : kStepParts) {
    const double seconds = p.part_seconds[std::size_t(part)];
    between -= seconds;
    if (!p.is_inference || part <= StepPart::forward) pieces.push_back({to_string(part), to_string(part), seconds});
  }
  pieces.push_back({"between them", "between", std::max(0.0, between)});
  std::string bar, key;
  for (const Piece& piece : pieces) {
    bar += fmt::format("<i class=\"{}\" style=\"flex:{:.5f}\" title=\"{} {:.1f}%\"></i>", piece.style,
                       piece.seconds / p.seconds, piece.name, 100 * piece.seconds / p.seconds);
    key += fmt::format("<li><i class=\"{}\"></i>{} {} ms, {:.1f}%</li>", piece.style, piece.name,
                       short_number(1e3 * piece.seconds), 100 * piece.seconds / p.seconds);
  }
  return fmt::format(
      "<section><h2>Time of a step</h2>\n<div class=\"bar\" role=\"img\" aria-label=\"time split\">{}</div>\n"
      "<ul class=\"key\">{}</ul>\n<p class=\"soft\">{} ms of the step pass outside device calls, data "
      "apart.</p></section>\n",
      bar, key, short_number(1e3 * p.outside_calls()));
}

std::string short_cell(double value) { return number_cell(value, short_number(value)); }

std::string cost_cells(const Profile& p, const Cost& c) {
  const Bound bound = bound_of(c, p.limits);
  const double of_bound = ratio_or_zero(bound.seconds, c.seconds);
  return number_cell(c.seconds, fmt::format("{:.1f}", 100 * c.seconds / p.seconds)) + short_cell(c.flops / 1e9) +
         short_cell(c.bytes / 1e6) + short_cell(ratio_or_zero(c.flops, c.seconds) / 1e9) +
         short_cell(ratio_or_zero(c.bytes, c.seconds) / 1e9) +
         number_cell(of_bound, c.bytes + c.flops > 0
                                   ? fmt::format("{:.0f}% {}", 100 * of_bound, bound.is_compute ? "compute" : "memory")
                                   : "-") +
         (has_kernels(p) ? number_cell(double(c.kernels), c.kernels > 0 ? std::to_string(c.kernels) : "-") : "");
}

std::string cost_heads(const Profile& p) {
  return std::string("<th>share %</th><th>GFLOP</th><th>MB</th><th>GFLOP/s</th><th>GB/s</th><th>of limit</th>") +
         (has_kernels(p) ? "<th>kernels</th>" : "");
}

std::string operations(const Profile& p) {
  std::map<std::string, Cost> by_op;
  for (const CallProfile& call : p.calls) {
    // A map's formula is the first part of its shapes.
    const std::string op = call.op == "map" ? call.detail.substr(0, call.detail.find(" [")) : call.op;
    if (call.part != StepPart::data) by_op[op] += call.cost;
  }
  std::vector<std::pair<std::string, Cost>> ops(by_op.begin(), by_op.end());
  std::ranges::sort(ops, std::greater{}, [](const auto& op) { return op.second.seconds; });
  std::string rows;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const auto& [name, cost] = ops[i];
    rows += fmt::format("<tr><td data-v=\"{}\">{}</td>{}{}{}</tr>\n", i, escaped_markup(name),
                        number_cell(double(cost.calls), std::to_string(cost.calls)), short_cell(1e3 * cost.seconds),
                        cost_cells(p, cost));
  }
  return fmt::format(
      "<section><h2>By operation</h2>\n<div class=\"scroll\"><table class=\"sortable\"><thead><tr><th>operation</th>"
      "<th>calls</th><th>ms</th>{}</tr></thead><tbody>\n{}</tbody></table></div></section>\n",
      cost_heads(p), rows);
}

std::string layer_table(const Profile& p) {
  std::vector<std::size_t> order(p.layers.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order, std::greater{}, [&](std::size_t i) { return p.layers[i].total().seconds; });
  std::string rows;
  for (std::size_t i : order) {
    const LayerProfile& layer = p.layers[i];
    const Cost total = layer.total();
    rows += fmt::format("<tr><td data-v=\"{}\"><bdi>{}</bdi></td>", i, escaped_markup(layer.name)) +
            short_cell(1e3 * layer.forward.seconds);
    if (!p.is_inference) rows += short_cell(1e3 * layer.backward.seconds) + short_cell(1e3 * layer.update.seconds);
    rows += cost_cells(p, total) + "</tr>\n";
  }
  const Cost all = p.layer_total();
  Cost forward, backward, update;
  for (const LayerProfile& layer : p.layers)
    forward += layer.forward, backward += layer.backward, update += layer.update;
  std::string sums = "<td>all layers</td>" + short_cell(1e3 * forward.seconds);
  if (!p.is_inference) sums += short_cell(1e3 * backward.seconds) + short_cell(1e3 * update.seconds);
  return fmt::format(
      "<section><h2>By layer</h2>\n<p class=\"soft\">Headings sort; \"layer\" gives the order of the network. {}</p>\n"
      "<div class=\"scroll\"><table class=\"sortable\" "
      "id=\"layers\"><thead><tr><th>layer</th>{}{}</tr></thead><tbody>\n"
      "{}</tbody><tfoot><tr>{}{}</tr></tfoot></table></div></section>\n",
      p.is_inference ? "" : "The optimizer updates all layers at once; its time is divided by trainable elements.",
      p.is_inference ? "<th>ms</th>" : "<th>forward ms</th><th>backward ms</th><th>update ms</th>", cost_heads(p), rows,
      sums, cost_cells(p, all));
}

std::string charts(const Profile& p) {
  const ChartSize wide{.width = 1100, .height = 500, .font = 13}, narrow{.width = 380, .height = 400, .font = 11.5};
  const ChartSize wide_low{.width = 1100, .height = 330, .font = 13},
      narrow_low{.width = 380, .height = 300, .font = 11.5};
  const std::string key =
      p.is_inference
          ? std::string()
          : "<ul class=\"key\"><li><i class=\"forward\"></i>forward</li><li><i class=\"backward\"></i>backward</li>"
            "<li><i class=\"update\"></i>update</li></ul>";
  return "<section><h2>Roofline: layers that multiply</h2>\n<div class=\"wide\">" + roofline_svg(p, wide) +
         "</div><div class=\"narrow\">" + roofline_svg(p, narrow) + "</div>" + key +
         "<p class=\"soft\">A dot is a layer in one pass; its area grows with its time. The line is what this device "
         "reached in large calls.</p></section>\n"
         "<section><h2>Bandwidth: layers that do not</h2>\n<div class=\"wide\">" +
         bandwidth_svg(p, wide_low) + "</div><div class=\"narrow\">" + bandwidth_svg(p, narrow_low) + "</div>" + key +
         "</section>\n";
}

std::string notes(const Profile& p) {
  return fmt::format(
      "<section><h2>How it was measured</h2>\n<p class=\"soft\">Limits: {:.4g} GFLOP/s ({}), {:.4g} GB/s ({}). Times "
      "are "
      "medians of {} steps, counts are of one step. A step took {} ms, with every call timed {} ms ({:+.1f}%); shares "
      "are of the latter. Bytes are those that a call must read and write, FLOPs those of convolutions and matrix "
      "products, a multiply-add counted as two. \"Of limit\" is the time that the limits allow over the time "
      "taken.</p></section>\n",
      p.limits.flops_per_second / 1e9, escaped_markup(p.limits.flops_call), p.limits.bytes_per_second / 1e9,
      escaped_markup(p.limits.bytes_call), p.steps.size(), short_number(1e3 * p.plain), short_number(1e3 * p.seconds),
      100 * (p.seconds / p.plain - 1));
}

}  // namespace

std::string profile_page(const Profile& p) {
  return html_page({.title = profile_title(p),
                    .subtitle = p.device,
                    .style = kProfileStyle,
                    .body = figures(p) + time_split(p) + charts(p) + operations(p) + layer_table(p) + notes(p)});
}

}  // namespace graft
