// L2-SP: fine-tuning with a quadratic pull towards the pre-trained weights.
//   alpha/2 sum (w - w0)^2 over the backbone's kernels + beta/2 sum w^2 over the head's
#include "strategies/registry.h"
#include "strategies/shared_settings.h"
#include "strategies/starting_point.h"

namespace graft {
namespace {

class L2Sp : public Strategy {
 public:
  explicit L2Sp(const StrategyOptions& options)
      : penalties_{.backbone = penalty(options, true),
                   .head = penalty(options, false),
                   .all_tensors = options.text("tensors") == "all"},
        batch_norm_(options.text("batch_norm")) {}

  EpochPlan plan(const EpochView& view) override {
    FreezePlan freeze = FreezePlan::trainable(view.parameters);
    choose_batch_norm(freeze, view.parameters, batch_norm_);
    return {.freeze = std::move(freeze), .penalties = starting_point_penalties(view.parameters, penalties_)};
  }

 private:
  static PenaltySpec penalty(const StrategyOptions& options, bool to_anchor) {
    return {.kind = PenaltyKind::l2,
            .mode = options.text("mode") == "decoupled" ? PenaltyMode::decoupled : PenaltyMode::coupled,
            .to_anchor = to_anchor,
            .strength = options.number(to_anchor ? "alpha" : "beta")};
  }
  StartingPointPenalties penalties_;
  std::string batch_norm_;
};

}  // namespace

StrategyInfo l2_sp_strategy() {
  return {
      .name = "l2-sp",
      .summary = "Full fine-tuning with a quadratic pull towards the pre-trained weights",
      .source = "L2-SP in Davila, Colan, Hasegawa 2024; Li, Grandvalet, Davoine 2018",
      .settings = {alpha_setting(0.1),
                   beta_setting(),
                   {{.key = "mode",
                     .help = "coupled: through the optimizer's moments, as the loss's gradient; decoupled: beside them",
                     .choices = {"coupled", "decoupled"}},
                    std::string("coupled")},
                   {{.key = "tensors",
                     .help = "of the backbone: kernels alone, or all tensors (DELTA's reading, with alpha 0.01)",
                     .choices = {"kernels", "all"}},
                    std::string("kernels")},
                   batch_norm_setting()},
      .create = create_strategy<L2Sp>};
}

}  // namespace graft
