// Batches for training and evaluation: images decoded, resized, augmented and normalised by background threads, or only
// decoded, for a device that does the rest. The pixels of a batch depend on (dataset, spec, epoch) only; the number of
// threads, the cache and a resume change nothing.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "data/augment.h"
#include "data/dataset.h"
#include "data/image.h"

namespace graft {

/// What a model expects of its input; the fields are those of the model file.
struct Transform {
  std::int64_t resize = 256;  // shorter side, then
  std::int64_t crop = 224;    // centre crop
  float scale = 255.0F;
  std::array<float, 3> mean{0.485F, 0.456F, 0.406F};  // in the channel order below
  std::array<float, 3> std{0.229F, 0.224F, 0.225F};
  bool is_bgr = false;
  friend bool operator==(const Transform&, const Transform&) = default;
};

/// Turns bytes into floats: value / scale - mean, / std, each step rounded to float32, as torchvision's ToTensor and
/// Normalize do (same bits). A table of 256 values per channel holds every possible result.
class Normalizer {
 public:
  /// Errors: scale or a std of zero, or not finite.
  explicit Normalizer(const Transform& transform);
  /// out: (height, width, 3) floats, in the transform's channel order.
  void operator()(float* out, const Image& image) const;

 private:
  std::array<std::array<float, 256>, 3> table_;  // per output channel
  bool is_bgr_;
};

/// The same for Backend::images_to_input.
PixelScaling pixel_scaling(const Transform& transform);

/// resize_and_crop and Normalizer: the input that evaluation sees. (crop, crop, 3) floats.
std::vector<float> prepare(const Image& image, const Transform& transform);

/// An image for a device that does the rest: Backend::images_to_input.
struct DecodedImage {
  Image image;           // none where the device has it: LoaderSpec::size_on_device
  ImageChange change;    // of it; `block` and `first_byte` are left to the caller
  bool may_stay = true;  // the image is the same in every epoch
};

/// Some images of a dataset. Pixels are NHWC, dense; all images are height x width.
struct Batch {
  std::vector<float> pixels;          // (n, height, width, 3)
  std::vector<DecodedImage> decoded;  // (n) instead, with LoaderSpec::decodes_only
  std::vector<std::int32_t> labels;   // (n)
  std::vector<std::int64_t> indices;  // (n), into Dataset::samples()
  std::int64_t height = 0, width = 0;
  std::int64_t n() const { return static_cast<std::int64_t>(labels.size()); }
};

struct LoaderSpec {
  std::vector<std::int64_t> indices;  // which samples of the dataset
  std::int64_t batch = 32;
  bool shuffles = false;  // a new order each epoch, from the seed; else the order of `indices`
  Transform transform;
  Augmentation augmentation;  // {}: none
  std::uint64_t seed = 0;
  int threads = 1;
  /// Memory for images kept between epochs: cropped ones if nothing is random, else decoded ones. What does not fit is
  /// read again. 0 keeps none.
  std::int64_t cache_bytes = std::int64_t{1} << 30;
  /// Batches prepared ahead of the one in use.
  std::int64_t batches_ahead = 3;
  /// Batches have Batch::decoded: the image as it is before anything random happens, that is resized and cropped unless
  /// the crop is random, and what is to happen to it. Images that shrink more than images_to_input can are finished
  /// here. Images are kept between epochs only by Loader::keep.
  bool decodes_only = false;
  /// With that: the size of a sample's image that the device has, which then is not read. Called by many threads.
  std::function<std::optional<Size>(std::int64_t sample)> size_on_device = {};
};

/// Which batches of an epoch are wanted where several processes share them: of every `window` batches that follow one
/// another, the part of one rank, which are neighbours. Parts are equal where `window` is a multiple of `ranks`.
struct BatchShare {
  int rank = 0, ranks = 1;
  std::int64_t window = 1;
  bool has(std::int64_t batch) const { return batch % window * ranks / window == rank; }
  /// The samples of an epoch's batches that are in it, without those before `first_batch`.
  std::vector<std::int64_t> samples(const std::vector<std::int64_t>& order, std::int64_t batch,
                                    std::int64_t first_batch) const;
};

/// In place of an epoch's number: the samples in the order of LoaderSpec::indices, even if epochs are shuffled.
inline constexpr std::int64_t kListingOrder = -1;

/// Iterates over epochs. The last batch of an epoch may be smaller. Use from one thread; the dataset must outlive it.
class Loader {
 public:
  /// Errors: no samples, an index outside the dataset, batch or threads below 1, a bad transform or augmentation.
  Loader(const Dataset& dataset, LoaderSpec spec);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// Begins an epoch, at its first batch or, for a resume, a later one; batches outside `share` are left out. What was
  /// prepared of another epoch is dropped.
  void start(std::int64_t epoch, std::int64_t first_batch = 0, const BatchShare& share = {});

  /// The next batch of the epoch, waiting for it if need be; false when the epoch is over. `batch`'s memory is reused.
  /// Errors: what went wrong with one of its images.
  bool next(Batch& batch);

  /// Keeps an image of Batch::decoded for later epochs, if there is room. Errors: it may not stay.
  void keep(std::int64_t sample, DecodedImage image);

  /// The order of an epoch: positions of spec.indices resolved to sample numbers.
  std::vector<std::int64_t> order(std::int64_t epoch) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace graft
