// Whether a run that is to continue is still the same run: its data's splits and the settings that its course depends
// on, and the weights where a strategy needs them again. What may change (how long to train, where to compute) is
// listed in resume_check.cpp.
#pragma once

#include <string_view>

#include "strategies/run_directory.h"

namespace graft {

/// Errors: another split of the data than RUN/split.csv, or a setting that differs from RUN/config.toml, by name.
void check_same_run(const RunDirectory& directory, std::string_view config_toml, std::string_view split_csv);

/// For strategies that read the weights file again. Errors: its hash is not that of RUN/environment.json.
void check_same_weights(const RunDirectory& directory, std::string_view sha256);

}  // namespace graft
