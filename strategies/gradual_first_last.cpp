// Gradual unfreezing from first to last: the head alone, then one more block of the backbone in every stage.
#include "strategies/gradual_unfreezing.h"
#include "strategies/registry.h"

namespace graft {
namespace {

class GradualFirstLast : public GradualUnfreezing {
 public:
  explicit GradualFirstLast(const StrategyOptions& options) : GradualUnfreezing(options, UnfreezingOrder::first_last) {}
};

}  // namespace

StrategyInfo gradual_first_last_strategy() {
  return {.name = "gradual-first-last",
          .summary = "The head trains first; every stage unfreezes one more block, first to last",
          .source = "G-FL in Davila, Colan, Hasegawa 2024",
          .settings = gradual_unfreezing_settings(),
          .create = create_strategy<GradualFirstLast>};
}

}  // namespace graft
