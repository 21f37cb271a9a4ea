// The optimizer's pass over the arenas: one loop over chunks of all segments, formulas from functors.h. Frozen rows are
// never visited.
#include <vector>

#include "kernels/cpu/cpu_device.h"

namespace graft {
namespace {

struct Chunk {
  const UpdateSegment* segment;
  std::int64_t begin, end;  // elements within the segment
};

/// Trainable pieces of every segment, at most `kChunk` elements each.
std::vector<Chunk> chunks_of(std::span<const UpdateSegment> segments) {
  constexpr std::int64_t kChunk = 1 << 14;
  std::vector<Chunk> chunks;
  const auto cut = [&](const UpdateSegment& s, std::int64_t begin, std::int64_t end) {
    for (; begin < end; begin += kChunk) chunks.push_back({&s, begin, std::min(end, begin + kChunk)});
  };
  for (const UpdateSegment& s : segments) {
    if (!s.row_mask) {
      cut(s, 0, s.size);
      continue;
    }
    for (std::int64_t row = 0; row * s.row_size < s.size; ++row)
      if (s.row_mask[row / 32] >> (row % 32) & 1) cut(s, row * s.row_size, (row + 1) * s.row_size);
  }
  return chunks;
}

template <class Body>
void for_each_chunk(const UpdateArena& arena, const Body& body) {
  const std::vector<Chunk> chunks = chunks_of(arena.segments);
  const std::int64_t count = std::int64_t(chunks.size());
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < count; ++i) {
    const Chunk& c = chunks[std::size_t(i)];
    const std::int64_t state = c.segment->state_offset + c.begin;
    float* w = arena.values.as<float>() + c.segment->value_offset + c.begin;
    body(*c.segment, c.end - c.begin, w, arena.gradients.as<float>() + state, state);
  }
}

}  // namespace

void CpuBackend::update(const UpdateArena& arena, const SgdStep& step) {
  for_each_chunk(arena, [&](const UpdateSegment& s, std::int64_t count, float* w, const float* g, std::int64_t state) {
    float* m = arena.moment1.as<float>() + state;
    for (std::int64_t i = 0; i < count; ++i) step(w[i], g[i], m[i], float(s.lr_scale), float(s.decay));
  });
}

void CpuBackend::update(const UpdateArena& arena, const AdamStep& step) {
  for_each_chunk(arena, [&](const UpdateSegment& s, std::int64_t count, float* w, const float* g, std::int64_t state) {
    float* m = arena.moment1.as<float>() + state;
    float* v = arena.moment2.as<float>() + state;
    for (std::int64_t i = 0; i < count; ++i) step(w[i], g[i], m[i], v[i], float(s.lr_scale), float(s.decay));
  });
}

}  // namespace graft
