// What a training run needs of its device's memory, before it starts: the real training step, with the strategy's
// plans, runs on a device that computes nothing (kernels/dry_backend.h). No weights, images or GPU are needed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "data/model_file.h"
#include "kernels/dry_backend.h"
#include "models/network.h"
#include "strategies/train_settings.h"

namespace graft {

struct MemoryQuestion {
  TrainSettings settings;  // batch, accumulate, strategy, optimizer, epochs, …; data and weights are not opened
  ModelInfo info;          // architecture, classes, side of the images
  Device device;           // need not be here
  Precision precision = Precision::f32;
  std::int64_t images = 0;  // in the training split, which bounds the batch; 0: as many as the batch needs
  std::int64_t validation_images = 0;
  std::int64_t limit_bytes = 0;  // that the device has; 0: no limit
};

/// One stage of the strategy.
struct StageMemory {
  std::int64_t first_epoch = 1, last_epoch = 1;  // from 1, both included
  std::int64_t batch = 0;                        // images, as far as there are any
  MemoryPeak peak;                               // when most was live
  std::int64_t reserved_bytes = 0;               // the most that was ever taken from the device
  MemoryPlan step;                               // of one update's memory, without what outlives it
};

/// Every stage on its own, by two updates, one batch of evaluation and the copies that saving makes. Images that stay
/// on the device count if train.device_image_cache_mb says how many may: by default they take what the run leaves.
/// Memory of the host (decoded images), kept features, which may stay in what images leave, and what vendor libraries
/// take for themselves are not counted; nor are workspaces of convolutions on a GPU, which only cuDNN knows.
/// Errors: OutOfMemory, if the limit does not suffice; the settings cannot be planned.
std::vector<StageMemory> estimate_memory(const MemoryQuestion& question);

/// What is free on a device that prepares images, without what the whole run is estimated to need (half of what is free
/// where that cannot be said), a tenth more, cuDNN's workspace and half a GiB. 0 on other devices. `images`: in the
/// training split.
std::int64_t memory_left(const Network& network, const TrainSettings& settings, std::int64_t images);

/// Bytes that images of a run, and kept features, may take of its device to stay there: what
/// train.device_image_cache_mb says, by default memory_left.
std::int64_t memory_for_images(const Network& network, const TrainSettings& settings, std::int64_t images);

/// The stage that takes most from the device.
const StageMemory& largest(const std::vector<StageMemory>& stages);

/// The largest batch with which the run stays within `limit_bytes`; 0: not even one image does.
std::int64_t largest_batch(MemoryQuestion question);

}  // namespace graft
