// A finished linear-probe run as the first epochs of another strategy (train.probe_from): of LP-FT's probing stage, of
// gradual unfreezing's stage that trains the head alone. The run is continued from the probe's last checkpoint, moments
// and best head included, as it would be from its own; so it must be one that would have trained the same epochs to the
// same bits, and whatever could make a difference is compared. Images are told apart as --resume does it, by path,
// label and split.
#pragma once

#include <string>
#include <string_view>

#include "data/dataset.h"
#include "models/network.h"
#include "strategies/train_settings.h"
#include "strategies/training/run_directory.h"

namespace graft {

struct ProbeStageSpec {
  const TrainSettings& settings;
  std::string_view config_toml, environment_json;  // of the run that starts
  const Dataset& dataset;
  const Network& network;  // as it starts
};

/// Requires settings.probe_from. Touches nothing. Errors: that folder holds no finished linear probe; the first
/// setting, file or plan in which the run differs from it, by name.
void check_probe_stage(const ProbeStageSpec& spec);

/// After the check: best.h5, the logs and at last last.h5 of the probe in `directory`, as if the run had come so far by
/// itself. Returns a line for the user.
std::string take_probe_stage(const ProbeStageSpec& spec, const RunDirectory& directory);

}  // namespace graft
