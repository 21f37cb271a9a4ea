#include "kernels/cuda/update_table.h"

#include <cstring>

#include "kernels/cuda/kernels.h"

namespace graft {
namespace {

/// Appends an array's bytes; returns where they begin.
template <class T>
std::int64_t append(std::vector<std::byte>& bytes, const std::vector<T>& array) {
  const std::size_t begin = bytes.size();
  bytes.resize(begin + array.size() * sizeof(T));
  if (!array.empty()) std::memcpy(bytes.data() + begin, array.data(), array.size() * sizeof(T));
  return std::int64_t(begin);
}

bool takes_four(const UpdateSegment& s) {
  return s.value_offset % 4 == 0 && s.state_offset % 4 == 0 && s.size % 4 == 0 && (!s.row_mask || s.row_size % 4 == 0);
}

/// Where each group's segments begin in a list ordered by group, and that list.
struct GroupLists {
  std::vector<std::int32_t> begin{0}, segments;
};
GroupLists group_lists(std::span<const UpdateSegment> segments) {
  std::int32_t groups = 0;
  for (const UpdateSegment& s : segments) groups = std::max(groups, std::int32_t(s.rate_group + 1));
  std::vector<std::vector<std::int32_t>> members(static_cast<std::size_t>(groups));
  for (std::size_t i = 0; i < segments.size(); ++i)
    if (segments[i].rate_group >= 0) members[std::size_t(segments[i].rate_group)].push_back(std::int32_t(i));
  GroupLists lists;
  for (const std::vector<std::int32_t>& m : members) {
    lists.segments.insert(lists.segments.end(), m.begin(), m.end());
    lists.begin.push_back(std::int32_t(lists.segments.size()));
  }
  return lists;
}

}  // namespace

bool UpdateTable::assign(std::span<const UpdateSegment> segments) {
  std::vector<gpu::DeviceSegment> table;
  std::vector<std::uint32_t> masks;
  std::int64_t chunks = 0;
  for (const UpdateSegment& s : segments) {
    std::int64_t mask_word = -1;
    if (s.row_mask) {
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
                     .first_step = s.first_step,
                     .lr_scale = s.lr_scale,
                     .decay = s.decay,
                     .strength = s.penalty.strength,
                     .rate_group = s.rate_group,
                     .penalty = s.penalty.kind,
                     .mode = s.penalty.mode,
                     .to_anchor = s.penalty.to_anchor,
                     .takes_four = takes_four(s)});
    chunks += (s.size + gpu::kUpdateChunk - 1) / gpu::kUpdateChunk;
  }
  const GroupLists groups = group_lists(segments);
  segment_count_ = std::int64_t(table.size());
  chunk_count_ = chunks;
  group_count_ = std::int64_t(groups.begin.size()) - 1;

  std::vector<std::byte> bytes;
  append(bytes, table);
  masks_offset_ = append(bytes, masks);
  group_begin_offset_ = append(bytes, groups.begin);
  group_segments_offset_ = append(bytes, groups.segments);
  if (bytes == bytes_) return false;
  bytes_ = std::move(bytes);
  return true;
}

}  // namespace graft
