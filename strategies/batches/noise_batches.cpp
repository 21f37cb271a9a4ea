#include "strategies/batches/noise_batches.h"

#include <algorithm>
#include <numeric>

namespace graft {

namespace {

/// Normalised images lie between about -2 and 2.
constexpr PixelScaling kScaling{.scale = 255, .mean = {0.5F, 0.5F, 0.5F}, .std = {0.25F, 0.25F, 0.25F}};

}  // namespace

NoiseBatches::NoiseBatches(Context& context, const Spec& spec) : context_(context), spec_(spec) {
  const std::int64_t count = spec.batch * spec.size * spec.size * 3;
  std::uint32_t state = 1;
  const auto next_bits = [&state] { return state = state * 1664525U + 1013904223U; };  // Numerical Recipes' generator
  if (context.backend().prepares_images()) {
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(count));
    for (std::uint8_t& value : bytes) value = std::uint8_t(next_bits() >> 24);
    bytes_ = Tensor(context, {1, count, 1, 1}, kNhwc, DType::u8);
    context.backend().copy_in(bytes_.view().data, bytes.data(), count);
    return;
  }
  pixels_.resize(std::size_t(count));
  for (float& value : pixels_) value = float(next_bits() >> 8) * 0x1p-22F - 2.0F;
}

/// The first `n` images.
Tensor NoiseBatches::input(std::int64_t n, const Tensor& place) {
  const Shape shape{n, 3, spec_.size, spec_.size};
  if (!bytes_) return images_to_device(context_, std::span(pixels_).first(std::size_t(shape.size())), shape, place);
  const auto side = std::int32_t(spec_.size);
  std::vector<ImageChange> changes(
      std::size_t(n),
      {.height = side, .width = side, .from_h = side, .from_w = side, .resized_h = side, .resized_w = side});
  for (std::size_t i = 0; i < changes.size(); ++i) changes[i].first_byte = std::int64_t(i) * side * side * 3;
  const Tensor x = place_for(context_, shape, place);
  const ConstView block = bytes_.view();
  context_.backend().images_to_input(x.view(), {&block, 1}, changes, kScaling);
  return x;
}

void NoiseBatches::start(std::int64_t, std::int64_t first_batch, const BatchShare& share) {
  if (share.ranks > 1) throw Error("noise: its batches are for one process");
  next_ = first_batch * spec_.batch;
}

bool NoiseBatches::next(DeviceBatch& batch) {
  const std::int64_t n = std::min(spec_.batch, spec_.count - next_);
  if (n <= 0) return false;
  batch.samples.resize(std::size_t(n));
  std::iota(batch.samples.begin(), batch.samples.end(), next_);
  batch.labels.clear();
  for (std::int64_t i : batch.samples) batch.labels.push_back(std::int32_t(i % spec_.classes));
  batch.x = input(n, batch.x);
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
