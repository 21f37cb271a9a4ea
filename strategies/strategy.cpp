#include "strategies/strategy.h"

#include <algorithm>

#include "strategies/frozen_channels.h"

namespace graft {

double EpochPlan::rate_factor(std::int64_t parameter, int block) const {
  return (block_lr_factors.empty() ? 1 : block_lr_factors.at(std::size_t(block))) *
         (parameter_lr_factors.empty() ? 1 : parameter_lr_factors.at(std::size_t(parameter)));
}

EpochPlan plan_epoch(Strategy& strategy, const TrainSettings& settings, const EpochView& view) {
  EpochPlan plan = strategy.plan(view);
  freeze_channels(plan.freeze, view.parameters, parse_frozen_channels(settings.freeze_channels));
  return plan;
}

const StrategyInfo& find_strategy(std::string_view name) {
  const auto found = std::ranges::find(strategies(), name, &StrategyInfo::name);
  if (found != strategies().end()) return *found;
  std::vector<std::string_view> names;
  std::string list;
  for (const StrategyInfo& s : strategies()) {
    names.push_back(s.name);
    list += (list.empty() ? "" : ", ") + std::string(s.name);
  }
  const std::string near = nearest_name(name, names);
  throw UsageError("strategy: '" + std::string(name) + "' is unknown" +
                   (near.empty() ? "" : ", did you mean '" + near + "'?") + "; there are " + list);
}

std::unique_ptr<Strategy> make_strategy(const TrainSettings& settings) {
  const StrategyInfo& info = find_strategy(settings.strategy);
  std::map<std::string, SettingValue> values;
  for (const StrategySetting& s : info.settings) {
    const auto given = settings.strategy_settings.find(std::string(s.key));
    values[std::string(s.key)] =
        given == settings.strategy_settings.end() ? s.default_value : convert(s, s.default_value, given->second);
  }
  return info.create(StrategyOptions(std::move(values)));
}

}  // namespace graft
