// The constructors of the three architectures, for make_network alone. Parameters are declared, not yet allocated.
#pragma once

#include "models/network.h"

namespace graft {

/// He et al. 2015, "Deep residual learning for image recognition". With stride_on "3x3" torchvision's v1.5.
std::unique_ptr<Network> make_resnet50(const ModelInfo& info);
/// Huang et al. 2017, "Densely connected convolutional networks".
std::unique_ptr<Network> make_densenet121(const ModelInfo& info);
/// Simonyan, Zisserman 2014, "Very deep convolutional networks for large-scale image recognition".
std::unique_ptr<Network> make_vgg19(const ModelInfo& info);

}  // namespace graft
