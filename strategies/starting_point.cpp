#include "strategies/starting_point.h"

namespace graft {

std::vector<PenaltySpec> starting_point_penalties(const ParameterSet& parameters, const StartingPointPenalties& spec) {
  std::vector<PenaltySpec> penalties;
  for (const Parameter& p : parameters.parameters()) {
    const bool is_kernel = p.role == Role::conv_weight || p.role == Role::linear_weight;
    penalties.push_back(is_kernel || spec.all_tensors ? spec.backbone : PenaltySpec{});
  }
  for (std::int64_t i : head_parameters(parameters)) {
    const bool is_kernel = parameters.parameters()[std::size_t(i)].role == Role::linear_weight;
    penalties[std::size_t(i)] = is_kernel ? spec.head : PenaltySpec{};
  }
  return penalties;
}

StrategySetting alpha_setting(double default_strength) {
  return {{.key = "alpha", .help = "strength of the pull towards the pre-trained weights", .min = 0}, default_strength};
}

StrategySetting beta_setting() {
  return {{.key = "beta", .help = "strength of the L2 penalty on the head's kernel", .min = 0}, 0.01};
}

}  // namespace graft
