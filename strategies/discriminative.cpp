// Discriminative fine-tuning: everything trains, at rates that fall from block to block towards the input; the rate
// climbs and falls in a slanted triangle.
#include "strategies/registry.h"
#include "strategies/shared_settings.h"

namespace graft {
namespace {

class Discriminative : public Strategy {
 public:
  explicit Discriminative(const StrategyOptions& options)
      : divisor_(options.number("lr_divisor")), batch_norm_(options.text("batch_norm")) {}

  EpochPlan plan(const EpochView& view) override {
    FreezePlan freeze = FreezePlan::trainable(view.parameters);
    choose_batch_norm(freeze, view.parameters, batch_norm_);
    return {.freeze = std::move(freeze), .block_lr_factors = falling_rates(view, divisor_)};
  }

 private:
  double divisor_;
  std::string batch_norm_;
};

}  // namespace

StrategyInfo discriminative_strategy() {
  return {.name = "discriminative",
          .summary = "Everything trains, each block at a lower rate than the one above it",
          .source = "ULMFiT (Howard, Ruder 2018): discriminative fine-tuning, slanted triangular schedule",
          .settings = {lr_divisor_setting(2.6), batch_norm_setting()},
          .defaults = {{"train.schedule", std::string("slanted-triangular")}},
          .create = create_strategy<Discriminative>};
}

}  // namespace graft
