// How far two results are apart: what decides whether an engine of cuDNN's is trusted.
#include <algorithm>
#include <cmath>

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.h"

namespace graft::gpu {
namespace {

constexpr int kMostBlocks = 1024;

__device__ bool is_nan(float v) { return v != v; }

/// Floats that are not negative are in the order of their bits.
__device__ void raise(float* largest, float value) {
  atomicMax(reinterpret_cast<unsigned*>(largest), __float_as_uint(value));
}

__global__ void __launch_bounds__(kThreads) largest_difference_kernel(float* largest, const float* a, const float* b,
                                                                      const std::int64_t size, const float limit) {
  float difference = 0, value = 0;
  for (std::int64_t i = std::int64_t(blockIdx.x) * kThreads + threadIdx.x; i < size;
       i += std::int64_t(gridDim.x) * kThreads) {
    const float x = a[i], y = b[i];
    if (is_nan(x) || is_nan(y)) {
      if (is_nan(x) != is_nan(y)) difference = INFINITY;
      continue;
    }
    difference = fmaxf(difference, fabsf(fminf(fmaxf(x, -limit), limit) - fminf(fmaxf(y, -limit), limit)));
    if (fabsf(x) < limit) value = fmaxf(value, fabsf(x));
  }
  if (difference > 0) raise(largest, difference);
  if (value > 0) raise(largest + 1, value);
}

}  // namespace

void find_largest_difference(float* largest, ConstView a, ConstView b, float limit, cudaStream_t stream) {
  const std::int64_t size = a.shape.size(),
                     blocks = std::min<std::int64_t>((size + kThreads - 1) / kThreads, kMostBlocks);
  launch("comparing results", largest_difference_kernel,
         {.grid = dim3(unsigned(blocks)), .block = dim3(kThreads), .stream = stream}, largest, a.as<float>(),
         b.as<float>(), size, limit);
}

}  // namespace graft::gpu
