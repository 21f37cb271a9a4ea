// L1-SP: fine-tuning with a pull of constant strength towards the pre-trained weights, which keeps some of them
// exactly.
//   alpha sum |w - w0| over the backbone's kernels + beta/2 sum w^2 over the head's
#include "strategies/registry.h"
#include "strategies/shared_settings.h"
#include "strategies/starting_point.h"

namespace graft {
namespace {

class L1Sp : public Strategy {
 public:
  explicit L1Sp(const StrategyOptions& options)
      : penalties_{.backbone = {.kind = PenaltyKind::l1,
                                .mode =
                                    options.text("mode") == "proximal" ? PenaltyMode::proximal : PenaltyMode::coupled,
                                .to_anchor = true,
                                .strength = options.number("alpha")},
                   .head = {.kind = PenaltyKind::l2, .strength = options.number("beta")}},
        batch_norm_(options.text("batch_norm")) {}

  EpochPlan plan(const EpochView& view) override {
    FreezePlan freeze = FreezePlan::trainable(view.parameters);
    choose_batch_norm(freeze, view.parameters, batch_norm_);
    return {.freeze = std::move(freeze), .penalties = starting_point_penalties(view.parameters, penalties_)};
  }

 private:
  StartingPointPenalties penalties_;
  std::string batch_norm_;
};

}  // namespace

StrategyInfo l1_sp_strategy() {
  return {.name = "l1-sp",
          .summary = "Full fine-tuning with a constant pull towards the pre-trained weights",
          .source = "L1-SP in Davila, Colan, Hasegawa 2024; Li, Grandvalet, Davoine 2018",
          .settings = {alpha_setting(1e-4),
                       beta_setting(),
                       {{.key = "mode",
                         .help = "subgradient: sign(w - w0) joins the loss's gradient; proximal: soft threshold after "
                                 "each step",
                         .choices = {"subgradient", "proximal"}},
                        std::string("subgradient")},
                       batch_norm_setting()},
          .create = create_strategy<L1Sp>};
}

}  // namespace graft
