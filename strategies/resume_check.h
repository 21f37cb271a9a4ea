// Whether a run that is to continue is still the same run: its data's splits and the settings that its course depends
// on. What may change (how long to train, where to compute) is listed in resume_check.cpp.
#pragma once

#include <string_view>

#include "strategies/run_directory.h"

namespace graft {

/// Errors: another split of the data than RUN/split.csv, or a setting that differs from RUN/config.toml, by name.
void check_same_run(const RunDirectory& directory, std::string_view config_toml, std::string_view split_csv);

}  // namespace graft
