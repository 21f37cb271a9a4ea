// BSS alone: full fine-tuning with train.bss, the penalty that every other strategy can be given as well.
#include "strategies/registry.h"

namespace graft {

StrategyInfo bss_strategy() {
  StrategyInfo info = full_strategy();
  info.name = "bss";
  info.summary = "Full fine-tuning that shrinks the smallest singular values of a batch's features (train.bss)";
  info.source = "BSS: Chen et al. 2019 and their code";
  info.defaults = {{"train.bss", 1e-3}};
  return info;
}

}  // namespace graft
