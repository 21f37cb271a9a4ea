// Batch-norm-only tuning: scales and shifts of batch norm train, and the new head.
#include "strategies/registry.h"
#include "strategies/shared_settings.h"

namespace graft {
namespace {

class BnOnly : public Strategy {
 public:
  explicit BnOnly(const StrategyOptions& options) : statistics_(options.text("statistics")) {}

  EpochPlan plan(const EpochView& view) override {
    FreezePlan freeze = FreezePlan::frozen(view.parameters);
    if (freeze.set_trains(view.parameters, {.type = LayerType::batch_norm}, true) == 0)
      throw UsageError("bn-only: this network has no batch norm; choose another strategy");
    if (statistics_ == "batch") freeze.set_all_norms(kBatchNormTrains);
    freeze.train_head(view.parameters);
    return {.freeze = std::move(freeze)};
  }

 private:
  std::string statistics_;
};

}  // namespace

StrategyInfo bn_only_strategy() {
  return {.name = "bn-only",
          .summary = "Only batch norm's scales and shifts train, and the head",
          .source = "Frankle, Schwab, Morcos 2021 (Training BatchNorm and only BatchNorm), after pre-training",
          .settings = {{{.key = "statistics", .help = "of batch norm", .choices = {"batch", "running"}},
                        std::string("batch")}},
          .create = create_strategy<BnOnly>};
}

}  // namespace graft
