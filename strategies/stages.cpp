#include "strategies/stages.h"

#include <optional>

namespace graft {

std::vector<Stage> stages_of(const TrainSettings& settings, const Network& network) {
  const std::unique_ptr<Strategy> strategy = make_strategy(settings);  // a run's own stays untouched
  std::vector<Stage> stages;
  std::optional<EpochPlan> before;
  for (std::int64_t epoch = 0; epoch < settings.epochs; ++epoch) {
    EpochPlan plan = plan_epoch(*strategy, settings, {epoch, settings.epochs, network.parameters(), network.blocks()});
    if (!before || !(plan.freeze == before->freeze) || plan.schedule_begin != before->schedule_begin)
      stages.push_back({.first_epoch = epoch, .lr_factor = plan.lr_factor});
    stages.back().last_epoch = epoch;
    before = std::move(plan);
  }
  return stages;
}

}  // namespace graft
