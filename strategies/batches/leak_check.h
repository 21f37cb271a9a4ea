// What a training run does about leaks between its splits (data/leakage.h): it refuses them, unless they are allowed by
// name, and says in its summary which there were.
#pragma once

#include <optional>

#include "data/leakage.h"
#include "strategies/progress.h"
#include "strategies/train_settings.h"

namespace graft {

/// The leaks of the run's data; none if train.leak_check is off. Those that train.allow_leaks names are told to
/// `progress`. Errors: any other; the message lists the first, and OUTPUT-leaks.csv beside the run directory all.
std::optional<LeakageReport> check_leaks(const Dataset& dataset, const TrainSettings& settings, ProgressSink& progress);

/// "leaks" of summary.json: {"checked":true, "duplicates":{"pairs":…, "images":…}, …, "allowed":[…]}.
std::string leaks_summary(const std::optional<LeakageReport>& report, const TrainSettings& settings);

}  // namespace graft
