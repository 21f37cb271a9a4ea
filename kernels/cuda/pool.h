// What pool.cu and pool_halving.cu share: the index of a max pool in memory, one u8 per output, which is the place of
// the largest value in its window, row by row.
#pragma once

#include "kernels/cuda/rows.h"

namespace graft::gpu {

struct IndexRows {
  std::uint8_t* data;
  std::int64_t pitch;
  __device__ std::uint8_t* at(std::int64_t row, std::int64_t channel) const { return data + row * pitch + channel; }
};

inline IndexRows index_rows(const ConstView& v) {
  if (v.dtype != DType::u8 || v.format != kNhwc) throw Error("max_pool: index must be u8 in NHWC");
  return {static_cast<std::uint8_t*>(const_cast<void*>(v.data)), v.pitch};
}

template <int W>
__device__ __forceinline__ void store_index(std::uint8_t* to, const int (&v)[W]) {
  Elements<std::uint8_t, W> e;
  for (int l = 0; l < W; ++l) e.v[l] = static_cast<std::uint8_t>(v[l]);
  store_wide(to, e);
}

/// Windows that pool_halving.cu knows: 3x3 with padding 1 and 2x2 without, both two apart. The stems and pools of the
/// three networks are of these kinds.
bool is_halving(const PoolSpec& spec);

/// As in kernels.h, for such windows; averages of 2x2 alone.
void max_pool_halving(const PoolSpec& spec, View y, View index, ConstView x, cudaStream_t stream);
void max_pool_grad_halving(const PoolSpec& spec, View dx, Write write, ConstView dy, ConstView index,
                           cudaStream_t stream);
void avg_pool_halving(const PoolSpec& spec, View y, ConstView x, cudaStream_t stream);
void avg_pool_grad_halving(const PoolSpec& spec, View dx, Write write, ConstView dy, cudaStream_t stream);

}  // namespace graft::gpu
