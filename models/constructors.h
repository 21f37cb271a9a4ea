// The constructors of the three families, for make_network alone. Parameters are declared, not yet allocated.
#pragma once

#include "models/network.h"

namespace graft {

/// He et al. 2015, "Deep residual learning for image recognition". With stride_on "3x3" torchvision's v1.5.
std::unique_ptr<Network> make_resnet(const Architecture& architecture, const ModelInfo& info);
/// Huang et al. 2017, "Densely connected convolutional networks".
std::unique_ptr<Network> make_densenet(const Architecture& architecture, const ModelInfo& info);
/// Simonyan, Zisserman 2014, "Very deep convolutional networks for large-scale image recognition".
std::unique_ptr<Network> make_vgg(const Architecture& architecture, const ModelInfo& info);

}  // namespace graft
