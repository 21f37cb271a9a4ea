// How the verbs around weights describe a model to people.
#pragma once

#include <string>

#include "data/model_file.h"

namespace graft {

/// "224 px of a 256 px resize, rgb, value / 255, mean …, std …", and the window of 16-bit images if there is one.
std::string input_text(const ModelInfo& info);

/// "strides on the 3x3 convolutions; batch-norm epsilon 1e-05": of what the network has.
std::string layers_text(const ModelInfo& info);

}  // namespace graft
