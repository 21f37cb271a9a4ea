// Batches on the device, ready for the network or for a later part of it: images from the loader here, features of a
// frozen prefix in feature_cache.h. Both give the same samples in the same order.
#pragma once

#include "data/loader.h"
#include "models/network.h"

namespace graft {

struct DeviceBatch {
  Tensor x;      // [N,C,H,W] NHWC
  int part = 0;  // of the network, whose input x is; 0: x are images
  std::vector<std::int32_t> labels;
  std::vector<std::int64_t> samples;  // into Dataset::samples()
  std::int64_t n() const { return std::int64_t(labels.size()); }
};

class BatchSource {
 public:
  virtual ~BatchSource() = default;
  /// As Loader::start.
  virtual void start(std::int64_t epoch, std::int64_t first_batch = 0, const BatchShare& share = {}) = 0;
  /// False when the epoch is over. Memory of `batch.x` that has the right shape is used again, at its address.
  /// Errors: an image that cannot be read.
  virtual bool next(DeviceBatch& batch) = 0;
  /// Sample numbers of an epoch, in order.
  virtual std::vector<std::int64_t> order(std::int64_t epoch) const = 0;
};

/// `x` itself if it is a tensor of this shape in the device's type of activations, else a new one: for inputs that stay
/// in place.
Tensor place_for(Context& context, const Shape& shape, const Tensor& x);

/// Pixels of a batch as the network takes them: [N,3,H,W], NHWC, in the device's type of activations;
/// into `x` where it fits.
Tensor images_to_device(Context& context, std::span<const float> pixels, const Shape& shape, const Tensor& x = {});

/// Rows for a batch of `n` images in evaluation, beside batches of `others` images. A GPU chooses and builds plans for
/// every size, for which it takes longer than for images that nobody asks about: it gets `others` rows.
std::int64_t rows_beside(const Backend& device, std::int64_t n, std::int64_t others);
/// `x` with rows of zeros after its own, `rows` in all.
Tensor filled_up(const Tensor& x, std::int64_t rows);

class ImageBatches : public BatchSource {
 public:
  ImageBatches(Context& context, const Dataset& dataset, const LoaderSpec& spec)
      : context_(context), loader_(dataset, spec) {}
  void start(std::int64_t epoch, std::int64_t first_batch = 0, const BatchShare& share = {}) override {
    loader_.start(epoch, first_batch, share);
  }
  bool next(DeviceBatch& batch) override;
  std::vector<std::int64_t> order(std::int64_t epoch) const override { return loader_.order(epoch); }

 private:
  Context& context_;
  Loader loader_;
  Batch host_;
};

}  // namespace graft
