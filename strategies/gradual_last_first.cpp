// Gradual unfreezing from last to first: the head alone, then one more block of the backbone in every stage.
#include "strategies/gradual_unfreezing.h"
#include "strategies/registry.h"

namespace graft {
namespace {

class GradualLastFirst : public GradualUnfreezing {
 public:
  explicit GradualLastFirst(const StrategyOptions& options) : GradualUnfreezing(options, UnfreezingOrder::last_first) {}
};

}  // namespace

StrategyInfo gradual_last_first_strategy() {
  return {.name = "gradual-last-first",
          .summary = "The head trains first; every stage unfreezes one more block, last to first",
          .source = "G-LF in Davila, Colan, Hasegawa 2024; ULMFiT (Howard, Ruder 2018)",
          .settings = gradual_unfreezing_settings(),
          .create = create_strategy<GradualLastFirst>};
}

}  // namespace graft
