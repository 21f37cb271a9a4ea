// Linear probing, then fine-tuning: the head is trained on the frozen backbone first, so that fine-tuning does not
// distort good features for the sake of a random head.
#include <algorithm>

#include "strategies/registry.h"
#include "strategies/shared_settings.h"

namespace graft {
namespace {

class LpFt : public Strategy {
 public:
  explicit LpFt(const StrategyOptions& options)
      : part_(head_part(options)),
        probe_epochs_(options.integer("probe_epochs")),
        lr_factor_(options.number("finetune_lr_factor")),
        batch_norm_(options.text("batch_norm")) {}

  EpochPlan plan(const EpochView& view) override {
    if (probe_epochs_ == 0) probe_epochs_ = std::max<std::int64_t>(1, view.epochs / 3);
    if (view.epoch == 0 && view.epochs <= probe_epochs_)
      throw UsageError("lp-ft: " + std::to_string(view.epochs) + " epochs leave none for fine-tuning after " +
                       std::to_string(probe_epochs_) + " of probing; raise train.epochs");
    if (view.epoch < probe_epochs_) {
      FreezePlan freeze = FreezePlan::frozen(view.parameters);
      freeze.train_head(view.parameters, part_);
      return {.freeze = std::move(freeze), .schedule_end = probe_epochs_, .may_stop_early = false};
    }
    FreezePlan freeze = FreezePlan::trainable(view.parameters);
    choose_batch_norm(freeze, view.parameters, batch_norm_);
    const bool begins = view.epoch == probe_epochs_;
    return {.freeze = std::move(freeze),
            .lr_factor = lr_factor_,
            .schedule_begin = probe_epochs_,
            .starts_from_best = begins,
            .resets_optimizer = begins};
  }

  std::vector<double> state() const override { return {double(probe_epochs_)}; }
  void restore(const std::vector<double>& state) override { probe_epochs_ = std::int64_t(state.at(0)); }

 private:
  HeadPart part_;
  std::int64_t probe_epochs_;  // 0: not decided yet
  double lr_factor_;
  std::string batch_norm_;
};

}  // namespace

StrategyInfo lp_ft_strategy() {
  return {.name = "lp-ft",
          .summary = "Linear probing, then full fine-tuning from the best head at a lower rate",
          .source = "LP-FT in Davila, Colan, Hasegawa 2024; Kumar et al. 2022",
          .settings = {{{.key = "probe_epochs", .help = "epochs of linear probing; 0 is a third of all", .min = 0},
                        std::int64_t{0}},
                       {{.key = "finetune_lr_factor",
                         .help = "fine-tuning's rate as a factor on train.lr",
                         .min = 0,
                         .excludes_min = true},
                        0.1},
                       head_setting(),
                       batch_norm_setting("running")},
          .create = create_strategy<LpFt>};
}

}  // namespace graft
