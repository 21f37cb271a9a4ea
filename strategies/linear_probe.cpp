// Linear probing: only the new head trains; the backbone runs in evaluation mode, so its features do not change and may
// be computed once.
#include "strategies/registry.h"
#include "strategies/shared_settings.h"

namespace graft {
namespace {

class LinearProbe : public Strategy {
 public:
  explicit LinearProbe(const StrategyOptions& options)
      : part_(head_part(options)), frozen_batch_norm_(options.text("frozen_batch_norm")) {}

  EpochPlan plan(const EpochView& view) override {
    FreezePlan freeze = frozen_plan(view.parameters, frozen_batch_norm_);
    freeze.train_head(view.parameters, part_);
    return {.freeze = std::move(freeze)};
  }

 private:
  HeadPart part_;
  std::string frozen_batch_norm_;
};

}  // namespace

StrategyInfo linear_probe_strategy() {
  return {.name = "linear-probe",
          .summary = "Only the head trains, on the frozen backbone's features",
          .source = "LP in Davila, Colan, Hasegawa 2024; evaluation mode as in the code of Kumar et al. 2022 (LP-FT)",
          .settings = {head_setting(), frozen_batch_norm_setting()},
          .create = create_strategy<LinearProbe>};
}

}  // namespace graft
