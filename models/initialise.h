// Random starts of networks and heads. The distributions are those of PyTorch and torchvision, the numbers graft's own:
// a pure function of the seed, the parameter's position and the element, the same on every device.
#pragma once

#include <cstdint>

#include "models/network.h"

namespace graft {

/// Draws the last linear layer anew: weight and bias uniform in ±1/sqrt(inputs), PyTorch's default for Linear.
void initialise_head(Network& network, std::uint64_t seed);

/// Draws every parameter; running statistics become mean 0 and variance 1.
/// Source: torchvision's constructors. Convolutions normal with variance 2/(K*R*S) (ResNet, VGG; fan out) or 2/(C*R*S)
/// (DenseNet; fan in); VGG's linear weights normal with deviation 0.01; other linear weights as in initialise_head;
/// norms 1 and 0; all other biases 0, but ResNet's, which is as in initialise_head.
void initialise_from_scratch(Network& network, std::uint64_t seed);

}  // namespace graft
