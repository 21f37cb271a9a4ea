// The scores of an epoch on validation images by which the best epoch is chosen and early stopping waits
// (train.monitor), and by which a study chooses among trials.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "data/dataset.h"
#include "strategies/epoch_report.h"

namespace graft {

struct Monitor {
  std::string_view name;   // "macro_accuracy", as in settings and in summary.json
  std::string_view words;  // "macro accuracy"
  double EpochReport::*score = nullptr;
  bool lower_is_better = false;
};

std::span<const Monitor> monitors();
std::vector<std::string_view> monitor_names();
/// Errors (UsageError): unknown.
const Monitor& monitor_named(std::string_view name);

/// What train.monitor may be: a name, or this, by which the data decides.
inline constexpr std::string_view kAutoMonitor = "auto";
/// kAutoMonitor is macro accuracy; of several labels per image AUC, since a rare class may be found long before any
/// probability of it passes 0.5.
const Monitor& monitor_of(std::string_view setting, bool is_multi_label);

/// Whether `score` is better than `best`, in which NaN is worse than any number; equal is not better.
bool is_better(const Monitor& monitor, double score, double best);
/// The best score that one of these epochs has; NaN: none has one.
double best_score(const Monitor& monitor, std::span<const EpochReport> epochs);

/// Errors: validation images of one class alone, for which the score is not defined; of several labels, classes each of
/// which all of them or none have, or no label at all. Without any images there is nothing to monitor, which is no
/// error.
void check_monitor(const Monitor& monitor, const Dataset& dataset);

}  // namespace graft
