#include "strategies/monitor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "strategies/settings.h"

namespace graft {
namespace {

constexpr Monitor kMonitors[] = {{"macro_accuracy", "macro accuracy", &EpochReport::val_macro_accuracy},
                                 {"accuracy", "accuracy", &EpochReport::val_accuracy},
                                 {"macro_f1", "macro F1", &EpochReport::val_macro_f1},
                                 {"kappa", "Cohen's kappa", &EpochReport::val_kappa},
                                 {"auc", "AUC", &EpochReport::val_auc},
                                 {"average_precision", "average precision", &EpochReport::val_average_precision},
                                 {"loss", "loss", &EpochReport::val_loss, true}};

/// Of several labels per image: what a score is not defined without.
void check_defined_for_labels(const Monitor& monitor, const Dataset& dataset) {
  const auto images = std::ssize(dataset.indices(Split::val));
  if (images == 0) return;
  const auto is_any = [&](const auto& is_enough) { return std::ranges::any_of(dataset.counts(Split::val), is_enough); };
  const auto refuse = [&](const char* what) {
    throw Error(fmt::format("train.monitor: {}, for which {} is not defined; give other images, or --monitor loss",
                            what, monitor.words));
  };
  const bool needs_both = monitor.name == "auc" || monitor.name == "kappa" || monitor.name == "macro_accuracy";
  if (needs_both && !is_any([&](std::int64_t n) { return n > 0 && n < images; }))
    refuse("of each class either all validation images or none have it");
  if ((monitor.name == "average_precision" || monitor.name == "macro_f1") &&
      !is_any([](std::int64_t n) { return n > 0; }))
    refuse("no validation image has a label");
}

}  // namespace

std::span<const Monitor> monitors() { return kMonitors; }

std::vector<std::string_view> monitor_names() {
  std::vector<std::string_view> names;
  for (const Monitor& m : kMonitors) names.push_back(m.name);
  return names;
}

const Monitor& monitor_named(std::string_view name) {
  const auto found = std::ranges::find(kMonitors, name, &Monitor::name);
  if (found == std::end(kMonitors)) throw UsageError(fmt::format("train.monitor: '{}' is unknown", name));
  return *found;
}

const Monitor& monitor_of(std::string_view setting, bool is_multi_label) {
  if (setting != kAutoMonitor) return monitor_named(setting);
  return monitor_named(is_multi_label ? "auc" : "macro_accuracy");
}

bool is_better(const Monitor& monitor, double score, double best) {
  if (std::isnan(score)) return false;
  if (std::isnan(best)) return true;
  return monitor.lower_is_better ? score < best : score > best;
}

double best_score(const Monitor& monitor, std::span<const EpochReport> epochs) {
  double best = EpochReport::kNone;
  for (const EpochReport& epoch : epochs)
    if (is_better(monitor, epoch.*monitor.score, best)) best = epoch.*monitor.score;
  return best;
}

void check_monitor(const Monitor& monitor, const Dataset& dataset) {
  if (dataset.is_multi_label()) return check_defined_for_labels(monitor, dataset);
  if (monitor.name != "auc" && monitor.name != "kappa") return;
  std::set<std::int32_t> classes;
  for (const std::int64_t i : dataset.indices(Split::val)) classes.insert(dataset.samples()[std::size_t(i)].label);
  if (classes.size() == 1)
    throw Error(
        fmt::format("train.monitor: all validation images are of class '{}', for which {} is not defined; give "
                    "images of other classes, or --monitor loss",
                    dataset.class_names()[std::size_t(*classes.begin())], monitor.words));
}

}  // namespace graft
