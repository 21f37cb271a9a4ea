// What the frozen prefix of a network gives for each image, computed once and kept: on the device where it has room to
// spare, else in memory, or in a file when it is more than memory may hold. Values are kept as the device computes
// them, so training from them differs from training from images at most by how images were grouped into batches. Which
// prefix is frozen is frozen_prefix.h's business; when a cache is used, split_batches.h's.
#pragma once

#include <atomic>
#include <optional>

#include "data/mapped_file.h"
#include "data/scratch_file.h"
#include "kernels/ranks.h"
#include "strategies/batches/batch_source.h"
#include "strategies/batches/feature_file.h"
#include "strategies/batches/upload_ring.h"
#include "strategies/progress.h"

namespace graft {

struct FeatureCacheSpec {
  const Network& network;
  const Dataset& dataset;
  int parts = 0;                  // of the prefix
  std::int64_t images = 0;        // that will be added
  std::int64_t device_bytes = 0;  // that may stay on the device; more goes to the host
  bool stays_on_host = false;     // until move_to_device, for rows()
  std::int64_t memory_bytes = 0;  // of the host; more goes to a file
  std::filesystem::path folder;   // of that file
  std::int64_t spare_bytes = 0;   // of the disk, left to other files
  /// For a device that computes meanwhile, a batch of so many bytes is gathered by threads; fewer bytes are copied
  /// before threads have started.
  int threads = 1;
  std::int64_t worth_threads_bytes = 4 << 20;
  const std::atomic<bool>* stop = nullptr;
  Ranks& ranks = lone_rank();  // that share the work; each gets all features
};

class FeatureCache {
 public:
  explicit FeatureCache(FeatureCacheSpec spec) : spec_(std::move(spec)), ring_(spec_.network.context().backend()) {}

  /// Runs the prefix, in evaluation mode, over `images` in the order of their listing. False when `stop` was raised, on
  /// any rank.
  /// Errors (NoSpace): neither memory nor disk may hold the features.
  bool add(BatchSource& images, ProgressSink& progress);
  /// Instead of `add`: the rows of a feature file, which are those of `samples`. Errors: they do not fit, or are
  /// damaged.
  void take(const std::filesystem::path& file, std::span<const std::int64_t> samples);
  /// All rows, as a feature file has them. They lie on the host.
  FeatureRows rows() const;
  /// From now on batches come from rows on the device, if they may stay there.
  void move_to_device();
  /// Features of the given samples, [N,C,H,W] in NHWC: the input of part `parts`; into `x` where it fits (place_for).
  /// Errors: a sample that was not added.
  Tensor gather(std::span<const std::int64_t> samples, const Tensor& x = {}) const;
  /// Tells the system that these samples are next.
  void prefetch(std::span<const std::int64_t> samples) const;

  int parts() const { return spec_.parts; }
  const Dataset& dataset() const { return spec_.dataset; }
  std::int64_t bytes() const { return spec_.images * row_bytes_; }
  /// "14 x 14 x 1024 values for each of 500 images, 382.8 MiB in memory".
  std::string description() const;

 private:
  void keep(const Tensor& features, std::span<const std::int64_t> samples);
  void keep_of_all_ranks(const Tensor& features, std::span<const std::int64_t> own_samples);
  void reserve_together(DType type);
  void reserve(DType type);
  bool reserve_on_device(DType type);
  void write(const Tensor& features, std::int64_t count);
  void write(std::span<const std::byte> rows);
  Tensor gather_on_device(std::span<const std::int64_t> samples, const Tensor& x) const;
  std::int64_t row_of(std::int64_t sample) const;
  std::span<const std::byte> values() const;
  std::span<const std::byte> row(std::int64_t sample) const;
  void copy_rows(std::byte* to, std::span<const std::int64_t> samples) const;

  FeatureCacheSpec spec_;
  Shape shape_;  // of one image's features
  std::int64_t row_bytes_ = 0, rows_ = 0;
  std::int64_t computed_rows_ = 0;  // in a batch
  Tensor on_device_;                // all rows; else they are in one of the following
  std::vector<std::byte> memory_;
  std::optional<ScratchFile> file_;
  std::optional<MappedFile> taken_;
  std::filesystem::path taken_from_;
  std::vector<std::int64_t> row_of_sample_;  // -1: absent
  mutable std::vector<std::byte> gathered_;
  mutable UploadRing ring_;  // where the device works by itself, or has the rows
};

/// Batches of features in the samples and order of another source, whose pixels are not read.
class FeatureBatches : public BatchSource {
 public:
  FeatureBatches(const FeatureCache& cache, const BatchSource& order_of, std::int64_t batch)
      : cache_(cache), order_of_(order_of), batch_(batch) {}
  void start(std::int64_t epoch, std::int64_t first_batch = 0, const BatchShare& share = {}) override;
  bool next(DeviceBatch& batch) override;
  std::vector<std::int64_t> order(std::int64_t epoch) const override { return order_of_.order(epoch); }

 private:
  std::span<const std::int64_t> samples_from(std::int64_t first) const;

  const FeatureCache& cache_;
  const BatchSource& order_of_;
  std::int64_t batch_, next_ = 0;
  std::vector<std::int64_t> samples_;  // from the first batch that is wanted on
};

}  // namespace graft
