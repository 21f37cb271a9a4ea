// Full fine-tuning: everything trains, in every epoch.
#include "strategies/registry.h"

namespace graft {
namespace {

class Full : public Strategy {
 public:
  explicit Full(const StrategyOptions& options) : trains_norm_(options.text("batch_norm") == "batch") {}

  EpochPlan plan(const EpochView& view) override {
    FreezePlan freeze = FreezePlan::trainable(view.parameters);
    if (!trains_norm_) freeze.set_all_norms(kBatchNormFixed);
    return {.freeze = std::move(freeze)};
  }

 private:
  bool trains_norm_;
};

}  // namespace

StrategyInfo full_strategy() {
  return {
      .name = "full",
      .summary = "Full fine-tuning: every parameter trains in every epoch",
      .source = "FT in Davila, Colan, Hasegawa 2024",
      .settings = {{{.key = "batch_norm",
                     .help = "statistics that batch norm uses: batch (and moves the running ones) or running (fixed)",
                     .choices = {"batch", "running"}},
                    std::string("batch")}},
      .create = [](const StrategyOptions& options) -> std::unique_ptr<Strategy> {
        return std::make_unique<Full>(options);
      },
  };
}

}  // namespace graft
