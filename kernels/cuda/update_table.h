// The optimizer's segments in the form that the update kernels read. A table is rebuilt at every step, and copied to
// the GPU only when it has changed, which with a fixed freeze plan and plain schedules it never does.
#pragma once

#include <span>
#include <vector>

#include "kernels/backend.h"

namespace graft {

class UpdateTable {
 public:
  /// Rebuilds the table; true when its bytes changed. Requires check_update's blessing.
  bool assign(std::span<const UpdateSegment> segments);

  std::span<const std::byte> bytes() const { return bytes_; }
  std::int64_t segment_count() const { return segment_count_; }
  std::int64_t chunk_count() const { return chunk_count_; }
  std::int64_t group_count() const { return group_count_; }
  // Bytes from the start of the table.
  std::int64_t masks_offset() const { return masks_offset_; }
  std::int64_t group_begin_offset() const { return group_begin_offset_; }
  std::int64_t group_segments_offset() const { return group_segments_offset_; }

 private:
  std::vector<std::byte> bytes_;  // DeviceSegment[segment_count], mask words, group_begin, group_segments
  std::int64_t segment_count_ = 0, chunk_count_ = 0, group_count_ = 0;
  std::int64_t masks_offset_ = 0, group_begin_offset_ = 0, group_segments_offset_ = 0;
};

}  // namespace graft
