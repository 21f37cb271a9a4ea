// The batches of one run, split by split: images from loaders, or the head's inputs computed once when the backbone
// cannot change and nothing random touches the images.
#pragma once

#include <array>
#include <string>

#include "strategies/batch_source.h"
#include "strategies/train_settings.h"

namespace graft {

struct SplitBatchesSpec {
  const Network& network;
  const Dataset& dataset;
  const TrainSettings& settings;
  Transform transform;
};

class SplitBatches {
 public:
  explicit SplitBatches(const SplitBatchesSpec& spec);

  /// The training split, shuffled as the settings say. Errors: it is empty.
  BatchSource& training();
  /// Any split in listing order, without augmentation. Errors: it is empty.
  BatchSource& evaluation(Split split);
  std::int64_t count(Split split) const { return std::int64_t(samples_[index(split)].size()); }

  /// From now on training and validation give features; computes those that are missing. False if `stop` was raised.
  bool use_features(ProgressSink& progress, const std::atomic<bool>* stop);
  void use_images() { gives_features_ = false; }
  bool gives_features() const { return gives_features_; }

  /// Why features cannot be kept whatever the plan: augmentation, or switched off. Empty: they can.
  std::string features_impossible() const;

 private:
  static std::size_t index(Split split) { return std::size_t(split); }
  LoaderSpec loader_spec(Split split) const;
  ImageBatches& images(Split split);

  SplitBatchesSpec spec_;
  Augmentation augmentation_;
  std::array<std::vector<std::int64_t>, 3> samples_;
  std::unique_ptr<ImageBatches> training_;
  std::array<std::unique_ptr<ImageBatches>, 3> evaluation_;
  bool gives_features_ = false;
  std::unique_ptr<FeatureCache> cache_;
  std::unique_ptr<FeatureBatches> training_features_;
  std::array<std::unique_ptr<FeatureBatches>, 3> evaluation_features_;
};

/// The settings' preset with what they override.
Augmentation augmentation_of(const TrainSettings& settings);

/// Threads that decode: as set, else as many as compute, else all cores.
int loader_threads(std::int64_t loader_threads, std::int64_t threads);

/// How the model wants its images.
Transform transform_of(const ModelInfo& info);

}  // namespace graft
