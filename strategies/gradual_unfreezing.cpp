#include "strategies/gradual_unfreezing.h"

#include <fmt/format.h>

#include <algorithm>

#include "strategies/shared_settings.h"

namespace graft {

GradualUnfreezing::GradualUnfreezing(const StrategyOptions& options, UnfreezingOrder order)
    : order_(order),
      stage_epochs_(options.integer("stage_epochs")),
      lr_divisor_(options.number("lr_divisor")),
      batch_norm_(options.text("batch_norm")),
      frozen_batch_norm_(options.text("frozen_batch_norm")) {}

EpochPlan GradualUnfreezing::plan(const EpochView& view) {
  const int n = view.last_block();  // blocks of the backbone
  const std::int64_t least = std::max<std::int64_t>(1, stage_epochs_) * n + 1;
  if (view.epoch == 0 && view.epochs < least)
    throw UsageError(
        fmt::format("gradual unfreezing: this network has {} stages, which need at least {} epochs, got {}; raise "
                    "train.epochs{}",
                    n + 1, least, view.epochs, stage_epochs_ > 1 ? " or lower strategy.stage_epochs" : ""));
  if (stage_epochs_ == 0) stage_epochs_ = view.epochs / (n + 1);

  // Epochs that are left over belong to the last stage.
  const int stage = int(std::min<std::int64_t>(n, view.epoch / stage_epochs_));
  FreezePlan freeze = frozen_plan(view.parameters, frozen_batch_norm_);
  freeze.train_head(view.parameters);
  const auto unfreeze = [&](int block) {
    freeze.train_block(view.parameters, block);
    choose_batch_norm(freeze, view.parameters, batch_norm_, block);
  };
  if (stage > 0) unfreeze(n);  // what shares the head's block
  for (int i = 0; i < stage; ++i) unfreeze(order_ == UnfreezingOrder::last_first ? n - 1 - i : i);
  return {
      .freeze = std::move(freeze), .block_lr_factors = falling_rates(view, lr_divisor_), .may_stop_early = stage == n};
}

std::vector<StrategySetting> gradual_unfreezing_settings() {
  return {{{.key = "stage_epochs",
            .help = "epochs per stage, the rest on everything; 0 shares them evenly: epochs / stages",
            .min = 0},
           std::int64_t{0}},
          lr_divisor_setting(1),
          batch_norm_setting(),
          frozen_batch_norm_setting()};
}

}  // namespace graft
