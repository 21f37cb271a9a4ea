#include "strategies/registry.h"

namespace graft {

const std::vector<StrategyInfo>& strategies() {
  static const std::vector<StrategyInfo> all{
      // The eight of Davila, Colan, Hasegawa 2024, then their neighbours.
      full_strategy(),
      linear_probe_strategy(),
      gradual_last_first_strategy(),
      gradual_first_last_strategy(),
      lp_ft_strategy(),
      l1_sp_strategy(),
      l2_sp_strategy(),
      auto_rgn_strategy(),
      discriminative_strategy(),
      bn_only_strategy(),
      auto_snr_strategy(),
      delta_strategy(),
      bss_strategy(),
      stoch_norm_strategy(),
      lora_strategy(),
  };
  return all;
}

}  // namespace graft
