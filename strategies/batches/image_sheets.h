// Pictures of what a network is shown, for people who watch a training: some images as they come out of augmentation,
// and those that it answers wrongly. The pixels are those of a batch before they are normalised.
#pragma once

#include "strategies/batches/split_batches.h"
#include "strategies/training/evaluation.h"

namespace graft {

/// Most pictures of a sheet, in rows of four.
inline constexpr std::int64_t kSheetImages = 16;

/// Training images, evenly from their list, as the first epoch has them. Errors: as Dataset::load().
Image training_sheet(const Dataset& dataset, const TrainSettings& settings, const Transform& transform);

/// Those that were answered wrongly, the surest error first; no pixels if there are none. Errors: as Dataset::load().
Image error_sheet(const Dataset& dataset, const Predictions& predictions, const Transform& transform);

}  // namespace graft
