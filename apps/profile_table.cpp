#include "apps/profile_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/terminal.h"
#include "data/csv.h"

namespace graft {
namespace {

constexpr std::size_t kNameWidth = 36;  // of layers, so that a line has at most 100 columns
constexpr std::size_t kCountWidth = 9;  // of the column of kernels, which comes off the names

/// The end of a long name, from a dot on if possible: "….denselayer16.conv2".
std::string fitting(const std::string& name, std::size_t width) {
  if (name.size() <= width) return name;
  const std::size_t from = name.size() - (width - 1), dot = name.find('.', from);
  return "…" + name.substr(dot == std::string::npos ? from : dot);
}

std::string percent(double share) { return fmt::format("{:.1f}%", 100 * share); }

/// Rates in the unit that keeps them short.
struct FlopsUnit {
  double size;
  const char *amount, *rate;
};
FlopsUnit flops_unit(const DeviceLimits& limits) {
  return limits.flops_per_second > 1e13 ? FlopsUnit{1e12, "TFLOP", "TF/s"} : FlopsUnit{1e9, "GFLOP", "GF/s"};
}

/// "62% c": the share of the device's limit, and whether that is of computing or of memory.
std::string limit_text(const Cost& cost, const DeviceLimits& limits) {
  if (cost.seconds <= 0 || (cost.flops == 0 && cost.bytes == 0)) return "-";
  const Bound bound = bound_of(cost, limits);
  return fmt::format("{:.0f}% {}", 100 * bound.seconds / cost.seconds, bound.is_compute ? 'c' : 'm');
}

class LayerTable {
 public:
  explicit LayerTable(const Profile& profile)
      : profile_(profile), unit_(flops_unit(profile.limits)), table_(heading()) {}

  void add(const std::string& name, const LayerProfile& layer) {
    const Cost total = layer.total();
    std::vector<std::string> row = times(name, layer);
    row.push_back(percent(total.seconds / profile_.seconds));
    row.push_back(short_number(total.flops / unit_.size));
    row.push_back(short_number(total.bytes / 1e6));
    row.push_back(short_number(ratio_or_zero(total.flops, total.seconds) / unit_.size));
    row.push_back(short_number(ratio_or_zero(total.bytes, total.seconds) / 1e9));
    row.push_back(limit_text(total, profile_.limits));
    if (has_kernels()) row.push_back(total.kernels > 0 ? std::to_string(total.kernels) : "-");
    table_.add(std::move(row));
  }
  /// Time that no layer's call takes.
  void add_time(const std::string& name, double seconds) {
    std::vector<std::string> row{name};
    row.resize(profile_.is_inference ? 2 : 4);
    row[1] = short_number(1e3 * seconds);
    row.push_back(percent(seconds / profile_.seconds));
    table_.add(std::move(row));
  }
  std::string text() const { return table_.text(); }

 private:
  std::vector<std::string> heading() const {
    std::vector<std::string> words{"layer"};
    if (profile_.is_inference)
      words.emplace_back("ms");
    else
      words.insert(words.end(), {"fwd", "bwd", "upd"});
    words.insert(words.end(), {"share", unit_.amount, "MB", unit_.rate, "GB/s", "limit"});
    if (has_kernels()) words.emplace_back("kernels");
    return words;
  }
  bool has_kernels() const { return profile_.kernels_per_step > 0; }
  std::vector<std::string> times(const std::string& name, const LayerProfile& layer) const {
    std::vector<std::string> row{fitting(name, has_kernels() ? kNameWidth - kCountWidth : kNameWidth),
                                 short_number(1e3 * layer.forward.seconds)};
    if (profile_.is_inference) return row;
    row.push_back(short_number(1e3 * layer.backward.seconds));
    row.push_back(short_number(1e3 * layer.update.seconds));
    return row;
  }

  const Profile& profile_;
  FlopsUnit unit_;
  TextTable table_;
};

/// Indices of the layers that are shown, in the order in which they are.
std::vector<std::size_t> shown_layers(const Profile& p, const ProfileTableSpec& spec) {
  std::vector<std::size_t> layers(p.layers.size());
  for (std::size_t i = 0; i < layers.size(); ++i) layers[i] = i;
  std::ranges::stable_sort(layers, std::greater{}, [&](std::size_t i) { return p.layers[i].total().seconds; });
  if (spec.top > 0) layers.resize(std::min(layers.size(), std::size_t(spec.top)));
  if (!spec.is_by_time) std::ranges::sort(layers);
  return layers;
}

std::string head_text(const Profile& p) {
  const FlopsUnit unit = flops_unit(p.limits);
  const Cost all = p.layer_total();
  std::string text = emphasised(profile_title(p), Emphasis::bold, stdout) + "\n" + p.device + "\n\n";
  text += fmt::format("limits   {} {} ({}), {:.1f} GB/s ({})\n", short_number(p.limits.flops_per_second / unit.size),
                      unit.rate, p.limits.flops_call, p.limits.bytes_per_second / 1e9, p.limits.bytes_call);
  text +=
      fmt::format("step     {} ms, {} images/s; {} {} and {} in {} device calls; peak memory {}\n",
                  short_number(1e3 * p.plain), short_number(p.images_per_second()), short_number(all.flops / unit.size),
                  unit.amount, bytes_text(std::int64_t(all.bytes)), p.calls_per_step, bytes_text(p.peak_bytes));
  text += "        ";
  for (StepPart part : kStepParts)
    if (!p.is_inference || part <= StepPart::forward)
      text += fmt::format(" {} {},", to_string(part), percent(p.part_seconds[std::size_t(part)] / p.seconds));
  double between = p.seconds;
  for (double seconds : p.part_seconds) between -= seconds;
  text += fmt::format(" between them {}\n", percent(between / p.seconds));
  const std::string addition = p.seconds < p.plain ? std::string("no longer")
                                                   : fmt::format("{:+.1f}% of a step", 100 * (p.seconds / p.plain - 1));
  text += fmt::format("profile  {} ms a step with every call timed: {}; medians of {} steps of each kind\n",
                      short_number(1e3 * p.seconds), addition, p.steps.size());
  if (p.kernels_per_step > 0)
    text += fmt::format("kernels  {} a step, copies and fills among them\n", p.kernels_per_step);
  return text;
}

}  // namespace

double ratio_or_zero(double amount, double of) { return of > 0 ? amount / of : 0; }

std::string short_number(double value) {
  if (value == 0) return "-";
  const double size = std::abs(value);
  const int digits = size < 0.9995 ? 3 : size < 9.995 ? 2 : size < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f}", value, digits);
}

std::string profile_title(const Profile& p) {
  std::string text = p.architecture;
  if (!p.is_inference) text += fmt::format(", {} with {}", p.strategy, p.optimizer);
  if (p.precision != "f32") text += ", " + p.precision;
  if (!p.is_inference && p.epoch > 1) text += fmt::format(", epoch {}", p.epoch);
  const std::string batches = p.accumulate > 1 ? fmt::format("{} x ", p.accumulate) : std::string();
  return text + fmt::format(": {} of {}{} {} {}x{}", p.is_inference ? "inference" : "training steps", batches, p.batch,
                            p.has_data ? "images" : "images of noise,", p.size, p.size);
}

std::string profile_table(const Profile& p, const ProfileTableSpec& spec) {
  LayerTable table(p);
  LayerProfile rest;
  const std::vector<std::size_t> shown = shown_layers(p, spec);
  for (std::size_t i : shown) table.add(p.layers[i].name, p.layers[i]);
  for (std::size_t i = 0; i < p.layers.size(); ++i) {
    if (std::ranges::find(shown, i) != shown.end()) continue;
    rest.forward += p.layers[i].forward;
    rest.backward += p.layers[i].backward;
    rest.update += p.layers[i].update;
  }
  if (const std::size_t more = p.layers.size() - shown.size(); more > 0)
    table.add(fmt::format("({} more layers)", more), rest);
  table.add_time("(data)", p.part_seconds[std::size_t(StepPart::data)]);
  table.add_time("(outside device calls)", p.outside_calls());
  table.add_time("(step)", p.seconds);
  std::string text = head_text(p) + "\n" + table.text();
  text += "\nTimes in ms. limit: what the measured limits allow, of the time taken; c computing, m memory.\n";
  if (!p.is_inference)
    text += "upd: the optimizer updates all layers at once; its time, divided by trainable elements.\n";
  return text;
}

namespace {

struct NamedCost {
  const char* pass;
  const Cost& cost;
};
std::vector<NamedCost> passes_of(const LayerProfile& layer) {
  std::vector<NamedCost> passes;
  if (layer.forward.calls > 0) passes.push_back({"forward", layer.forward});
  if (layer.backward.calls > 0) passes.push_back({"backward", layer.backward});
  if (layer.trainable > 0) passes.push_back({"update", layer.update});
  return passes;
}

nlohmann::ordered_json json_of(const Profile& p, const Cost& cost) {
  const Bound bound = bound_of(cost, p.limits);
  return {{"seconds", cost.seconds},
          {"share", cost.seconds / p.seconds},
          {"flops", cost.flops},
          {"bytes", cost.bytes},
          {"calls", cost.calls},
          {"kernels", cost.kernels},
          {"bound", bound.is_compute ? "compute" : "memory"},
          {"of_bound", ratio_or_zero(bound.seconds, cost.seconds)}};
}

}  // namespace

std::string profile_json(const Profile& p) {
  using nlohmann::ordered_json;
  ordered_json parts, layers = ordered_json::array(), calls = ordered_json::array();
  for (StepPart part : kStepParts) parts[std::string(to_string(part))] = p.part_seconds[std::size_t(part)];
  for (const LayerProfile& layer : p.layers) {
    ordered_json row{{"name", layer.name}, {"trainable", layer.trainable}};
    for (const auto& [pass, cost] : passes_of(layer)) row[pass] = json_of(p, cost);
    layers.push_back(std::move(row));
  }
  for (const CallProfile& call : p.calls) {
    ordered_json row{{"part", to_string(call.part)}, {"layer", call.layer}, {"op", call.op}, {"shapes", call.detail}};
    row.update(json_of(p, call.cost));
    calls.push_back(std::move(row));
  }
  const ordered_json all{{"architecture", p.architecture},
                         {"strategy", p.is_inference ? ordered_json() : ordered_json(p.strategy)},
                         {"optimizer", p.is_inference ? ordered_json() : ordered_json(p.optimizer)},
                         {"device", p.device},
                         {"precision", p.precision},
                         {"inference", p.is_inference},
                         {"batch", p.batch},
                         {"accumulate", p.accumulate},
                         {"size", p.size},
                         {"epoch", p.epoch},
                         {"steps", p.steps.size()},
                         {"limits",
                          {{"flops_per_second", p.limits.flops_per_second},
                           {"flops_call", p.limits.flops_call},
                           {"bytes_per_second", p.limits.bytes_per_second},
                           {"bytes_call", p.limits.bytes_call}}},
                         {"step_seconds", p.plain},
                         {"profiled_step_seconds", p.seconds},
                         {"images_per_second", p.images_per_second()},
                         {"calls_per_step", p.calls_per_step},
                         {"kernels_per_step", p.kernels_per_step},
                         {"peak_bytes", p.peak_bytes},
                         {"parts", std::move(parts)},
                         {"outside_calls", p.outside_calls()},
                         {"layers", std::move(layers)},
                         {"calls", std::move(calls)}};
  return all.dump() + "\n";
}

std::string profile_csv(const Profile& p) {
  std::string csv =
      "layer,pass,seconds,share,flops,bytes,calls,gflop_per_second,gb_per_second,bound,of_bound,kernels\n";
  for (const LayerProfile& layer : p.layers) {
    for (const auto& [pass, c] : passes_of(layer)) {
      const Bound bound = bound_of(c, p.limits);
      csv += csv_line({layer.name, pass, fmt::format("{:.9g}", c.seconds), fmt::format("{:.9g}", c.seconds / p.seconds),
                       fmt::format("{:.0f}", c.flops), fmt::format("{:.0f}", c.bytes), std::to_string(c.calls),
                       fmt::format("{:.6g}", ratio_or_zero(c.flops, c.seconds) / 1e9),
                       fmt::format("{:.6g}", ratio_or_zero(c.bytes, c.seconds) / 1e9),
                       bound.is_compute ? "compute" : "memory",
                       fmt::format("{:.4g}", ratio_or_zero(bound.seconds, c.seconds)), std::to_string(c.kernels)});
    }
  }
  const auto add_time = [&](const char* name, double seconds) {
    csv += fmt::format("{},,{:.9g},{:.9g},,,,,,,,\n", name, seconds, seconds / p.seconds);
  };
  add_time("(data)", p.part_seconds[std::size_t(StepPart::data)]);
  add_time("(outside calls)", p.outside_calls());
  return csv;
}

std::string profile_calls_csv(const Profile& p) {
  std::string csv = "part,layer,op,shapes,calls,seconds,flops,bytes,kernels\n";
  for (const CallProfile& c : p.calls)
    csv += csv_line({std::string(to_string(c.part)), c.layer, c.op, c.detail, std::to_string(c.cost.calls),
                     fmt::format("{:.9g}", c.cost.seconds), fmt::format("{:.0f}", c.cost.flops),
                     fmt::format("{:.0f}", c.cost.bytes), std::to_string(c.cost.kernels)});
  return csv;
}

}  // namespace graft
