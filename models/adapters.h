// Low-rank adapters on a network's convolutions: the weights of a pre-trained network stay, small factors beside them
// train. Operations see them through Parameter::adapter; files hold the sum under the weight's own name
// (network_io.h).
#pragma once

#include <cstdint>
#include <vector>

#include "models/network.h"

namespace graft {

struct AdapterSpec {
  std::vector<std::int64_t> weights;  // convolution weights, by index into the network's parameters
  std::int64_t rank = 8;
  double scale = 1;  // of the product of the factors
  std::uint64_t seed = 0;
};

/// Adds `<weight>.lora_down` [rank,C,R,S], drawn as PyTorch draws a convolution (uniform in ±1/sqrt(C*R*S)), and
/// `<weight>.lora_up` [K,rank,1,1], zero, behind the network's parameters: the network computes what it did before.
/// Requires parameters without adapters. The optimizer and freeze plans must be made afterwards.
/// Errors: rank below 1; an index that is no convolution's weight.
void add_adapters(Network& network, const AdapterSpec& spec);

}  // namespace graft
