// BSS alone: full fine-tuning with train.bss, the penalty that every other strategy can be given as well.
#include "strategies/registry.h"
#include "strategies/shared_settings.h"

namespace graft {
namespace {

class Bss : public Strategy {
 public:
  explicit Bss(const StrategyOptions& options) : batch_norm_(options.text("batch_norm")) {}

  EpochPlan plan(const EpochView& view) override {
    FreezePlan freeze = FreezePlan::trainable(view.parameters);
    choose_batch_norm(freeze, view.parameters, batch_norm_);
    return {.freeze = std::move(freeze)};
  }

 private:
  std::string batch_norm_;
};

}  // namespace

StrategyInfo bss_strategy() {
  return {.name = "bss",
          .summary = "Full fine-tuning that shrinks the smallest singular values of a batch's features (train.bss)",
          .source = "BSS: Chen et al. 2019 and their code",
          .settings = {batch_norm_setting()},
          .defaults = {{"train.bss", 1e-3}},
          .create = create_strategy<Bss>};
}

}  // namespace graft
