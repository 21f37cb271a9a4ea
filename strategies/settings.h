// Settings described as data: one row per setting says its key, flag, help, limits and where its value lies in a plain
// struct. Flags, `--set`, TOML files, `--print-config` and error messages are all made from such rows; nothing here
// parses command lines or TOML (apps/ does). The rows of `graft train` are in train_settings.h.
#pragma once

#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "kernels/core.h"

namespace graft {

/// A value as TOML has it.
using SettingValue = std::variant<std::string, std::int64_t, double, bool>;

/// The spelling that --set reads back: texts without quotes, numbers in the fewest digits that give the same double and
/// with a point or exponent, "true" or "false".
std::string to_string(const SettingValue& value);

/// What a setting accepts and how it is explained; independent of where its value lies.
struct SettingInfo {
  std::string_view key = {};    // "train.lr", also the TOML path
  std::string_view flag = {};   // "--lr"; empty: reachable by --set and TOML only
  std::string_view group = {};  // heading in --help: "Optimization"
  std::string_view help = {};   // one line, no full stop; states the unit; "do not" goes before a switch's
  double min = -std::numeric_limits<double>::infinity(), max = std::numeric_limits<double>::infinity();
  bool excludes_min = false, excludes_max = false;
  std::vector<std::string_view> choices = {};  // of texts; empty: any
  bool flag_value = true;                      // of switches: what naming the flag sets; "--no-shuffle" sets false
  bool is_recorded = true;                     // false: belongs to one call (--resume), not to config.toml
};

template <class Settings>
struct Setting : SettingInfo {
  std::variant<std::string Settings::*, std::int64_t Settings::*, double Settings::*, bool Settings::*> member;

  SettingValue get(const Settings& from) const {
    return std::visit([&](auto pointer) { return SettingValue(from.*pointer); }, member);
  }
};

/// `value` as the type that `kind` holds: an integer may become a double, text is parsed. Errors (UsageError): another
/// type, out of range, not among the choices; the message names the key and what is allowed.
SettingValue convert(const SettingInfo& info, const SettingValue& kind, const SettingValue& value);

template <class Settings>
void set(Settings& into, const Setting<Settings>& setting, const SettingValue& value) {
  const SettingValue converted = convert(setting, setting.get(into), value);
  std::visit(
      [&](auto pointer) { into.*pointer = std::get<std::remove_reference_t<decltype(into.*pointer)>>(converted); },
      setting.member);
}

/// The name among `known` with the smallest edit distance; empty when none is near (more than a third of its length).
std::string nearest_name(std::string_view name, const std::vector<std::string_view>& known);

}  // namespace graft
