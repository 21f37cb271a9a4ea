#include "strategies/batches/split_batches.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/out_of_memory.h"
#include "kernels/usable_cores.h"
#include "strategies/analysis/memory_estimate.h"

namespace graft {

SplitBatches::SplitBatches(const SplitBatchesSpec& spec) : spec_(spec), augmentation_(augmentation_of(spec.settings)) {
  for (Split split : kSplits) samples_[index(split)] = spec.dataset.indices(split);
  if (samples_[index(Split::train)].empty())
    throw Error("train: " + spec.dataset.root().string() + " has no training images");
}

LoaderSpec SplitBatches::loader_spec(Split split) const {
  const TrainSettings& s = spec_.settings;
  const std::int64_t budget = s.image_cache_mb << 20;
  return {.indices = samples_[index(split)],
          .batch = s.batch,
          .shuffles = false,
          .transform = spec_.transform,
          .augmentation = {},
          .seed = std::uint64_t(s.seed),
          .threads = loader_threads(s.loader_threads, s.threads),
          .cache_bytes = split == Split::test ? 0 : budget / sharing() * count(split)};
}

std::int64_t SplitBatches::resident_bytes() {
  if (!resident_bytes_) resident_bytes_ = memory_for_images(spec_.network, spec_.settings, count(Split::train));
  return *resident_bytes_;
}

std::int64_t SplitBatches::resident_feature_bytes() {
  const Network& network = spec_.network;
  std::int64_t bytes = resident_bytes();
  if (bytes > 0 && spec_.settings.device_image_cache_mb >= 0 && network.context().backend().prepares_images())
    bytes = std::min(bytes, memory_left(network, spec_.settings, count(Split::train)));
  const std::int64_t side = spec_.transform.crop;
  return std::max<std::int64_t>(0, bytes - sharing() * side * side * 3) / 2;
}

std::string SplitBatches::images_note() {
  const Backend& device = spec_.network.context().backend();
  if (spec_.training || (resident_bytes() == 0 && !device.prepares_images())) return {};
  return fmt::format(
      "{} makes its batches of decoded images; {} (train.device_image_cache_mb)", to_string(device.device()),
      resident_bytes() == 0 ? "none stay there" : "up to " + memory_text(resident_bytes()) + " of them stay there");
}

BatchSource& SplitBatches::images(Split split) {
  std::unique_ptr<BatchSource>& batches = evaluation_[index(split)];
  if (!batches) {
    if (count(split) == 0)
      throw Error(spec_.dataset.root().string() + " has no " + std::string(to_string(split)) + " images");
    batches = image_batches(spec_.network.context(), spec_.dataset, loader_spec(split), image_room(split));
  }
  return *batches;
}

BatchSource& SplitBatches::training() {
  if (training_features_) return *training_features_;
  if (spec_.training) return *spec_.training;
  if (!training_) {
    LoaderSpec spec = loader_spec(Split::train);
    spec.shuffles = spec_.settings.shuffle;
    spec.augmentation = augmentation_;
    training_ = image_batches(spec_.network.context(), spec_.dataset, spec, image_room(Split::train));
  }
  return *training_;
}

BatchSource& SplitBatches::evaluation(Split split) {
  if (split == Split::val && validation_features_) return *validation_features_;
  return images(split);
}

std::string SplitBatches::obstacle(const FeatureRequest& request) const {
  if (request.prefix.parts == 0) return request.prefix.limit;
  if (!spec_.settings.feature_cache) return "train.feature_cache is off";
  if (!augmentation_.is_none()) return "augmentation changes the images in every epoch";
  const std::int64_t most = spec_.settings.max_steps * spec_.settings.batch * spec_.settings.accumulate;
  if (most >= 0 && most < count(Split::train))
    return fmt::format("{} lets only {} of {} training images be used", spec_.steps_setting, most, count(Split::train));
  return {};
}

bool SplitBatches::start_behind(const FeatureRequest& request, ProgressSink& progress) {
  if (cache_ && cache_->parts() == request.prefix.parts && cache_digest_ == request.digest) return true;
  use_images();
  const bool everything_trains = std::ranges::all_of(spec_.network.parameters().parameters(), &Parameter::is_trainable);
  if (everything_trains) return true;
  std::string reason = obstacle(request);
  if (reason.empty()) {
    try {
      return keep_features(request, progress);
    } catch (const NoSpace& e) {
      reason = e.what();
    }
  }
  const int frozen = request.prefix.frozen_parameters;
  progress.note((frozen > 0
                     ? "the blocks before " + spec_.network.part_name(frozen) + " are frozen, but their output is"
                     : std::string("features are")) +
                " not kept: " + reason);
  return true;
}

std::filesystem::path SplitBatches::shared_file(const FeatureRequest& request,
                                                std::span<const std::int64_t> samples) const {
  const TrainSettings& s = spec_.settings;
  if (s.feature_cache_dir.empty() || !request.may_share) return {};
  const std::string key = feature_key({.network = spec_.network,
                                       .dataset = spec_.dataset,
                                       .transform = spec_.transform,
                                       .samples = samples,
                                       .batch = s.batch,
                                       .parts = request.prefix.parts,
                                       .digest = request.digest,
                                       .threads = loader_threads(s.loader_threads, s.threads)});
  return std::filesystem::path(s.feature_cache_dir) / (key + ".features");
}

bool SplitBatches::take_features(FeatureCache& cache, const std::filesystem::path& shared,
                                 std::span<const std::int64_t> samples, ProgressSink& progress) const {
  if (shared.empty() || !std::filesystem::exists(shared)) return false;
  try {
    cache.take(shared, samples);
    return true;
  } catch (const Error& e) {
    progress.note(std::string("features are computed anew: ") + e.what());
    return false;
  }
}

bool SplitBatches::compute_features(FeatureCache& cache, const std::filesystem::path& shared, ProgressSink& progress) {
  if (!cache.add(training(), progress)) return false;
  if (keeps_validation() && !cache.add(images(Split::val), progress)) return false;
  if (shared.empty() || !spec_.ranks.is_first()) return true;
  try {
    write_feature_file(shared, cache.rows());
  } catch (const Error& e) {
    progress.note(std::string("features are not shared with other runs: ") + e.what());
  }
  return true;
}

/// A file for other runs holds what a run that validates needs.
bool SplitBatches::keeps_validation() const {
  return count(Split::val) > 0 && (spec_.validates || !spec_.settings.feature_cache_dir.empty());
}

std::vector<std::int64_t> SplitBatches::feature_samples() const {
  std::vector<std::int64_t> samples = samples_[index(Split::train)];
  const std::vector<std::int64_t>& validation = samples_[index(Split::val)];
  if (keeps_validation()) samples.insert(samples.end(), validation.begin(), validation.end());
  return samples;
}

bool SplitBatches::keep_features(const FeatureRequest& request, ProgressSink& progress) {
  const ParameterSet& parameters = spec_.network.parameters();
  const std::int64_t weights_bytes = parameters.values().shape().size() * size_of(parameters.values().dtype());
  const std::vector<std::int64_t> samples = feature_samples();
  const std::filesystem::path shared = shared_file(request, samples);
  const FeatureCacheSpec spec{
      .network = spec_.network,
      .dataset = spec_.dataset,
      .parts = request.prefix.parts,
      .images = std::int64_t(samples.size()),
      .device_bytes = resident_feature_bytes(),
      .stays_on_host = !shared.empty() || spec_.ranks.count() > 1,
      .memory_bytes = spec_.settings.feature_cache_mb << 20,
      .folder = spec_.folder,
      // best.h5 and last.h5 with two moments, and the copies of both that are being written.
      .spare_bytes = 8 * weights_bytes,
      .threads = loader_threads(spec_.settings.loader_threads, spec_.settings.threads),
      .stop = request.stop,
      .ranks = spec_.ranks,
  };
  auto cache = std::make_unique<FeatureCache>(spec);
  bool is_taken = take_features(*cache, shared, samples, progress);
  is_taken = !spec_.ranks.any(!is_taken);  // or all compute them
  if (!is_taken) {
    cache = std::make_unique<FeatureCache>(spec);
    if (!compute_features(*cache, shared, progress)) return false;
  }
  cache->move_to_device();
  training_features_ = std::make_unique<FeatureBatches>(*cache, training(), spec_.settings.batch);
  if (keeps_validation())
    validation_features_ = std::make_unique<FeatureBatches>(*cache, images(Split::val), spec_.settings.batch);
  cache_ = std::move(cache);
  cache_digest_ = request.digest;
  const FrozenPrefix& prefix = request.prefix;
  progress.note("the blocks before " + spec_.network.part_name(prefix.parts) + " are frozen: their output " +
                (is_taken ? "was computed by an earlier run, " : "is computed once and kept, ") +
                cache_->description() +
                (prefix.frozen_parameters > prefix.parts ? "; no further, since " + prefix.limit : ""));
  return true;
}

void SplitBatches::keep_features_of(const std::string& digest) {
  if (cache_digest_ != digest) use_images();
}

void SplitBatches::use_images() {
  training_features_.reset();
  validation_features_.reset();
  cache_.reset();
  cache_digest_.clear();
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
  return usable_cores();
}

Dataset open_dataset(const TrainSettings& s, bool finds_copies, const std::atomic<bool>* stop) {
  // Half of what the loader may keep, and less with every image that it has loaded.
  const std::int64_t kept_bytes = s.image_cache_mb << 19;
  return Dataset::open({.path = s.data,
                        .val_fraction = s.val_fraction,
                        .test_fraction = s.test_fraction,
                        .seed = std::uint64_t(s.seed),
                        .skip_bad = s.skip_bad,
                        .finds_copies = finds_copies,
                        .threads = loader_threads(s.loader_threads, s.threads),
                        .window = intensity_window(s),
                        .kept_bytes = kept_bytes,
                        .stop = stop});
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
