// How kernels walk NHWC activations: as rows (pixels) of channels, slices included. A block covers a tile of channels
// and a range of rows; threadIdx.x runs over channels, W neighbouring ones per thread, threadIdx.y over rows. The
// tiling depends on the shape alone, so sums are always taken in the same order.
#pragma once

#include <initializer_list>

#include "kernels/backend.h"
#include "kernels/cuda/gpu.h"

namespace graft::gpu {

inline constexpr int kThreads = 256;

/// W neighbouring floats, loaded and stored at once.
template <int W>
struct Pack {
  float v[W];
};

template <int W>
__device__ __forceinline__ Pack<W> load(const float* p) {
  if constexpr (W == 4) {
    const float4 f = *reinterpret_cast<const float4*>(p);
    return {{f.x, f.y, f.z, f.w}};
  } else {
    static_assert(W == 1);
    return {{*p}};
  }
}

template <int W>
__device__ __forceinline__ void store(float* p, const Pack<W>& a) {
  if constexpr (W == 4)
    *reinterpret_cast<float4*>(p) = float4{a.v[0], a.v[1], a.v[2], a.v[3]};
  else
    *p = a.v[0];
}

/// Stores, or adds to what is there.
template <int W>
__device__ __forceinline__ void write(float* p, Pack<W> a, bool adds) {
  if (adds) {
    const Pack<W> old = load<W>(p);
    for (int l = 0; l < W; ++l) a.v[l] += old.v[l];
  }
  store<W>(p, a);
}

/// Rows of channels in memory; null when absent.
struct ConstRows {
  const float* data = nullptr;
  std::int64_t pitch = 0;
  __device__ const float* at(std::int64_t row, std::int64_t channel) const { return data + row * pitch + channel; }
};
struct Rows {
  float* data = nullptr;
  std::int64_t pitch = 0;
  __device__ float* at(std::int64_t row, std::int64_t channel) const { return data + row * pitch + channel; }
};

inline void require_nhwc(const ConstView& v, const char* op) {
  if (v.data && (v.format != kNhwc || v.dtype != DType::f32))
    throw Error(std::string(op) + ": the GPU takes float32 in NHWC, got " + std::string(to_string(v.dtype)) +
                " in channel blocks of " + std::to_string(v.format.block) + "; copy it first");
}
inline ConstRows rows_of(const ConstView& v, const char* op) {
  require_nhwc(v, op);
  return {v.as<float>(), v.pitch};
}
inline Rows rows_of(const View& v, const char* op) {
  require_nhwc(v, op);
  return {v.as<float>(), v.pitch};
}

/// 4 when every view's channels can be moved four at a time, else 1. Views without data do not matter.
inline int common_width(std::initializer_list<ConstView> views) {
  for (const ConstView& v : views) {
    if (!v.data) continue;
    if (v.shape.c % 4 != 0 || v.pitch % 4 != 0 || reinterpret_cast<std::uintptr_t>(v.data) % 16 != 0) return 1;
  }
  return 4;
}

struct RowTiling {
  std::int64_t rows = 0, channels = 0;
  std::int64_t rows_per_block = 0;
  unsigned lanes = 1, depth = 1;   // threads over channels and over rows, powers of two
  unsigned blocks = 0, tiles = 0;  // of rows and of channels

  LaunchConfig config(cudaStream_t stream) const {
    return {.grid = dim3(blocks, tiles), .block = dim3(lanes, depth), .stream = stream};
  }
};

namespace detail {
inline RowTiling lanes_and_tiles(const Shape& shape, int width) {
  RowTiling t{.rows = shape.n * shape.pixels(), .channels = shape.c};
  const std::int64_t groups = (shape.c + width - 1) / width;
  while (t.lanes < 32 && t.lanes < groups) t.lanes *= 2;
  t.depth = kThreads / t.lanes;
  t.tiles = unsigned((groups + t.lanes - 1) / t.lanes);
  return t;
}
inline RowTiling with_rows(RowTiling t, std::int64_t rows_per_thread) {
  t.rows_per_block = rows_per_thread * t.depth;
  t.blocks = unsigned((t.rows + t.rows_per_block - 1) / t.rows_per_block);
  return t;
}
}  // namespace detail

inline constexpr std::int64_t kEnoughBlocks = 1024;  // some waves on every GPU

/// For passes that write a result per row: up to 8 rows per thread, fewer when that leaves the GPU idle.
inline RowTiling tile_pass(const Shape& shape, int width) {
  const RowTiling t = detail::lanes_and_tiles(shape, width);
  const std::int64_t rows = t.rows * t.tiles / (t.depth * kEnoughBlocks);
  return detail::with_rows(t, rows < 1 ? 1 : rows > 8 ? 8 : rows);
}

/// For sums over rows: at least 8 rows per thread, at most about kEnoughBlocks partial sums over all tiles.
inline RowTiling tile_sum(const Shape& shape, int width) {
  const RowTiling t = detail::lanes_and_tiles(shape, width);
  const std::int64_t most = t.tiles < kEnoughBlocks ? kEnoughBlocks / t.tiles : 1;
  const std::int64_t rows = (t.rows + t.depth * most - 1) / (t.depth * most);
  return detail::with_rows(t, rows < 8 ? 8 : rows);
}

/// The rows and channels of one thread.
struct ThreadRows {
  std::int64_t channel, begin, end, step;
  bool is_active;  // false beyond the last channel
};
template <int W>
__device__ __forceinline__ ThreadRows thread_rows(const RowTiling& t) {
  const std::int64_t channel = (std::int64_t(blockIdx.y) * blockDim.x + threadIdx.x) * W;
  const std::int64_t first = std::int64_t(blockIdx.x) * t.rows_per_block;
  const std::int64_t end = first + t.rows_per_block < t.rows ? first + t.rows_per_block : t.rows;
  return {channel, first + threadIdx.y, end, blockDim.y, channel < t.channels};
}

}  // namespace graft::gpu
