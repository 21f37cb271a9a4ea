// Settings of `graft train` as a verb's options: a flag, `--set key=value` and a key of a TOML file are three spellings
// of one setting. Keys, limits and help come from strategies/train_settings.h; this file only merges.
#pragma once

#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "apps/command.h"
#include "strategies/train_settings.h"

namespace graft {

class SettingsOptions {
 public:
  /// Adds --config, --set, and the flags of the settings with these keys (none named: of all) to the verb. The object
  /// must outlive the parse.
  void add_to(Command& verb, std::initializer_list<std::string_view> keys = {});

  /// The same, but the flags of all settings except these.
  void add_all_but(Command& verb, std::initializer_list<std::string_view> keys);

  /// As if the flag of `key` had been given.
  void set_flag(std::string_view key, const SettingValue& value) { flags_[std::string(key)] = value; }

  /// Defaults; then, when resuming, the run's config.toml; then the files in order; then --set in order; then flags.
  /// Errors (UsageError): unknown keys and bad values, with the file or --set that has them; Error: unreadable file.
  TrainSettings resolve();

  /// Whether any source gave this key; after resolve().
  bool is_given(std::string_view key) const { return given_.contains(key); }
  /// Whether a flag or --set did, the last word.
  bool is_given_on_command_line(std::string_view key) const {
    const auto found = given_.find(key);
    return found != given_.end() && found->second;
  }

 private:
  void add_matching(Command& verb, const std::function<bool(std::string_view key)>& is_wanted);

  struct Assignment {
    std::string key;
    SettingValue value;
    std::string origin;  // "--set", "FILE.toml:3:1"; empty for flags
  };
  static void read_file(const std::string& path, std::vector<Assignment>& into);

  std::vector<std::string> files_, sets_;
  std::map<std::string, SettingValue> flags_;
  std::map<std::string, bool, std::less<>> given_;  // whether the value is the command line's
};

/// Every key with its value, below one line of help, as TOML that --config reads back to equal settings.
/// `only_recorded`: without what belongs to a single call (--resume, --overwrite).
std::string to_toml(const TrainSettings& settings, bool only_recorded);

}  // namespace graft
