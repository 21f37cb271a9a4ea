// The batches of one run, split by split: images from loaders, or what a frozen prefix of the network gives for them,
// computed once when nothing random touches the images.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <string>

#include "strategies/batches/device_images.h"
#include "strategies/batches/feature_cache.h"
#include "strategies/batches/frozen_prefix.h"
#include "strategies/train_settings.h"

namespace graft {

struct SplitBatchesSpec {
  const Network& network;
  const Dataset& dataset;
  const TrainSettings& settings;
  Transform transform;
  std::filesystem::path folder;  // for features that memory may not hold; empty: they are not kept
  bool validates = true;         // false: validation images are never read
  std::string_view steps_setting = "train.max_steps";  // as users know what limits the steps
  BatchSource* training = nullptr;                     // in place of the training images
  Ranks& ranks = lone_rank();                          // that share the computing of features
};

/// What training starts from while a plan holds.
struct FeatureRequest {
  FrozenPrefix prefix;
  std::string digest;  // of what is frozen (FrozenProof::digest): other values, other features
  const std::atomic<bool>* stop = nullptr;
  bool may_share = true;  // features are worth keeping for other runs
};

class SplitBatches {
 public:
  explicit SplitBatches(const SplitBatchesSpec& spec);

  /// The training split, shuffled as the settings say. Errors: it is empty.
  BatchSource& training();
  /// Any split in listing order, without augmentation. Errors: it is empty.
  BatchSource& evaluation(Split split);
  /// Where images lie that the device makes its batches of, for people; empty: the host makes them.
  std::string images_note();
  std::int64_t count(Split split) const { return std::int64_t(samples_[index(split)].size()); }
  /// Of a whole training batch.
  std::int64_t rows() const { return std::min(spec_.settings.batch, count(Split::train)); }

  /// From now on training and validation start behind the frozen prefix, if it is worth while and possible; else from
  /// images. Computes features that are not at hand, those of another request are dropped. Tells `progress` what is
  /// kept, or why nothing is. False if `stop` was raised.
  bool start_behind(const FeatureRequest& request, ProgressSink& progress);
  /// Goes back to images unless features of this digest are at hand.
  void keep_features_of(const std::string& digest);
  void use_images();
  bool has_features() const { return cache_ != nullptr; }

 private:
  static std::size_t index(Split split) { return std::size_t(split); }
  LoaderSpec loader_spec(Split split) const;
  /// Training and validation images are read in every epoch and share what keeps them; test images are read once.
  std::int64_t sharing() const { return count(Split::train) + count(Split::val); }
  /// For images that stay on the device, and a split's share; computed when first asked for.
  std::int64_t resident_bytes();
  ImageRoom image_room(Split split) {
    return {.resident_bytes = split == Split::test ? 0 : resident_bytes() / sharing() * count(split),
            .is_all = spec_.settings.device_image_cache_mb < 0};
  }
  /// For features: half of what images leave, which may be needed again. Features are taken at once and make way for
  /// nothing, so the device must have the room whatever the settings say.
  std::int64_t resident_feature_bytes();
  BatchSource& images(Split split);
  /// Those whose features are kept: training's, and validation's unless neither this run nor others read them.
  std::vector<std::int64_t> feature_samples() const;
  /// Why the prefix's output is not kept; empty: it is.
  std::string obstacle(const FeatureRequest& request) const;
  bool keep_features(const FeatureRequest& request, ProgressSink& progress);
  /// The file that shares these features among runs; empty: they are not shared.
  std::filesystem::path shared_file(const FeatureRequest& request, std::span<const std::int64_t> samples) const;
  /// False: there is none that can be used.
  bool take_features(FeatureCache& cache, const std::filesystem::path& shared, std::span<const std::int64_t> samples,
                     ProgressSink& progress) const;
  /// False if stopped.
  bool compute_features(FeatureCache& cache, const std::filesystem::path& shared, ProgressSink& progress);
  bool keeps_validation() const;

  SplitBatchesSpec spec_;
  Augmentation augmentation_;
  std::array<std::vector<std::int64_t>, 3> samples_;
  std::unique_ptr<BatchSource> training_;
  std::array<std::unique_ptr<BatchSource>, 3> evaluation_;
  std::optional<std::int64_t> resident_bytes_;  // of all splits

  std::unique_ptr<FeatureCache> cache_;  // null: batches are images
  std::string cache_digest_;
  std::unique_ptr<FeatureBatches> training_features_, validation_features_;
};

/// The settings' preset with what they override.
Augmentation augmentation_of(const TrainSettings& settings);

/// Threads that decode: as set, else as many as compute, else all cores.
int loader_threads(std::int64_t loader_threads, std::int64_t threads);

/// The images that the settings name, split as they say. Errors: see Dataset::open().
/// `finds_copies`, `stop`: see DatasetSpec.
Dataset open_dataset(const TrainSettings& settings, bool finds_copies = false, const std::atomic<bool>* stop = nullptr);

/// How the model wants its images.
Transform transform_of(const ModelInfo& info);

}  // namespace graft
