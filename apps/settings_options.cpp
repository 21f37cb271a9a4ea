#include "apps/settings_options.h"

#include <fmt/format.h>

#include <toml++/toml.h>
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "strategies/strategy.h"

namespace graft {
namespace {

constexpr std::string_view kStrategyName = "strategy.name", kSetOrigin = "--set";

/// A text as a TOML basic string, whose escapes are JSON's.
std::string toml_text(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string toml_line(std::string_view key, const SettingInfo& info, const SettingValue& value) {
  std::string choices;
  for (std::string_view choice : info.choices) choices += (choices.empty() ? "" : ", ") + std::string(choice);
  const bool is_text = std::holds_alternative<std::string>(value);
  return fmt::format("# {}{}\n{} = {}\n", info.help, choices.empty() ? "" : ": " + choices, key,
                     is_text ? toml_text(to_string(value)) : to_string(value));
}

std::string origin_of(const std::string& path, const toml::source_region& place) {
  return fmt::format("{}:{}:{}", path, place.begin.line, place.begin.column);
}

/// Calls `use(key, value, origin)` for every leaf, keys joined by dots.
template <class Use>
void for_each_value(const toml::table& table, const std::string& prefix, const std::string& path, const Use& use) {
  for (const auto& [name, node] : table) {
    const std::string key = prefix + std::string(name.str());
    const std::string origin = origin_of(path, node.source());
    if (const toml::table* inner = node.as_table()) {
      for_each_value(*inner, key + ".", path, use);
    } else if (const auto* text = node.as_string()) {
      use(key, SettingValue(text->get()), origin);
    } else if (const auto* integer = node.as_integer()) {
      use(key, SettingValue(integer->get()), origin);
    } else if (const auto* number = node.as_floating_point()) {
      use(key, SettingValue(number->get()), origin);
    } else if (const auto* on = node.as_boolean()) {
      use(key, SettingValue(on->get()), origin);
    } else {
      throw UsageError(
          fmt::format("{}: {}: expects a text, a number, true or false, got a list or a date", origin, key));
    }
  }
}

}  // namespace

void SettingsOptions::add_to(Command& verb, std::initializer_list<std::string_view> keys) {
  add_matching(verb,
               [&](std::string_view key) { return keys.size() == 0 || std::ranges::find(keys, key) != keys.end(); });
}

void SettingsOptions::add_all_but(Command& verb, std::initializer_list<std::string_view> keys) {
  add_matching(verb, [&](std::string_view key) { return std::ranges::find(keys, key) == keys.end(); });
}

void SettingsOptions::add_matching(Command& verb, const std::function<bool(std::string_view key)>& is_wanted) {
  static const TrainSettings defaults;
  for (const Setting<TrainSettings>& setting : settings_table()) {
    if (!is_wanted(setting.key) || setting.flag.empty()) continue;
    verb.option(setting, setting.get(defaults),
                [this, key = std::string(setting.key)](const SettingValue& value) { flags_[key] = value; });
  }
  verb.repeatable({.flag = "--config", .group = "Run", .help = "read settings from this file"}, "FILE.toml", files_);
  verb.repeatable({.flag = "--set", .group = "Run", .help = "any setting by its key, as train.lr=0.001"}, "KEY=VALUE",
                  sets_);
}

void SettingsOptions::read_file(const std::string& path, std::vector<Assignment>& into) {
  try {
    const toml::table table = toml::parse(read_text(path), path);
    for_each_value(table, "", path, [&](const std::string& key, SettingValue value, const std::string& origin) {
      into.push_back({key, std::move(value), origin});
    });
  } catch (const toml::parse_error& error) {
    throw UsageError(fmt::format("{}: not valid TOML: {}", origin_of(path, error.source()), error.description()));
  }
}

TrainSettings SettingsOptions::resolve() {
  std::vector<Assignment> assignments;
  if (flags_.contains("train.resume") && flags_.contains("train.output")) {
    const auto recorded = std::filesystem::path(std::get<std::string>(flags_.at("train.output"))) / "config.toml";
    if (std::filesystem::exists(recorded)) read_file(recorded.string(), assignments);
  }
  for (const std::string& path : files_) read_file(path, assignments);
  for (const std::string& text : sets_) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
      throw UsageError(fmt::format("--set: expects key=value, such as train.lr=0.001, got '{}'", text));
    }
    assignments.push_back({text.substr(0, equals), text.substr(equals + 1), std::string(kSetOrigin)});
  }
  for (const auto& [key, value] : flags_) assignments.push_back({key, value, ""});

  // The strategy's name decides which other keys there are, so it comes first.
  std::ranges::stable_partition(assignments, [](const Assignment& a) { return a.key == kStrategyName; });
  TrainSettings settings;
  given_.clear();
  for (const Assignment& a : assignments) {
    try {
      set_by_key(settings, a.key, a.value);
    } catch (const UsageError& error) {
      throw UsageError(a.origin.empty() ? error.what() : fmt::format("{}: {}", a.origin, error.what()));
    }
    given_[a.key] = a.origin.empty() || a.origin == kSetOrigin;
  }
  return settings;
}

std::string to_toml(const TrainSettings& settings, bool only_recorded) {
  std::string train = "[train]\n", strategy = "\n[strategy]\n";
  for (const Setting<TrainSettings>& setting : settings_table()) {
    if (only_recorded && !setting.is_recorded) continue;
    const std::size_t dot = setting.key.find('.');
    std::string& section = setting.key.starts_with("strategy.") ? strategy : train;
    section += toml_line(setting.key.substr(dot + 1), setting, setting.get(settings));
  }
  for (const StrategySetting& own : find_strategy(settings.strategy).settings) {
    const auto given = settings.strategy_settings.find(std::string(own.key));
    strategy += toml_line(own.key, own, given == settings.strategy_settings.end() ? own.default_value : given->second);
  }
  return train + strategy;
}

}  // namespace graft
