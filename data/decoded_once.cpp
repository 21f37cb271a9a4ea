#include "data/decoded_once.h"

#include <utility>

namespace graft {

DecodedOnce::DecodedOnce(std::shared_ptr<const ImageSource> source, std::int64_t count, std::int64_t budget_bytes)
    : source_(std::move(source)), bytes_left_(budget_bytes), decoded_(static_cast<std::size_t>(count)) {}

Image DecodedOnce::load(std::int64_t i, ImageInfo* info) const {
  Decoded found;
  if (std::optional<Decoded> known = is_open_ ? std::nullopt : taken(i)) {
    found = std::move(*known);
  } else {
    found.image = source_->load(i, &found.info);
    if (is_open_) remember(i, found.image, found.info);
  }
  if (info) *info = found.info;
  return std::move(found.image);
}

void DecodedOnce::remember(std::int64_t i, const Image& image, const ImageInfo& info) const {
  {
    const std::lock_guard lock(mutex_);
    if (image.bytes() > bytes_left_) return;
    bytes_left_ -= image.bytes();
  }
  Decoded copy{image, info};
  const std::lock_guard lock(mutex_);
  decoded_[static_cast<std::size_t>(i)] = std::move(copy);
}

std::optional<DecodedOnce::Decoded> DecodedOnce::taken(std::int64_t i) const {
  const std::lock_guard lock(mutex_);
  return std::exchange(decoded_.at(static_cast<std::size_t>(i)), std::nullopt);
}

}  // namespace graft
