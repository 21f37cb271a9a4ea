// The optimizer's segments in the form that the update kernel reads. A table is rebuilt at every step, and copied to
// the GPU only when it has changed, which with a fixed freeze plan and plain schedules it never does.
#pragma once

#include <span>
#include <vector>

#include "kernels/backend.h"

namespace graft {

class UpdateTable {
 public:
  /// Rebuilds the table; true when its bytes changed.
  /// Errors: a masked segment whose size is not a multiple of its rows.
  bool assign(std::span<const UpdateSegment> segments);

  std::span<const std::byte> bytes() const { return bytes_; }
  std::int64_t segment_count() const { return segment_count_; }
  std::int64_t chunk_count() const { return chunk_count_; }
  std::int64_t masks_offset() const { return masks_offset_; }  // bytes from the start of the table

 private:
  std::vector<std::byte> bytes_;  // DeviceSegment[segment_count], then the mask words
  std::int64_t segment_count_ = 0, chunk_count_ = 0, masks_offset_ = 0;
};

}  // namespace graft
