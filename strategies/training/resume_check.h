// Whether a run that is to continue is still the same run: its data's splits and the settings that its course depends
// on, and the weights where a strategy needs them again. What may change (how long to train, where to compute) is
// listed in resume_check.cpp.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "strategies/training/run_directory.h"

namespace graft {

/// "train.lr" -> "0.001", texts in quotes: of a configuration as the program writes it, one key per line.
std::map<std::string, std::string> keys_of(std::string_view toml);

/// Of a run's config.toml, and what it leaves unsaid because the version that wrote it knew nothing else.
std::map<std::string, std::string> keys_of_run(const std::filesystem::path& config_toml);

/// Whether two values of a key, as they are written, mean the same: train.monitor's auto is a name, too.
bool is_same_setting(std::string_view key, std::string_view a, std::string_view b, bool is_multi_label);

/// Whether a run may continue with another value of this key ("train.epochs").
bool may_change(std::string_view key);

/// Whether the key decides nothing beside the others: train.arch, unless the run starts from scratch.
bool is_decided_by_weights(std::string_view key, const std::map<std::string, std::string>& keys);

/// Errors: another split of the data than RUN/split.csv, or a setting that differs from RUN/config.toml, by name.
void check_same_run(const RunDirectory& directory, std::string_view config_toml, std::string_view split_csv);

/// What a run that goes on with another number of epochs than RUN/config.toml has is not; empty if it is the same.
std::string other_epochs_note(const RunDirectory& directory, std::string_view config_toml);

/// For strategies that read the weights file again. Errors: its hash is not that of RUN/environment.json.
void check_same_weights(const RunDirectory& directory, std::string_view sha256);

}  // namespace graft
