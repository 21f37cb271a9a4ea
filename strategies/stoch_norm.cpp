// StochNorm: fine-tuning in which, at every step, each channel of each batch norm uses the batch's statistics with
// probability p and the running ones otherwise, so that the pre-trained statistics keep a say.
#include "strategies/registry.h"

namespace graft {
namespace {

class StochNorm : public Strategy {
 public:
  explicit StochNorm(const StrategyOptions& options) : p_(options.number("p")) {}

  EpochPlan plan(const EpochView& view) override {
    if (view.parameters.statistics().empty())
      throw UsageError("stoch-norm: this network has no batch norm; choose another strategy");
    FreezePlan freeze = FreezePlan::trainable(view.parameters);
    freeze.set_all_norms({.batch_share = p_});
    return {.freeze = std::move(freeze)};
  }

 private:
  double p_;
};

}  // namespace

StrategyInfo stoch_norm_strategy() {
  return {.name = "stoch-norm",
          .summary = "Full fine-tuning, batch or running statistics drawn by channel at every step",
          .source = "StochNorm: Kou et al. 2020 and their code",
          .settings = {{{.key = "p",
                         .help = "probability that a channel uses the batch's statistics in a training step",
                         .min = 0,
                         .max = 1},
                        0.5}},
          .create = create_strategy<StochNorm>};
}

}  // namespace graft
