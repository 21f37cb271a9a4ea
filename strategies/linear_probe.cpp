// Linear probing: only the new head trains; the backbone runs in evaluation mode, so its features do not change and may
// be computed once.
#include "strategies/registry.h"

namespace graft {
namespace {

class LinearProbe : public Strategy {
 public:
  explicit LinearProbe(const StrategyOptions& options)
      : part_(options.text("head") == "all" ? HeadPart::all_linear : HeadPart::last_linear) {}

  EpochPlan plan(const EpochView& view) override {
    FreezePlan freeze = FreezePlan::frozen(view.parameters);
    freeze.train_head(view.parameters, part_);
    return {.freeze = std::move(freeze)};
  }

 private:
  HeadPart part_;
};

}  // namespace

StrategyInfo linear_probe_strategy() {
  return {
      .name = "linear-probe",
      .summary = "Only the head trains, on the frozen backbone's features",
      .source = "LP in Davila, Colan, Hasegawa 2024; evaluation mode as in the code of Kumar et al. 2022 (LP-FT)",
      .settings = {{{.key = "head",
                     .help = "what trains: the last linear layer, or all of them (VGG-19 has three)",
                     .choices = {"last", "all"}},
                    std::string("last")}},
      .create = [](const StrategyOptions& options) -> std::unique_ptr<Strategy> {
        return std::make_unique<LinearProbe>(options);
      },
  };
}

}  // namespace graft
