#include "strategies/batches/resident_images.h"

#include <algorithm>

#include "kernels/out_of_memory.h"

namespace graft {
namespace {

/// One place among the blocks is left for what is uploaded batch by batch.
constexpr std::int64_t kMostBlocks = kMostPixelBlocks - 1;
constexpr std::int64_t kFirstBlock = std::int64_t{64} << 20;  // bytes; each further block doubles what there is

}  // namespace

ResidentImages::ResidentImages(Backend& device, const Spec& spec)
    : device_(device), spec_(spec), places_(static_cast<std::size_t>(spec.samples)) {}

ResidentImages::~ResidentImages() {
  for (const ConstView& block : blocks_) device_.release(const_cast<void*>(block.data));
}

std::optional<ResidentImages::Place> ResidentImages::find(std::int64_t sample) const {
  const std::scoped_lock lock(mutex_);
  return places_[static_cast<std::size_t>(sample)];
}

std::optional<ResidentImages::Place> ResidentImages::add(std::int64_t sample, const Size& size) {
  const std::int64_t bytes = size.height * size.width * 3;
  const bool fits = !blocks_.empty() && used_ + bytes <= blocks_.back().shape.size();
  if (!fits && !take_block(bytes)) return std::nullopt;
  const Place place{.size = size, .block = std::int32_t(blocks_.size() - 1), .first_byte = used_};
  used_ += bytes;
  ++count_;
  const std::scoped_lock lock(mutex_);
  places_[static_cast<std::size_t>(sample)] = place;
  return place;
}

bool ResidentImages::take_block(std::int64_t at_least) {
  const std::int64_t left = spec_.budget_bytes - taken_;
  if (at_least > left || std::ssize(blocks_) == kMostBlocks) return false;
  const std::int64_t wanted =
      taken_ < spec_.expected_bytes ? spec_.expected_bytes - taken_ : std::max(kFirstBlock, taken_);
  const std::int64_t bytes = std::max(at_least, std::min(wanted, left));
  void* data = nullptr;
  try {
    const NamedRange range(device_, "images");  // what the memory is for
    data = device_.allocate(bytes);
  } catch (const OutOfMemory&) {
    spec_.budget_bytes = taken_;
    return false;
  }
  blocks_.push_back({data, DType::u8, kNhwc, {1, bytes, 1, 1}, bytes});
  taken_ += bytes;
  used_ = 0;
  return true;
}

void ResidentImages::leave(std::int64_t bytes) { spec_.budget_bytes = std::max(taken_, spec_.budget_bytes - bytes); }

std::byte* ResidentImages::address(const Place& place) const {
  return static_cast<std::byte*>(const_cast<void*>(blocks_[std::size_t(place.block)].data)) + place.first_byte;
}

}  // namespace graft
