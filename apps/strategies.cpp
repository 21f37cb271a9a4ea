// graft strategies: the list of fine-tuning strategies, or one with its settings.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/terminal.h"
#include "apps/verbs.h"
#include "strategies/strategy.h"

namespace graft {
namespace {

using nlohmann::ordered_json;

ordered_json value_json(const SettingValue& value) {
  return std::visit([](const auto& v) { return ordered_json(v); }, value);
}

ordered_json strategy_json(const StrategyInfo& info) {
  ordered_json settings = ordered_json::array();
  for (const StrategySetting& s : info.settings) {
    ordered_json row{
        {"key", "strategy." + std::string(s.key)}, {"default", value_json(s.default_value)}, {"help", s.help}};
    if (!s.choices.empty()) row["choices"] = s.choices;
    settings.push_back(std::move(row));
  }
  ordered_json defaults = ordered_json::object();
  for (const StrategyDefault& d : info.defaults) defaults[std::string(d.key)] = value_json(d.value);
  return {{"name", info.name},
          {"summary", info.summary},
          {"source", info.source},
          {"settings", std::move(settings)},
          {"defaults", std::move(defaults)}};
}

std::string list_text() {
  TextTable table({"strategy", "what it does"});
  table.align_left(1);
  for (const StrategyInfo& info : strategies()) table.add({std::string(info.name), std::string(info.summary)});
  return table.text() + "\ngraft strategies NAME shows a strategy's settings and source.\n";
}

std::string strategy_text(const StrategyInfo& info) {
  std::string text =
      fmt::format("{}: {}\nsource: {}\n", emphasised(info.name, Emphasis::bold, stdout), info.summary, info.source);
  for (const StrategyDefault& d : info.defaults)
    text += fmt::format("default: {} is {} unless set\n", d.key, to_string(d.value));
  if (info.settings.empty()) return text + "It has no settings of its own.\n";
  TextTable table({"setting", "default", "meaning"});
  table.align_left(1), table.align_left(2);
  for (const StrategySetting& s : info.settings) {
    std::string help(s.help);
    if (!s.choices.empty()) help += fmt::format(" ({})", fmt::join(s.choices, ", "));
    table.add({"strategy." + std::string(s.key), to_string(s.default_value), help});
  }
  return text + "\n" + table.text();
}

struct StrategiesOptions {
  std::string name;
  bool is_json = false, is_quiet = false;
};

}  // namespace

void add_strategies_verb(Command& program) {
  Command verb = program.verb("strategies", "List fine-tuning strategies, or explain one");
  auto options = std::make_shared<StrategiesOptions>();
  verb.argument("[NAME]", "Strategy to explain", options->name);
  verb.output_options(options->is_json, options->is_quiet);
  verb.example("  graft strategies linear-probe");
  verb.run([options] {
    if (!options->name.empty()) {
      const StrategyInfo& info = find_strategy(options->name);
      print_result(options->is_json ? strategy_json(info).dump() + "\n" : strategy_text(info));
    } else if (options->is_json) {
      ordered_json all{{"strategies", ordered_json::array()}};
      for (const StrategyInfo& info : strategies()) all["strategies"].push_back(strategy_json(info));
      print_result(all.dump() + "\n");
    } else {
      print_result(list_text());
    }
    return 0;
  });
}

}  // namespace graft
