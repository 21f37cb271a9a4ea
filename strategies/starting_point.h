// Penalties towards the starting point (SP), as L1-SP and L2-SP lay them over a network.
#pragma once

#include "strategies/strategy.h"

namespace graft {

struct StartingPointPenalties {
  PenaltySpec backbone;      // of its convolution and linear kernels
  PenaltySpec head;          // of the head's kernel, not its bias
  bool all_tensors = false;  // of the backbone's biases, scales and shifts as well
};

/// By parameter.
std::vector<PenaltySpec> starting_point_penalties(const ParameterSet& parameters, const StartingPointPenalties& spec);

/// "alpha" and "beta", the strengths towards the start and of the head's towards zero.
StrategySetting alpha_setting(double default_strength);
StrategySetting beta_setting();

}  // namespace graft
