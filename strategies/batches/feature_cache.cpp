#include "strategies/batches/feature_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "data/parallel.h"
#include "kernels/out_of_memory.h"
#include "strategies/seconds.h"

namespace graft {
namespace {
constexpr double kMiB = 1 << 20;

std::span<const std::byte> bytes_of(const std::vector<std::byte>& v) { return {v.data(), v.size()}; }
}  // namespace

bool FeatureCache::add(BatchSource& images, ProgressSink& progress) {
  Context& context = spec_.network.context();
  const NoGrad no_grad(context);
  const EvaluationMode evaluation(context);
  const int ranks = spec_.ranks.count();
  PassProgress report{.pass = "features", .done = rows_, .total = spec_.images};
  const std::int64_t done_before = rows_;
  const auto begin = std::chrono::steady_clock::now();
  const auto show = [&] {
    report.images_per_second = double(report.done - done_before) / seconds_since(begin);
    progress.advance(report);
  };
  images.start(kListingOrder, 0, {.rank = spec_.ranks.rank(), .ranks = ranks, .window = ranks});
  DeviceBatch batch;
  for (;;) {  // each rank's next batch
    const bool has_batch = images.next(batch);
    if (!spec_.ranks.any(has_batch)) break;
    if (spec_.ranks.any(spec_.stop && *spec_.stop)) return false;
    Tensor features;
    if (has_batch) {
      computed_rows_ = rows_beside(context.backend(), batch.n(), computed_rows_);
      const Tensor x = filled_up(batch.x, computed_rows_);
      features = to_nhwc(spec_.network.run_parts(x, batch.part, spec_.parts));
    }
    if (ranks == 1)
      keep(features, batch.samples);
    else
      keep_of_all_ranks(features, has_batch ? batch.samples : std::vector<std::int64_t>{});
    report.done = rows_;
    show();
  }
  if (on_device_ && rows_ > done_before) {  // whose batches did not wait
    context.backend().synchronize();
    show();
  }
  progress.end_pass();
  return true;
}

/// Those of `samples`, the first of `features`.
void FeatureCache::keep(const Tensor& features, std::span<const std::int64_t> samples) {
  if (rows_ == 0) {
    shape_ = features.shape();
    shape_.n = 1;
    reserve(features.dtype());
  }
  write(features, std::ssize(samples));
  for (std::int64_t sample : samples) row_of_sample_[std::size_t(sample)] = rows_++;
}

/// One batch of each rank, which follow one another in the listing. A rank may have none left.
void FeatureCache::keep_of_all_ranks(const Tensor& features, std::span<const std::int64_t> own_samples) {
  const DType type = spec_.network.context().activation_type();
  Shape shape = features ? features.shape() : Shape{.c = 0};
  shape.n = 1;
  std::vector<std::byte> own(std::size_t(std::ssize(own_samples) * shape.size() * size_of(type)));
  if (features) features.backend().copy_out(own.data(), features.view().data, std::ssize(own));
  const std::vector<std::byte> rows = spec_.ranks.gather(own);
  const std::vector<std::int64_t> samples = gather_values<std::int64_t>(spec_.ranks, own_samples);
  if (rows_ == 0) {
    const std::vector<Shape> shapes = gather_values<Shape>(spec_.ranks, std::span(&shape, 1));
    shape_ = *std::ranges::max_element(shapes, {}, &Shape::size);
    reserve_together(type);
  }
  write(rows);
  for (std::int64_t sample : samples) row_of_sample_[std::size_t(sample)] = rows_++;
}

/// All ranks or none: each has the rows for itself.
void FeatureCache::reserve_together(DType type) {
  std::string reason;
  try {
    reserve(type);
  } catch (const NoSpace& error) {
    reason = error.what();
  }
  if (spec_.ranks.any(!reason.empty())) throw NoSpace(reason.empty() ? "another process has no room for it" : reason);
}

void FeatureCache::reserve(DType type) {
  row_bytes_ = shape_.size() * size_of(type);
  row_of_sample_.assign(std::size_t(spec_.dataset.size()), -1);
  if (!spec_.stays_on_host && reserve_on_device(type)) return;
  if (bytes() <= spec_.memory_bytes)
    memory_.resize(std::size_t(bytes()));
  else if (spec_.folder.empty())
    throw NoSpace(fmt::format("they take {:.1f} MiB and {:.1f} MiB of memory are allowed", double(bytes()) / kMiB,
                              double(spec_.memory_bytes) / kMiB));
  else
    file_.emplace(spec_.folder, bytes(), spec_.spare_bytes);
}

bool FeatureCache::reserve_on_device(DType type) {
  if (bytes() > spec_.device_bytes) return false;
  Context& context = spec_.network.context();
  Shape all = shape_;
  all.n = spec_.images;
  try {
    const NamedRange range(context.backend(), "images");  // what the memory is for
    on_device_ = Tensor(context, all, kNhwc, type);
  } catch (const OutOfMemory&) {
    return false;
  }
  return true;
}

/// Those of the next `count` images, the first of `features`.
void FeatureCache::write(const Tensor& features, std::int64_t count) {
  if (rows_ + count > spec_.images) throw Error("feature cache: more images than were announced");
  Backend& device = features.backend();
  if (on_device_) {
    Shape shape = shape_;
    shape.n = count;
    return device.copy(on_device_.window(rows_ * shape_.size(), shape).view(), Write::overwrite,
                       features.window(0, shape).view());
  }
  const std::int64_t size = count * row_bytes_;
  if (!file_) return device.copy_out(memory_.data() + rows_ * row_bytes_, features.view().data, size);
  gathered_.resize(std::size_t(size));
  device.copy_out(gathered_.data(), features.view().data, size);
  write(gathered_);
}

/// Those of the next images, on the host.
void FeatureCache::write(std::span<const std::byte> rows) {
  const std::int64_t begin = rows_ * row_bytes_;
  if (file_) return file_->write(begin, rows);
  if (begin + std::ssize(rows) > std::ssize(memory_)) throw Error("feature cache: more images than were announced");
  std::ranges::copy(rows, memory_.begin() + begin);
}

void FeatureCache::move_to_device() {
  const DType type = spec_.network.context().activation_type();
  if (on_device_ || rows_ == 0 || !reserve_on_device(type)) return;
  on_device_.backend().copy_in(on_device_.view().data, values().data(), bytes());
  memory_ = {};
  file_.reset();
  taken_.reset();
}

void FeatureCache::take(const std::filesystem::path& file, std::span<const std::int64_t> samples) {
  taken_.emplace(file);
  const FeatureRows rows = parse_feature_file(taken_->bytes(), file.string());
  if (rows.shape.n != std::int64_t(samples.size()) ||
      rows.value_bytes != size_of(spec_.network.context().activation_type()))
    throw Error(file.string() + ": its features are of other images or another device; remove the file");
  taken_from_ = file;
  shape_ = rows.shape;
  shape_.n = 1;
  row_bytes_ = shape_.size() * rows.value_bytes;
  row_of_sample_.assign(std::size_t(spec_.dataset.size()), -1);
  for (std::int64_t sample : samples) row_of_sample_[std::size_t(sample)] = rows_++;
}

FeatureRows FeatureCache::rows() const {
  Shape shape = shape_;
  shape.n = rows_;
  return {.shape = shape, .value_bytes = row_bytes_ / shape_.size(), .bytes = values()};
}

std::span<const std::byte> FeatureCache::values() const {
  if (taken_) return std::as_bytes(taken_->bytes()).last(std::size_t(bytes()));  // behind the header
  return file_ ? file_->bytes() : bytes_of(memory_);
}

std::int64_t FeatureCache::row_of(std::int64_t sample) const {
  const std::int64_t row = row_of_sample_.at(std::size_t(sample));
  if (row < 0) throw Error("feature cache: sample " + std::to_string(sample) + " was not added");
  return row;
}

std::span<const std::byte> FeatureCache::row(std::int64_t sample) const {
  return values().subspan(std::size_t(row_of(sample) * row_bytes_), std::size_t(row_bytes_));
}

void FeatureCache::copy_rows(std::byte* to, std::span<const std::int64_t> samples) const {
  const bool shares = spec_.network.context().backend().is_asynchronous() &&
                      std::ssize(samples) * row_bytes_ >= spec_.worth_threads_bytes;
  parallel_for(std::ssize(samples), shares ? spec_.threads : 1, [&](std::int64_t i) {
    std::memcpy(to + i * row_bytes_, row(samples[std::size_t(i)]).data(), std::size_t(row_bytes_));
  });
}

Tensor FeatureCache::gather_on_device(std::span<const std::int64_t> samples, const Tensor& x) const {
  const std::int64_t count = std::ssize(samples), bytes = count * std::int64_t(sizeof(std::int32_t));
  std::vector<std::int32_t> index;
  for (std::int64_t sample : samples) index.push_back(std::int32_t(row_of(sample)));
  UploadRing::Slot& slot = ring_.next({.host_bytes = bytes, .staged_bytes = bytes});
  std::memcpy(slot.upload->memory(), index.data(), std::size_t(bytes));
  slot.upload->send(slot.staged, 0, bytes);
  slot.upload->arrive();
  const ConstView index_view{slot.staged, DType::i32, kNhwc, {count, 1, 1, 1}, 1};
  x.backend().index_select(x.view(), on_device_.view(), index_view);
  slot.upload->follow_calls();
  return x;
}

Tensor FeatureCache::gather(std::span<const std::int64_t> samples, const Tensor& place) const {
  Context& context = spec_.network.context();
  Shape shape = shape_;
  shape.n = std::int64_t(samples.size());
  const Tensor x = place_for(context, shape, place);
  if (on_device_) return gather_on_device(samples, x);
  Backend& device = context.backend();
  const std::int64_t bytes = std::ssize(samples) * row_bytes_;
  if (!device.is_asynchronous()) {
    gathered_.resize(std::size_t(bytes));
    copy_rows(gathered_.data(), samples);
    device.copy_in(x.view().data, gathered_.data(), bytes);
    return x;
  }
  // The step before may still read x: what is new arrives beside it meanwhile.
  UploadRing::Slot& slot = ring_.next({.host_bytes = bytes, .staged_bytes = bytes});
  copy_rows(slot.upload->memory(), samples);
  slot.upload->send(slot.staged, 0, bytes);
  slot.upload->arrive();
  View staged = x.view();
  staged.data = slot.staged;
  device.copy(x.view(), Write::overwrite, staged);
  slot.upload->follow_calls();
  return x;
}

void FeatureCache::prefetch(std::span<const std::int64_t> samples) const {
  if (!file_) return;
  for (std::int64_t sample : samples) file_->prefetch(row_of_sample_.at(std::size_t(sample)) * row_bytes_, row_bytes_);
}

std::string FeatureCache::description() const {
  const std::string values =
      shape_.pixels() == 1 ? fmt::format("{}", shape_.c) : fmt::format("{} x {} x {}", shape_.h, shape_.w, shape_.c);
  return fmt::format("{} values for each of {} images, {:.1f} MiB in {}", values, spec_.images, double(bytes()) / kMiB,
                     on_device_ ? "memory of " + to_string(on_device_.backend().device())
                     : taken_   ? taken_from_.string()
                     : file_    ? "a file in " + spec_.folder.string()
                                : "memory");
}

void FeatureBatches::start(std::int64_t epoch, std::int64_t first_batch, const BatchShare& share) {
  samples_ = share.samples(order_of_.order(epoch), batch_, first_batch);
  next_ = 0;
}

std::span<const std::int64_t> FeatureBatches::samples_from(std::int64_t first) const {
  const std::int64_t left = std::int64_t(samples_.size()) - first;
  if (left <= 0) return {};
  return std::span(samples_).subspan(std::size_t(first), std::size_t(std::min(batch_, left)));
}

bool FeatureBatches::next(DeviceBatch& batch) {
  const std::span<const std::int64_t> samples = samples_from(next_);
  if (samples.empty()) return false;
  next_ += std::int64_t(samples.size());
  cache_.prefetch(samples_from(next_));
  batch.samples.assign(samples.begin(), samples.end());
  batch.labels.clear();
  for (std::int64_t sample : samples) batch.labels.push_back(cache_.dataset().samples()[std::size_t(sample)].label);
  batch.x = cache_.gather(samples, batch.x);
  batch.part = cache_.parts();
  return true;
}

}  // namespace graft
