// Full fine-tuning: everything trains, in every epoch.
#include "strategies/registry.h"
#include "strategies/shared_settings.h"

namespace graft {
namespace {

class Full : public Strategy {
 public:
  explicit Full(const StrategyOptions& options) : batch_norm_(options.text("batch_norm")) {}

  EpochPlan plan(const EpochView& view) override {
    FreezePlan freeze = FreezePlan::trainable(view.parameters);
    choose_batch_norm(freeze, view.parameters, batch_norm_);
    return {.freeze = std::move(freeze)};
  }

 private:
  std::string batch_norm_;
};

}  // namespace

StrategyInfo full_strategy() {
  return {.name = "full",
          .summary = "Full fine-tuning: every parameter trains in every epoch",
          .source = "FT in Davila, Colan, Hasegawa 2024",
          .settings = {batch_norm_setting()},
          .create = create_strategy<Full>};
}

}  // namespace graft
