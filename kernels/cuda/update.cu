// The optimizer's step over the arenas: one launch for all parameters. A block takes a chunk of one segment; the rules
// are those of kernels/functors.h. Elements of frozen rows are neither read nor written.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.h"

namespace graft::gpu {
namespace {

/// The segment that holds a chunk: the last one whose first chunk is not after it.
__device__ __forceinline__ std::int64_t find_segment(const DeviceArena& a, std::int64_t chunk) {
  std::int64_t low = 0, high = a.segment_count;
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    if (a.segments[middle].first_chunk <= chunk)
      low = middle;
    else
      high = middle;
  }
  return low;
}

__device__ __forceinline__ bool trains(const DeviceArena& a, const DeviceSegment& s, std::int64_t i) {
  if (s.mask_word < 0) return true;
  const std::int64_t row = i / s.row_size;
  return (a.masks[s.mask_word + row / 32] >> (row % 32) & 1u) != 0;
}

__device__ __forceinline__ void step_one(const SgdStep& step, const DeviceArena& a, const DeviceSegment& s,
                                         std::int64_t value, std::int64_t state) {
  float w = a.values[value], m = a.moment1[state];
  step(w, a.gradients[state], m, s.lr_scale, s.decay);
  a.values[value] = w;
  a.moment1[state] = m;
}

__device__ __forceinline__ void step_one(const AdamStep& step, const DeviceArena& a, const DeviceSegment& s,
                                         std::int64_t value, std::int64_t state) {
  float w = a.values[value], m = a.moment1[state], v = a.moment2[state];
  step(w, a.gradients[state], m, v, s.lr_scale, s.decay);
  a.values[value] = w;
  a.moment1[state] = m;
  a.moment2[state] = v;
}

template <class Step>
__global__ void __launch_bounds__(kThreads) update_kernel(const DeviceArena a, const Step step) {
  const std::int64_t chunk = blockIdx.x;
  const DeviceSegment s = a.segments[find_segment(a, chunk)];
  const std::int64_t begin = (chunk - s.first_chunk) * kUpdateChunk;
  const std::int64_t end = begin + kUpdateChunk < s.size ? begin + kUpdateChunk : s.size;
  for (std::int64_t i = begin + threadIdx.x; i < end; i += kThreads)
    if (trains(a, s, i)) step_one(step, a, s, s.value_offset + i, s.state_offset + i);
}

template <class Step>
void launch_update(const DeviceArena& arena, const Step& step, cudaStream_t stream) {
  launch("update", update_kernel<Step>,
         {.grid = dim3(unsigned(arena.chunk_count)), .block = dim3(kThreads), .stream = stream}, arena, step);
}

}  // namespace

void update(const DeviceArena& arena, const SgdStep& step, cudaStream_t stream) { launch_update(arena, step, stream); }
void update(const DeviceArena& arena, const AdamStep& step, cudaStream_t stream) { launch_update(arena, step, stream); }

}  // namespace graft::gpu
