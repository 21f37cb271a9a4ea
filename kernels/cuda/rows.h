// How kernels walk NHWC activations: as rows (pixels) of channels, slices included. A block covers a tile of channels
// and a range of rows; threadIdx.x runs over channels, W neighbouring ones per thread, threadIdx.y over rows. The
// tiling depends on the shape alone, so sums are always taken in the same order.
#pragma once

#include "kernels/cuda/packs.h"

namespace graft::gpu {

inline constexpr int kThreads = 256, kWarp = 32;

#ifndef GRAFT_ENOUGH_BLOCKS  // the host model takes few, so that threads walk over many rows of small tensors
#define GRAFT_ENOUGH_BLOCKS 1024
#endif
inline constexpr std::int64_t kEnoughBlocks = GRAFT_ENOUGH_BLOCKS;  // some waves on every GPU
inline constexpr int kMultiprocessors = 132;                        // of an H100, for grids of one wave
constexpr int at_most_enough(int blocks) { return blocks < kEnoughBlocks ? blocks : int(kEnoughBlocks); }

/// Rows of channels in memory; null when absent.
template <class T>
struct ConstRows {
  const T* data = nullptr;
  std::int64_t pitch = 0;
  __device__ const T* at(std::int64_t row, std::int64_t channel) const { return data + row * pitch + channel; }
};
template <class T>
struct Rows {
  T* data = nullptr;
  std::int64_t pitch = 0;
  __device__ T* at(std::int64_t row, std::int64_t channel) const { return data + row * pitch + channel; }
};

/// Errors: a view that is not NHWC, or not of type T.
template <class T>
void require_rows(const ConstView& v, const char* op) {
  if (v.data && (v.format != kNhwc || v.dtype != dtype_of<T>()))
    throw Error(std::string(op) + ": expected " + std::string(to_string(dtype_of<T>())) + " in NHWC, got " +
                std::string(to_string(v.dtype)) + " in channel blocks of " + std::to_string(v.format.block) +
                "; copy it first");
}
template <class T>
ConstRows<T> rows_of(const ConstView& v, const char* op) {
  require_rows<T>(v, op);
  return {v.as<T>(), v.pitch};
}
template <class T>
Rows<T> rows_of(const View& v, const char* op) {
  require_rows<T>(v, op);
  return {v.as<T>(), v.pitch};
}

/// Bits per element in rows of whole bytes; null when absent. See NormalizeArgs::relu_mask.
struct MaskRows {
  std::uint8_t* data = nullptr;
  std::int64_t pitch = 0;
  __device__ std::uint8_t* at(std::int64_t row, std::int64_t channel) const { return data + row * pitch + channel / 8; }
};
inline MaskRows mask_rows(const View& v, const Shape& of, const char* op) {
  if (v.data && (v.dtype != DType::u8 || v.format != kNhwc || v.shape != relu_mask_shape(of)))
    throw Error(std::string(op) + ": a ReLU mask of " + to_string(of) + " must be u8 " +
                to_string(relu_mask_shape(of)) + " in NHWC, got " + to_string(v.shape));
  return {v.as<std::uint8_t>(), v.pitch};
}

/// Where the forward's ReLU let values pass: by its mask, else by y > 0, else everywhere.
template <class T>
struct ReluGate {
  MaskRows mask;
  ConstRows<T> y;
};
inline bool needs_output(const NormalizeArgs& args) { return args.relu && !args.relu_mask.data; }
template <class T>
ReluGate<T> relu_gate(const NormalizeArgs& args, const ConstView& y, const Shape& shape, const char* op) {
  if (!args.relu) return {};
  if (args.relu_mask.data) return {.mask = mask_rows(args.relu_mask, shape, op)};
  return {.y = rows_of<T>(y, op)};
}

/// Bit l: whether v[l] is above `bound`.
template <int W>
__device__ __forceinline__ unsigned positive_bits(const Pack<W>& v, float bound = 0) {
  unsigned bits = 0;
  for (int l = 0; l < W; ++l) bits |= unsigned(v.v[l] > bound) << l;
  return bits;
}

/// Bit l: whether the ReLU let the forward's value through.
template <int W, class T>
__device__ __forceinline__ unsigned gate_bits(const ReluGate<T>& gate, std::int64_t row, std::int64_t channel) {
  if (gate.mask.data) return unsigned(*gate.mask.at(row, channel)) >> (channel % 8);
  return gate.y.data ? positive_bits(load<W>(gate.y.at(row, channel))) : ~0u;
}

/// g, or 0 where the bits say that the ReLU stopped the forward's value.
template <int W>
__device__ __forceinline__ void pass_gate(Pack<W>& g, unsigned bits) {
  for (int l = 0; l < W; ++l) g.v[l] = (bits >> l & 1u) != 0 ? g.v[l] : 0.0f;
}

/// What batch norm multiplies by. Float: a double root per thread and channel would take as long as its rows.
__device__ __forceinline__ float inverse_deviation(float variance, float epsilon) { return rsqrtf(variance + epsilon); }

/// The constants of W channels from each address. All are under way before one is used: read next to the root of each,
/// they would wait for one another, channel by channel.
template <int W, int N>
__device__ __forceinline__ void load_constants(const float* const (&from)[N], Pack<W> (&to)[N]) {
  std::uintptr_t any = 0;
  for (int n = 0; n < N; ++n) any |= reinterpret_cast<std::uintptr_t>(from[n]);
  if (W % 4 == 0 && any % 16 == 0) {
    for (int n = 0; n < N; ++n) to[n] = load<W>(from[n]);
  } else {
    for (int n = 0; n < N; ++n)
      for (int l = 0; l < W; ++l) to[n].v[l] = from[n][l];
  }
}

/// A running statistic moves towards the batch's.
__device__ __forceinline__ void move_running(float* running, double now, double momentum) {
  *running = float((1 - momentum) * double(*running) + momentum * now);
}
/// From the biased variance of so many elements to the unbiased one.
inline double unbiased_factor(std::int64_t elements) {
  return elements > 1 ? double(elements) / double(elements - 1) : 1.0;
}

struct RowTiling {
  std::int64_t rows = 0, channels = 0;
  std::int64_t rows_per_block = 0;
  unsigned lanes = 1, depth = 1;   // threads over channels and over rows
  unsigned blocks = 0, tiles = 1;  // of rows and of channels

  /// The tiles of the same rows run side by side: together they write whole sectors and read whole pages of memory.
  LaunchConfig config(cudaStream_t stream) const {
    return {.grid = dim3(blocks * tiles), .block = dim3(lanes, depth), .stream = stream};
  }
  __device__ unsigned tile() const { return blockIdx.x % tiles; }
  __device__ unsigned block() const { return blockIdx.x / tiles; }
};

namespace detail {
inline RowTiling lanes_and_tiles(const Shape& shape, int width) {
  RowTiling t{.rows = shape.n * shape.pixels(), .channels = shape.c};
  const std::int64_t groups = (shape.c + width - 1) / width;
  // One tile has as many lanes as it needs, so that neighbouring threads go on with the next row where it is dense.
  // Several begin where a line of 128 bytes does: a warp's worth of lanes, fewer where too many would lie beyond the
  // last channel.
  const auto tiles = [&] { return (groups + t.lanes - 1) / t.lanes; };
  const auto idle = [&] { return tiles() * t.lanes - groups; };
  for (t.lanes = 32; t.lanes > 8 && idle() > groups / 7;) t.lanes -= 8;
  if (groups <= 32) t.lanes = unsigned(groups);
  t.tiles = unsigned(tiles());
  t.depth = kThreads / t.lanes;
  return t;
}
inline RowTiling with_rows(RowTiling t, std::int64_t rows_per_thread) {
  t.rows_per_block = rows_per_thread * t.depth;
  t.blocks = unsigned((t.rows + t.rows_per_block - 1) / t.rows_per_block);
  return t;
}
}  // namespace detail

/// For passes that write a result per row: up to 32 rows per thread, over which the constants of its channels pay;
/// fewer when that leaves the GPU idle.
inline RowTiling tile_pass(const Shape& shape, int width) {
  const RowTiling t = detail::lanes_and_tiles(shape, width);
  const std::int64_t rows = t.rows * t.tiles / (t.depth * kEnoughBlocks);
  return detail::with_rows(t, rows < 1 ? 1 : rows > 32 ? 32 : rows);
}

/// For sums over rows: at least 8 rows per thread, at most about kSumBlocks partial sums over all tiles.
inline RowTiling tile_sum(const Shape& shape, int width) {
  constexpr std::int64_t kSumBlocks = 396;  // three blocks for each of an H100's 132 multiprocessors: one wave
  const RowTiling t = detail::lanes_and_tiles(shape, width);
  const std::int64_t most = t.tiles < kSumBlocks ? kSumBlocks / t.tiles : 1;
  const std::int64_t rows = (t.rows + t.depth * most - 1) / (t.depth * most);
  return detail::with_rows(t, rows < 8 ? 8 : rows);
}

/// The rows and channels of one thread: begin, begin + step, ... below end.
struct ThreadRows {
  std::int64_t channel, begin, end, step;
  bool is_active;  // false beyond the last channel
};

/// Neighbouring rows for a block.
template <int W>
__device__ __forceinline__ ThreadRows thread_rows(const RowTiling& t) {
  const std::int64_t channel = (std::int64_t(t.tile()) * blockDim.x + threadIdx.x) * W;
  const std::int64_t first = std::int64_t(t.block()) * t.rows_per_block;
  const std::int64_t end = first + t.rows_per_block < t.rows ? first + t.rows_per_block : t.rows;
  return {channel, first + threadIdx.y, end, blockDim.y, channel < t.channels};
}

/// All blocks side by side over the rows, so that what is read last is one region. Sums take rows from the last to the
/// first (`row_of`): the end of what was just written is still in the cache, and the beginning is when a pass follows.
template <int W>
__device__ __forceinline__ ThreadRows sweeping_rows(const RowTiling& t) {
  const std::int64_t channel = (std::int64_t(t.tile()) * blockDim.x + threadIdx.x) * W;
  return {channel, std::int64_t(t.block()) * blockDim.y + threadIdx.y, t.rows, std::int64_t(t.blocks) * blockDim.y,
          channel < t.channels};
}
__device__ __forceinline__ std::int64_t row_of(const RowTiling& t, std::int64_t r) { return t.rows - 1 - r; }

}  // namespace graft::gpu
