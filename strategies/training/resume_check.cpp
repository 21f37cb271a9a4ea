#include "strategies/training/resume_check.h"

#include <fmt/format.h>
#include <algorithm>
#include <array>

#include <nlohmann/json.hpp>
#include <sstream>

#include "data/files.h"
#include "kernels/core.h"
#include "strategies/monitor.h"

namespace graft {
namespace {

constexpr auto kMayChange = std::to_array<std::string_view>({"epochs",
                                                             "max_steps",
                                                             "patience",
                                                             "threads",
                                                             "loader_threads",
                                                             "image_cache_mb",
                                                             "device_image_cache_mb",
                                                             "feature_cache",
                                                             "feature_cache_mb",
                                                             "feature_cache_dir",
                                                             "output",
                                                             "device",
                                                             "data",
                                                             "weights",
                                                             "skip_bad",
                                                             "probe_from",
                                                             "graph",
                                                             "recompute",
                                                             "fused_norms",
                                                             "growth_kernels",
                                                             "allow_leaks",
                                                             "leak_check",
                                                             "tensorboard",
                                                             "cudnn_timing",
                                                             "cudnn_plan_cache",
                                                             "cudnn_workspace_mb"});

std::string without_blanks(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return std::string(text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1));
}

}  // namespace

std::map<std::string, std::string> keys_of(std::string_view toml) {
  std::map<std::string, std::string> keys;
  std::istringstream lines{std::string(toml)};
  std::string line, section;
  while (std::getline(lines, line)) {
    const std::string text = without_blanks(line);
    if (text.empty() || text[0] == '#') continue;
    if (text[0] == '[') {
      section = text.substr(1, text.find(']') - 1) + ".";
      continue;
    }
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos) continue;
    const std::string name = without_blanks(std::string_view(text).substr(0, equals));
    std::string value = without_blanks(std::string_view(text).substr(equals + 1));
    if (!value.empty() && value[0] != '"' && value[0] != '\'') value = without_blanks(value.substr(0, value.find('#')));
    keys[section + name] = value;
  }
  return keys;
}

std::map<std::string, std::string> keys_of_run(const std::filesystem::path& config_toml) {
  std::map<std::string, std::string> keys = keys_of(read_text(config_toml));
  keys.try_emplace("train.monitor", "\"macro_accuracy\"");
  keys.try_emplace("train.intensity_window", "\"\"");
  return keys;
}

bool is_same_setting(std::string_view key, std::string_view a, std::string_view b, bool is_multi_label) {
  if (a == b) return true;
  if (key != "train.monitor") return false;
  const std::string automatic = fmt::format("\"{}\"", kAutoMonitor),
                    meant = fmt::format("\"{}\"", monitor_of(kAutoMonitor, is_multi_label).name);
  return (a == automatic || a == meant) && (b == automatic || b == meant);
}

bool may_change(std::string_view key) {
  if (key.starts_with("train.")) key.remove_prefix(6);
  return std::ranges::find(kMayChange, key) != kMayChange.end();
}

bool is_decided_by_weights(std::string_view key, const std::map<std::string, std::string>& keys) {
  const auto from_scratch = keys.find("train.from_scratch");
  return key == "train.arch" && from_scratch != keys.end() && from_scratch->second == "false";
}

void check_same_run(const RunDirectory& directory, std::string_view config_toml, std::string_view split_csv) {
  if (directory.has("split.csv") && read_text(directory.file("split.csv")) != split_csv)
    throw Error("resume: the images or their splits are not those of " + directory.file("split.csv").string() +
                "; restore the data, or start again with --overwrite");
  if (!directory.has("config.toml")) return;
  const auto before = keys_of_run(directory.file("config.toml"));
  const auto now = keys_of(config_toml);
  for (const auto& [key, value] : before) {
    const auto found = now.find(key);
    if (may_change(key) || is_decided_by_weights(key, now)) continue;
    if (found != now.end() && !is_same_setting(key, found->second, value, split_csv.starts_with("path,labels,")))
      throw Error("resume: " + key + " was " + value + " and is now " + found->second +
                  "; give the old value, or start again with --overwrite");
  }
}

std::string other_epochs_note(const RunDirectory& directory, std::string_view config_toml) {
  if (!directory.has("config.toml")) return {};
  const auto before = keys_of(read_text(directory.file("config.toml"))), now = keys_of(config_toml);
  const auto was = before.find("train.epochs"), is = now.find("train.epochs");
  if (was == before.end() || is == now.end() || was->second == is->second) return {};
  return fmt::format(
      "train.epochs was {} and is now {}: where the schedule or stages depend on it, the result is not that of a run "
      "of {} epochs from its start",
      was->second, is->second, is->second);
}

void check_same_weights(const RunDirectory& directory, std::string_view sha256) {
  if (!directory.has("environment.json")) return;
  const auto environment = nlohmann::json::parse(read_text(directory.file("environment.json")), nullptr, false);
  if (environment.is_discarded() || environment.value("model_sha256", std::string(sha256)) == sha256) return;
  throw Error("resume: this strategy needs the weights that the run started from, and train.weights holds others (" +
              directory.file("environment.json").string() + " has their SHA-256); name that file with --weights");
}

}  // namespace graft
