// A verb as its file describes it: options, arguments, an example, and what to run. Built on CLI11, whose header stays
// in command.cpp; values are parsed and checked by strategies/settings.h, so every option words its errors alike.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "strategies/settings.h"

namespace CLI {
class App;
}

namespace graft {

class Command {
 public:
  /// Does the work after a successful parse; returns the exit code.
  using Action = std::function<int()>;

  /// What all verbs of one program add to.
  struct Program {
    std::string command_line;  // as the user could type it again
    std::vector<std::pair<CLI::App*, Action>> actions;
  };
  Command(CLI::App& app, Program& program) : app_(&app), program_(&program) {}

  /// `graft VERB` below `graft`, or `graft weights import` below `graft weights`.
  Command verb(const std::string& name, const std::string& summary);
  /// --json and --quiet, as every verb has them.
  void output_options(bool& is_json, bool& is_quiet);
  /// Command lines shown at the end of --help, each after two spaces.
  void example(const std::string& text);
  void run(Action action) { program_->actions.emplace_back(app_, std::move(action)); }
  const std::string& command_line() const { return program_->command_line; }

  /// A word without a flag: "DATA", or "[DATA]" where --help says that it may be missing. Whether it may is for the
  /// action to judge.
  void argument(const std::string& usage, const std::string& help, std::string& value);
  /// One or more of them.
  void arguments(const std::string& name, const std::string& help, std::vector<std::string>& values);
  /// A flag that may be given several times, each with a value.
  void repeatable(const SettingInfo& info, const std::string& placeholder, std::vector<std::string>& values);

  /// A flag with a value, or a switch when `kind` is a bool. `store` gets the converted value.
  /// `info.flag` may name a short form first: "-o,--output".
  /// --help shows `kind` as the default unless told otherwise. Of a switch that turns something off, `info.help` says
  /// what it turns off, as a command: "look for copies".
  void option(const SettingInfo& info, const SettingValue& kind, std::function<void(const SettingValue&)> store,
              bool shows_default = true);

  template <class T>
  void option(const SettingInfo& info, T& value) {
    option(info, SettingValue(value), [&value](const SettingValue& given) { value = std::get<T>(given); });
  }
  template <class T>
  void option(const SettingInfo& info, std::optional<T>& value) {
    option(
        info, SettingValue(T{}), [&value](const SettingValue& given) { value = std::get<T>(given); }, false);
  }

 private:
  CLI::App* app_;
  Program* program_;
};

/// What the words of a command line lead to.
struct ParsedCommand {
  Command::Action action;  // empty when `text` is the answer
  std::string text;        // --help, --version
};

/// A program of the verbs that `describe` adds.
/// Errors (UsageError): an unknown verb or option, with the nearest known one; a bad or missing value.
ParsedCommand parse_command_line(int argc, const char* const* argv, const std::string& version_text,
                                 const std::function<void(Command&)>& describe);

}  // namespace graft
