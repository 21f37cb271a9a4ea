#include "strategies/batch_source.h"

#include "strategies/inference.h"

#include <chrono>
#include <cstring>

namespace graft {

Tensor images_to_device(Context& context, std::span<const float> pixels, const Shape& shape) {
  Tensor x(context, shape, kNhwc, DType::f32);
  context.backend().copy_in(x.view().data, pixels.data(), shape.size() * 4);
  if (context.dtype() == DType::f32) return x;
  Tensor converted = empty(context, shape);
  context.backend().copy(converted.view(), Write::overwrite, x.view());
  return converted;
}

bool ImageBatches::next(DeviceBatch& batch) {
  if (!loader_.next(host_)) return false;
  batch.x = images_to_device(context_, host_.pixels, {host_.n(), 3, host_.height, host_.width});
  batch.labels = host_.labels;
  batch.samples = host_.indices;
  return true;
}

bool FeatureCache::add(BatchSource& images, std::int64_t count, ProgressSink& progress, const std::atomic<bool>* stop) {
  Context& context = network_.context();
  const NoGrad no_grad(context);
  const EvaluationMode evaluation(context);
  PassProgress report{.pass = "features", .total = count};
  const auto begin = std::chrono::steady_clock::now();
  row_of_sample_.resize(std::size_t(dataset_.size()), -1);
  images.start(0);
  for (DeviceBatch batch; images.next(batch);) {
    if (stop && *stop) return false;
    const Tensor features = network_.features(batch.x);
    if (features.format() != kNhwc || !features.view().is_dense())
      throw Error("feature cache: the network's features are not a plain matrix");
    row_bytes_ = features.shape().size() / features.shape().n * size_of(features.dtype());
    channels_ = features.shape().size() / features.shape().n;
    const std::size_t at = values_.size();
    values_.resize(at + std::size_t(row_bytes_ * batch.n()));
    features.backend().copy_out(values_.data() + at, features.view().data, row_bytes_ * batch.n());
    for (std::int64_t i = 0; i < batch.n(); ++i)
      row_of_sample_[std::size_t(batch.samples[std::size_t(i)])] = std::int64_t(at) / row_bytes_ + i;
    report.done += batch.n();
    report.images_per_second =
        double(report.done) / std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    progress.advance(report);
  }
  progress.end_pass();
  return true;
}

Tensor FeatureCache::gather(std::span<const std::int64_t> samples) const {
  std::vector<std::byte> rows(samples.size() * std::size_t(row_bytes_));
  for (std::size_t i = 0; i < samples.size(); ++i)
    std::memcpy(rows.data() + i * std::size_t(row_bytes_),
                values_.data() + row_of_sample_.at(std::size_t(samples[i])) * row_bytes_, std::size_t(row_bytes_));
  Context& context = network_.context();
  Tensor x = empty(context, {std::int64_t(samples.size()), channels_, 1, 1});
  context.backend().copy_in(x.view().data, rows.data(), std::int64_t(rows.size()));
  return x;
}

void FeatureBatches::start(std::int64_t epoch, std::int64_t first_batch) {
  samples_ = order_of_.order(epoch);
  next_ = first_batch * batch_;
}

bool FeatureBatches::next(DeviceBatch& batch) {
  const std::int64_t n = std::min(batch_, std::int64_t(samples_.size()) - next_);
  if (n <= 0) return false;
  batch.samples.assign(samples_.begin() + next_, samples_.begin() + next_ + n);
  batch.labels.clear();
  for (std::int64_t sample : batch.samples)
    batch.labels.push_back(cache_.dataset().samples()[std::size_t(sample)].label);
  batch.x = cache_.gather(batch.samples);
  next_ += n;
  return true;
}

}  // namespace graft
