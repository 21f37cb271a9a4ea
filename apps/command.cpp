#include "apps/command.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <sstream>

#include "apps/terminal.h"

namespace graft {
namespace {

/// "sgd|adam|adamw" where that is short, or else nothing.
std::string short_choices(const SettingInfo& info) {
  constexpr std::size_t kMost = 40;
  const std::string choices = fmt::format("{}", fmt::join(info.choices, "|"));
  return choices.size() <= kMost ? choices : "";
}

/// The choices, or a word that says what kind of value is meant.
std::string placeholder(const SettingInfo& info, const SettingValue& kind) {
  if (const std::string choices = short_choices(info); !choices.empty()) return choices;
  if (std::holds_alternative<std::int64_t>(kind)) return "N";
  if (std::holds_alternative<double>(kind)) return "X";
  return info.choices.empty() ? "TEXT" : "NAME";
}

/// The default as --help shows it; nothing for empty texts.
std::string default_text(const SettingValue& kind) {
  if (std::holds_alternative<bool>(kind)) return "";
  const std::string text = to_string(kind);
  return text.empty() ? "" : " [" + text + "]";
}

/// What --help says of an option. Choices that the placeholder does not show follow, unless they are very many.
std::string description(const SettingInfo& info, const SettingValue& kind, bool shows_default) {
  if (std::holds_alternative<bool>(kind)) return (info.flag_value ? "" : "do not ") + std::string(info.help);
  constexpr std::size_t kMost = 80;
  const std::string choices = fmt::format("{}", fmt::join(info.choices, ", "));
  const bool shows_choices = short_choices(info).empty() && !choices.empty() && choices.size() <= kMost;
  return std::string(info.help) + (shows_choices ? ": " + choices : "") + (shows_default ? default_text(kind) : "");
}

/// Names that may stand where `word` stands.
std::vector<std::string> known_words(const CLI::App& app, const std::string& word) {
  std::vector<std::string> known;
  if (word.starts_with("-")) {
    for (const CLI::Option* option : app.get_options()) {
      for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
    }
  } else {
    for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
      known.push_back(verb->get_name());
    }
  }
  return known;
}

std::string full_name(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name() : full_name(*app.get_parent()) + " " + app.get_name();
}

/// Words that fit nowhere.
[[noreturn]] void unexpected(const CLI::App& app, const std::string& word) {
  const std::string bare = word.substr(0, word.find('='));
  const std::vector<std::string> known = known_words(app, bare);
  const std::string near = nearest_name(bare, {known.begin(), known.end()});
  const bool has_verbs = !word.starts_with("-") && !known.empty();
  const char* what = word.starts_with("-") ? "option" : has_verbs ? "command" : "argument";
  throw UsageError(fmt::format(
      "unknown {} '{}'{}", what, bare,
      near.empty() ? fmt::format("; see {} --help", full_name(app)) : fmt::format(", did you mean '{}'?", near)));
}

CLI::App* selected(CLI::App& app) {
  const std::vector<CLI::App*> verbs = app.get_subcommands();
  return verbs.empty() ? &app : selected(*verbs.front());
}

/// Words with anything but plain characters are put in single quotes, as a shell reads them.
std::string command_line_text(int argc, const char* const* argv) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%";
  std::string line = "graft";
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    line += ' ';
    if (!word.empty() && word.find_first_not_of(kPlain) == std::string_view::npos) {
      line += word;
      continue;
    }
    line += '\'';
    for (char c : word) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += '\'';
  }
  return line;
}

/// Help in the shape of the program's own: usage, arguments, options by group, example. Lines fit the terminal, within
/// the widths between which they are well read.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() {
    constexpr std::int64_t kNarrowest = 60, kWidest = 100;
    columns_ = std::clamp(terminal_columns(stdout) - 1, kNarrowest, kWidest);
    label("Positionals", "Arguments");
  }
  std::string make_description(const CLI::App* app) const override {
    return wrapped(app->get_description(), {.columns = columns_}) + "\n";
  }
  std::string make_usage(const CLI::App* app, std::string) const override {
    std::string usage = "Usage: " + full_name(*app);
    if (!app->get_subcommands([](const CLI::App*) { return true; }).empty()) return usage + " COMMAND …\n";
    for (const CLI::Option* option : app->get_options()) {
      if (option->get_positional()) usage += " " + option->get_option_text();
    }
    return wrapped(usage + " [OPTIONS]", {.columns = columns_, .indent = 7}) + "\n";
  }
  std::string make_option(const CLI::Option* option, bool is_positional) const override {
    return entry(make_option_name(option, is_positional) + make_option_opts(option), make_option_desc(option));
  }
  std::string make_subcommand(const CLI::App* verb) const override {
    return entry(verb->get_name(), verb->get_description());
  }
  std::string make_option_opts(const CLI::Option* option) const override {
    return option->get_type_name().empty() ? "" : " " + option->get_type_name();
  }
  /// Command lines that are too long go on in the next line, as a shell reads them.
  std::string make_footer(const CLI::App* app) const override {
    std::istringstream lines(app->get_footer());
    std::string text;
    for (std::string line; std::getline(lines, line);)
      text += wrapped(line, {.columns = columns_, .indent = 6, .broken_line_end = " \\"}) + "\n";
    return text;
  }

 private:
  /// A name and what it means, beside each other or, after a long name, below each other.
  std::string entry(const std::string& name, const std::string& meaning) const {
    constexpr std::size_t kMeaning = 30;
    std::string text = "  " + name;
    text += text.size() + 2 > kMeaning ? "\n" + std::string(kMeaning, ' ') : std::string(kMeaning - text.size(), ' ');
    return text + wrapped(meaning, {.columns = columns_, .begin = kMeaning, .indent = kMeaning}) + "\n";
  }

  std::int64_t columns_ = 80;
};

std::string without_double_gaps(std::string text) {
  for (std::size_t at; (at = text.find("\n\n\n")) != std::string::npos;) text.erase(at, 1);
  return text;
}

}  // namespace

Command Command::verb(const std::string& name, const std::string& summary) {
  CLI::App* verb = app_->add_subcommand(name, summary);
  verb->group("Commands");
  verb->allow_extras();
  verb->require_subcommand(0, 1);
  return Command(*verb, *program_);
}

void Command::output_options(bool& is_json, bool& is_quiet) {
  option({.flag = "--json", .group = "Output", .help = "print one JSON object"}, is_json);
  option({.flag = "-q,--quiet", .group = "Output", .help = "only results and errors"}, is_quiet);
}

void Command::example(const std::string& text) { app_->footer("Example:\n" + text); }

void Command::argument(const std::string& usage, const std::string& help, std::string& value) {
  const bool is_optional = usage.starts_with("[");
  const std::string name = is_optional ? usage.substr(1, usage.size() - 2) : usage;
  app_->add_option(name, value, help)->type_name("")->option_text(usage);
}

void Command::arguments(const std::string& name, const std::string& help, std::vector<std::string>& values) {
  app_->add_option(name, values, help)->type_name("")->option_text(name + "…");
}

void Command::repeatable(const SettingInfo& info, const std::string& placeholder_text,
                         std::vector<std::string>& values) {
  app_->add_option(std::string(info.flag), values, std::string(info.help))
      ->group(std::string(info.group.empty() ? "Options" : info.group))
      ->type_name(placeholder_text)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void Command::option(const SettingInfo& info, const SettingValue& kind, std::function<void(const SettingValue&)> store,
                     bool shows_default) {
  const std::string group(info.group.empty() ? "Options" : info.group);
  SettingInfo checked = info;
  if (checked.key.empty()) checked.key = info.flag.substr(info.flag.find("--"));
  CLI::Option* option = nullptr;
  if (std::holds_alternative<bool>(kind)) {
    option = app_->add_flag_callback(
        std::string(info.flag), [store, on = info.flag_value] { store(on); }, description(info, kind, false));
  } else {
    option = app_->add_option_function<std::string>(
        std::string(info.flag),
        [store, checked, kind](const std::string& text) { store(convert(checked, kind, text)); },
        description(info, kind, shows_default));
    option->type_name(placeholder(info, kind))->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }
  option->group(group);
}

ParsedCommand parse_command_line(int argc, const char* const* argv, const std::string& version_text,
                                 const std::function<void(Command&)>& describe) {
  CLI::App program("Fine-tunes convolutional networks on images, on CPUs and NVIDIA GPUs.", "graft");
  program.formatter(std::make_shared<HelpFormatter>());
  program.set_help_flag("-h,--help", "Explain and exit");
  program.set_version_flag("--version", version_text);
  program.get_option("--version")->description("Show versions and exit");
  program.allow_extras();
  program.require_subcommand(0, 1);
  Command::Program verbs{command_line_text(argc, argv), {}};
  Command root(program, verbs);
  describe(root);

  try {
    program.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return {{}, without_double_gaps(selected(program)->help("", CLI::AppFormatMode::Normal))};
  } catch (const CLI::CallForVersion&) {
    return {{}, version_text + "\n"};
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string text = error.what();
    throw UsageError(fmt::format("{}: expects a value", text.substr(0, text.find(':'))));
  } catch (const CLI::ParseError& error) {
    const std::string text = error.what();
    throw UsageError(text.substr(0, text.find('\n')));
  }

  CLI::App* verb = selected(program);
  for (CLI::App* app = verb; app != nullptr; app = app->get_parent()) {
    if (const std::vector<std::string> words = app->remaining(); !words.empty()) unexpected(*app, words.front());
  }
  const auto found = std::ranges::find_if(verbs.actions, [&](const auto& action) { return action.first == verb; });
  if (found == verbs.actions.end()) {
    throw UsageError(fmt::format("no command given; see {} --help", full_name(*verb)));
  }
  return {found->second, ""};
}

}  // namespace graft
