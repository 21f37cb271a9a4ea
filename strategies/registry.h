// The list of strategies. Each is one file that defines the function declared here; a new one adds a line to this file
// and one to registry.cpp.
#pragma once

#include "strategies/strategy.h"

namespace graft {

StrategyInfo full_strategy();
StrategyInfo linear_probe_strategy();
StrategyInfo gradual_last_first_strategy();
StrategyInfo gradual_first_last_strategy();
StrategyInfo lp_ft_strategy();
StrategyInfo l1_sp_strategy();
StrategyInfo l2_sp_strategy();
StrategyInfo auto_rgn_strategy();
StrategyInfo discriminative_strategy();
StrategyInfo bn_only_strategy();
StrategyInfo auto_snr_strategy();
StrategyInfo delta_strategy();
StrategyInfo bss_strategy();
StrategyInfo stoch_norm_strategy();
StrategyInfo lora_strategy();

}  // namespace graft
