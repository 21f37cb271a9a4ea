#include "kernels/cuda/update_table.h"

#include <cstring>

#include <fmt/format.h>

#include "kernels/cuda/kernels.h"

namespace graft {

bool UpdateTable::assign(std::span<const UpdateSegment> segments) {
  std::vector<gpu::DeviceSegment> table;
  std::vector<std::uint32_t> masks;
  std::int64_t chunks = 0;
  for (const UpdateSegment& s : segments) {
    if (s.size == 0) continue;
    std::int64_t mask_word = -1;
    if (s.row_mask) {
      if (s.row_size <= 0 || s.size % s.row_size != 0)
        throw Error(fmt::format("update: a masked segment of {} elements cannot have rows of {}", s.size, s.row_size));
      const std::int64_t words = (s.size / s.row_size + 31) / 32;
      mask_word = std::int64_t(masks.size());
      masks.insert(masks.end(), s.row_mask, s.row_mask + words);
    }
    table.push_back({.value_offset = s.value_offset,
                     .state_offset = s.state_offset,
                     .size = s.size,
                     .row_size = s.row_size,
                     .first_chunk = chunks,
                     .mask_word = mask_word,
                     .lr_scale = float(s.lr_scale),
                     .decay = float(s.decay)});
    chunks += (s.size + gpu::kUpdateChunk - 1) / gpu::kUpdateChunk;
  }
  segment_count_ = std::int64_t(table.size());
  chunk_count_ = chunks;
  masks_offset_ = segment_count_ * std::int64_t(sizeof(gpu::DeviceSegment));

  std::vector<std::byte> bytes(std::size_t(masks_offset_) + masks.size() * sizeof(std::uint32_t));
  if (!table.empty()) std::memcpy(bytes.data(), table.data(), std::size_t(masks_offset_));
  if (!masks.empty()) std::memcpy(bytes.data() + masks_offset_, masks.data(), masks.size() * sizeof(std::uint32_t));
  if (bytes == bytes_) return false;
  bytes_ = std::move(bytes);
  return true;
}

}  // namespace graft
