#include "strategies/feature_cache.h"

#include <fmt/format.h>

#include <chrono>
#include <cstring>

#include "data/parallel.h"
#include "strategies/inference.h"
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
  PassProgress report{.pass = "features", .done = rows_, .total = spec_.images};
  const std::int64_t rows_before = rows_;
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::byte> rows;
  images.start(kListingOrder);
  for (DeviceBatch batch; images.next(batch);) {
    if (spec_.stop && *spec_.stop) return false;
    computed_rows_ = rows_beside(context.backend(), batch.n(), computed_rows_);
    const Tensor x = filled_up(batch.x, computed_rows_);
    const Tensor features = to_nhwc(spec_.network.run_parts(x, batch.part, spec_.parts));
    if (rows_ == 0) reserve(features);
    rows.resize(std::size_t(row_bytes_ * batch.n()));
    features.backend().copy_out(rows.data(), features.view().data, std::int64_t(rows.size()));
    write(rows_, bytes_of(rows));
    for (std::int64_t sample : batch.samples) row_of_sample_[std::size_t(sample)] = rows_++;
    report.done = rows_;
    report.images_per_second = double(rows_ - rows_before) / seconds_since(begin);
    progress.advance(report);
  }
  progress.end_pass();
  return true;
}

void FeatureCache::reserve(const Tensor& features) {
  shape_ = features.shape();
  shape_.n = 1;
  row_bytes_ = shape_.size() * size_of(features.dtype());
  row_of_sample_.assign(std::size_t(spec_.dataset.size()), -1);
  if (bytes() <= spec_.memory_bytes)
    memory_.resize(std::size_t(bytes()));
  else if (spec_.folder.empty())
    throw NoSpace(fmt::format("they take {:.1f} MiB and {:.1f} MiB of memory are allowed", double(bytes()) / kMiB,
                              double(spec_.memory_bytes) / kMiB));
  else
    file_.emplace(spec_.folder, bytes(), spec_.spare_bytes);
}

void FeatureCache::write(std::int64_t row, std::span<const std::byte> rows) {
  if ((row * row_bytes_) + std::int64_t(rows.size()) > bytes())
    throw Error("feature cache: more images than were announced");
  if (file_) return file_->write(row * row_bytes_, rows);
  std::memcpy(memory_.data() + row * row_bytes_, rows.data(), rows.size());
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

std::span<const std::byte> FeatureCache::row(std::int64_t sample) const {
  const std::int64_t row = row_of_sample_.at(std::size_t(sample));
  if (row < 0) throw Error("feature cache: sample " + std::to_string(sample) + " was not added");
  return values().subspan(std::size_t(row * row_bytes_), std::size_t(row_bytes_));
}

void FeatureCache::copy_rows(std::byte* to, std::span<const std::int64_t> samples) const {
  const bool shares = spec_.network.context().backend().is_asynchronous() &&
                      std::ssize(samples) * row_bytes_ >= spec_.worth_threads_bytes;
  parallel_for(std::ssize(samples), shares ? spec_.threads : 1, [&](std::int64_t i) {
    std::memcpy(to + i * row_bytes_, row(samples[std::size_t(i)]).data(), std::size_t(row_bytes_));
  });
}

Tensor FeatureCache::gather(std::span<const std::int64_t> samples, const Tensor& place) const {
  Context& context = spec_.network.context();
  Shape shape = shape_;
  shape.n = std::int64_t(samples.size());
  const Tensor x = place_for(context, shape, place);
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
                     taken_  ? taken_from_.string()
                     : file_ ? "a file in " + spec_.folder.string()
                             : "memory");
}

void FeatureBatches::start(std::int64_t epoch, std::int64_t first_batch) {
  samples_ = order_of_.order(epoch);
  next_ = first_batch * batch_;
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
