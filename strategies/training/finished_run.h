// A run that came to its end before: what its summary.json says, for whoever asks for the run again.
#pragma once

#include <optional>
#include <string_view>

#include "strategies/training/checkpoint.h"
#include "strategies/training/run_directory.h"
#include "strategies/training/train.h"

namespace graft {

/// Whether test images were read.
bool was_tested(const RunDirectory& directory);

/// What summary.json says, if it is of this state rather than of one that the run has left behind.
std::optional<RunResult> finished_result(const RunDirectory& directory, const TrainState& state);

/// With `resume`, what summary.json says of a finished run whose last.h5 was removed; empty: there is no such run.
/// Needs neither data nor weights. Errors: settings that differ from the run's, or that ask for more of it.
std::optional<RunResult> finished_without_checkpoint(const TrainSettings& settings, std::string_view config_toml);

}  // namespace graft
