// The optimizer's pass over the arenas, row by row; frozen rows are never visited.
#include "kernels/reference/reference.h"

namespace graft {
namespace {

bool trains(const UpdateSegment& s, std::int64_t row) {
  return !s.row_mask || (s.row_mask[row / 32] >> (row % 32) & 1);
}

/// Calls body(segment, element in the values, element in the state) for every element that trains.
template <class Body>
void for_each_element(const UpdateArena& arena, int threads, const Body& body) {
  for (const UpdateSegment& s : arena.segments) {
    const std::int64_t row_size = s.row_mask ? s.row_size : 1;
#pragma omp parallel for num_threads(threads)
    for (std::int64_t row = 0; row < s.size / row_size; ++row) {
      if (!trains(s, row)) continue;
      for (std::int64_t i = row * row_size; i < (row + 1) * row_size; ++i)
        body(s, s.value_offset + i, s.state_offset + i);
    }
  }
}

}  // namespace

void ReferenceBackend::update(const UpdateArena& arena, const SgdStep& step) {
  for_each_element(arena, threads_, [&](const UpdateSegment& s, std::int64_t value, std::int64_t state) {
    step(arena.values.as<double>()[value], arena.gradients.as<double>()[state], arena.moment1.as<double>()[state],
         s.lr_scale, s.decay);
  });
}

void ReferenceBackend::update(const UpdateArena& arena, const AdamStep& step) {
  for_each_element(arena, threads_, [&](const UpdateSegment& s, std::int64_t value, std::int64_t state) {
    step(arena.values.as<double>()[value], arena.gradients.as<double>()[state], arena.moment1.as<double>()[state],
         arena.moment2.as<double>()[state], s.lr_scale, s.decay);
  });
}

}  // namespace graft
