// Batches on the device, ready for the network: images from the loader, or the head's inputs from a cache of features
// when the backbone cannot change. Both give the same samples in the same order.
#pragma once

#include <atomic>
#include <memory>
#include <optional>

#include "data/loader.h"
#include "models/network.h"
#include "strategies/progress.h"

namespace graft {

struct DeviceBatch {
  Tensor x;  // images [N,3,H,W] NHWC, or features [N,F,1,1]
  std::vector<std::int32_t> labels;
  std::vector<std::int64_t> samples;  // into Dataset::samples()
  std::int64_t n() const { return std::int64_t(labels.size()); }
};

class BatchSource {
 public:
  virtual ~BatchSource() = default;
  virtual void start(std::int64_t epoch, std::int64_t first_batch = 0) = 0;
  /// False when the epoch is over. Errors: an image that cannot be read.
  virtual bool next(DeviceBatch& batch) = 0;
  /// Sample numbers of an epoch, in order.
  virtual std::vector<std::int64_t> order(std::int64_t epoch) const = 0;
  virtual bool gives_features() const = 0;
};

/// Pixels of a batch as the network takes them: [N,3,H,W], NHWC, in the device's precision.
Tensor images_to_device(Context& context, std::span<const float> pixels, const Shape& shape);

class ImageBatches : public BatchSource {
 public:
  ImageBatches(Context& context, const Dataset& dataset, const LoaderSpec& spec)
      : context_(context), loader_(dataset, spec) {}
  void start(std::int64_t epoch, std::int64_t first_batch) override { loader_.start(epoch, first_batch); }
  bool next(DeviceBatch& batch) override;
  std::vector<std::int64_t> order(std::int64_t epoch) const override { return loader_.order(epoch); }
  bool gives_features() const override { return false; }

 private:
  Context& context_;
  Loader loader_;
  Batch host_;
};

/// The head's inputs for some samples, in host memory.
class FeatureCache {
 public:
  FeatureCache(const Network& network, const Dataset& dataset) : network_(network), dataset_(dataset) {}

  /// Computes what is missing, in evaluation mode. False when `stop` was raised.
  bool add(BatchSource& images, std::int64_t count, ProgressSink& progress, const std::atomic<bool>* stop);
  /// Rows of the given samples as [N,F,1,1].
  Tensor gather(std::span<const std::int64_t> samples) const;
  std::int64_t bytes() const { return std::int64_t(values_.size()); }
  const Dataset& dataset() const { return dataset_; }

 private:
  const Network& network_;
  const Dataset& dataset_;
  std::int64_t row_bytes_ = 0, channels_ = 0;
  std::vector<std::byte> values_;
  std::vector<std::int64_t> row_of_sample_;  // -1: absent
};

class FeatureBatches : public BatchSource {
 public:
  /// `order_of` fixes samples and order; its pixels are not read.
  FeatureBatches(const FeatureCache& cache, const BatchSource& order_of, std::int64_t batch)
      : cache_(cache), order_of_(order_of), batch_(batch) {}
  void start(std::int64_t epoch, std::int64_t first_batch) override;
  bool next(DeviceBatch& batch) override;
  std::vector<std::int64_t> order(std::int64_t epoch) const override { return order_of_.order(epoch); }
  bool gives_features() const override { return true; }

 private:
  const FeatureCache& cache_;
  const BatchSource& order_of_;
  std::int64_t batch_, next_ = 0;
  std::vector<std::int64_t> samples_;
};

}  // namespace graft
