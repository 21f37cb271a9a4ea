#include "strategies/noise_batches.h"

#include <algorithm>
#include <numeric>

namespace graft {

NoiseBatches::NoiseBatches(Context& context, const Spec& spec)
    : context_(context), spec_(spec), pixels_(std::size_t(spec.batch * spec.size * spec.size * 3)) {
  // Normalised images lie between about -2 and 2.
  std::uint32_t state = 1;
  for (float& value : pixels_) {
    state = state * 1664525U + 1013904223U;  // Numerical Recipes' generator: any numbers will do
    value = float(state >> 8) * 0x1p-22F - 2.0F;
  }
}

void NoiseBatches::start(std::int64_t, std::int64_t first_batch) { next_ = first_batch * spec_.batch; }

bool NoiseBatches::next(DeviceBatch& batch) {
  const std::int64_t n = std::min(spec_.batch, spec_.count - next_);
  if (n <= 0) return false;
  batch.samples.resize(std::size_t(n));
  std::iota(batch.samples.begin(), batch.samples.end(), next_);
  batch.labels.clear();
  for (std::int64_t i : batch.samples) batch.labels.push_back(std::int32_t(i % spec_.classes));
  const std::size_t values = std::size_t(n * spec_.size * spec_.size * 3);
  batch.x = images_to_device(context_, std::span(pixels_).first(values), {n, 3, spec_.size, spec_.size}, batch.x);
  batch.part = 0;
  next_ += n;
  return true;
}

std::vector<std::int64_t> NoiseBatches::order(std::int64_t) const {
  std::vector<std::int64_t> all(static_cast<std::size_t>(spec_.count));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

}  // namespace graft
