#include "strategies/split_batches.h"

#include <thread>

namespace graft {

SplitBatches::SplitBatches(const SplitBatchesSpec& spec) : spec_(spec), augmentation_(augmentation_of(spec.settings)) {
  for (Split split : kSplits) samples_[index(split)] = spec.dataset.indices(split);
  if (samples_[index(Split::train)].empty())
    throw Error("train: " + spec.dataset.root().string() + " has no training images");
}

LoaderSpec SplitBatches::loader_spec(Split split) const {
  const TrainSettings& s = spec_.settings;
  const std::int64_t budget = s.image_cache_mb << 20;
  // Training and validation images are read in every epoch and share the budget; test images are read once.
  const std::int64_t sharing = count(Split::train) + count(Split::val);
  return {.indices = samples_[index(split)],
          .batch = s.batch,
          .shuffles = false,
          .transform = spec_.transform,
          .augmentation = {},
          .seed = std::uint64_t(s.seed),
          .threads = loader_threads(s.loader_threads, s.threads),
          .cache_bytes = split == Split::test ? 0 : budget / sharing * count(split)};
}

ImageBatches& SplitBatches::images(Split split) {
  std::unique_ptr<ImageBatches>& batches = evaluation_[index(split)];
  if (!batches) {
    if (count(split) == 0)
      throw Error(spec_.dataset.root().string() + " has no " + std::string(to_string(split)) + " images");
    batches = std::make_unique<ImageBatches>(spec_.network.context(), spec_.dataset, loader_spec(split));
  }
  return *batches;
}

BatchSource& SplitBatches::training() {
  if (gives_features_) return *training_features_;
  if (!training_) {
    LoaderSpec spec = loader_spec(Split::train);
    spec.shuffles = spec_.settings.shuffle;
    spec.augmentation = augmentation_;
    training_ = std::make_unique<ImageBatches>(spec_.network.context(), spec_.dataset, spec);
  }
  return *training_;
}

BatchSource& SplitBatches::evaluation(Split split) {
  if (gives_features_ && evaluation_features_[index(split)]) return *evaluation_features_[index(split)];
  return images(split);
}

bool SplitBatches::use_features(ProgressSink& progress, const std::atomic<bool>* stop) {
  if (!cache_) {
    auto cache = std::make_unique<FeatureCache>(spec_.network, spec_.dataset);
    gives_features_ = false;
    BatchSource& training = this->training();
    for (Split split : {Split::train, Split::val}) {
      if (count(split) == 0) continue;
      // Training images are taken through the training loader, whose image cache later epochs may need.
      if (!cache->add(split == Split::train ? training : images(split), count(split), progress, stop)) return false;
    }
    cache_ = std::move(cache);
    training_features_ = std::make_unique<FeatureBatches>(*cache_, training, spec_.settings.batch);
    if (count(Split::val) > 0)
      evaluation_features_[index(Split::val)] =
          std::make_unique<FeatureBatches>(*cache_, images(Split::val), spec_.settings.batch);
  }
  gives_features_ = true;
  return true;
}

std::string SplitBatches::features_impossible() const {
  if (!spec_.settings.feature_cache) return "train.feature_cache is off";
  if (!augmentation_.is_none()) return "augmentation changes the images in every epoch";
  return {};
}

Augmentation augmentation_of(const TrainSettings& s) {
  Augmentation a = augmentation_preset(s.augment);
  const auto override_with = [](double& value, double setting) {
    if (setting >= 0) value = setting;
  };
  override_with(a.crop_scale_min, s.crop_scale_min);
  override_with(a.horizontal_flip, s.horizontal_flip);
  override_with(a.vertical_flip, s.vertical_flip);
  override_with(a.rotation_degrees, s.rotation_degrees);
  override_with(a.brightness, s.brightness);
  override_with(a.contrast, s.contrast);
  override_with(a.saturation, s.saturation);
  check(a);
  return a;
}

int loader_threads(std::int64_t loader_threads, std::int64_t threads) {
  if (loader_threads > 0) return int(loader_threads);
  if (threads > 0) return int(threads);
  return int(std::max(1U, std::thread::hardware_concurrency()));
}

Transform transform_of(const ModelInfo& info) {
  Transform t{.resize = info.resize,
              .crop = info.input_size,
              .scale = float(info.input_scale),
              .is_bgr = info.channel_order == "bgr"};
  for (std::size_t c = 0; c < 3; ++c) t.mean[c] = float(info.mean[c]), t.std[c] = float(info.std[c]);
  return t;
}

}  // namespace graft
