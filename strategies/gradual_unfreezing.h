// What gradual-last-first and gradual-first-last share: stages that unfreeze one block of the backbone after another.
#pragma once

#include "strategies/strategy.h"

namespace graft {

enum class UnfreezingOrder { last_first, first_last };

/// Stage s = 0..n trains the head and s blocks of the backbone, n being their number. The head is the last linear
/// layer; what shares its block joins stage 1.
class GradualUnfreezing : public Strategy {
 public:
  GradualUnfreezing(const StrategyOptions& options, UnfreezingOrder order);
  EpochPlan plan(const EpochView& view) override;
  /// Epochs per stage, so that a resumed run keeps its stages even if its epochs were changed.
  std::vector<double> state() const override { return {double(stage_epochs_)}; }
  void restore(const std::vector<double>& state) override { stage_epochs_ = std::int64_t(state.at(0)); }

 private:
  UnfreezingOrder order_;
  std::int64_t stage_epochs_;  // 0: not decided yet
  double lr_divisor_;
  std::string batch_norm_, frozen_batch_norm_;
};

std::vector<StrategySetting> gradual_unfreezing_settings();

}  // namespace graft
