// What train.class_weights makes of a loss's classes, from the training images' numbers.
#pragma once

#include <vector>

#include "data/dataset.h"
#include "strategies/train_settings.h"

namespace graft {

/// For TaskLossSpec: none, or "balanced" over the training split: n / (classes * n_class), of several labels per image
/// (n - n_class) / n_class for those that hold (pos_weight; 1 where all hold). Errors: a class without training images.
std::vector<double> class_weights(const TrainSettings& settings, const Dataset& dataset);

}  // namespace graft
