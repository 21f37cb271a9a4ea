// Decoded images to the network's input, in three launches: the resized pixels; the sum of their luma, if a contrast
// changes; everything else. Formulas: kernels/image_input.h. Compiled without contraction.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.h"
#include "kernels/image_input.h"

namespace graft::gpu {
namespace {

constexpr int kTileW = 32, kTileH = 32, kRowsAtOnce = kThreads / kTileW;
using PaddedRgb = Elements<std::uint8_t, 4>;  // red, green, blue, nothing

struct ResizedImage {
  const PaddedRgb* pixels;
  int width;
  GRAFT_PIXEL Rgb at(int y, int x) const {
    const PaddedRgb p = pixels[std::int64_t(y) * width + x];
    return {{p.v[0], p.v[1], p.v[2]}};
  }
};

struct ImageSize {
  int height, width;
  __host__ __device__ std::int64_t pixels() const { return std::int64_t(height) * width; }
};

struct PixelBlocks {
  const std::uint8_t* at[kMostPixelBlocks];
};
/// By comparisons: for an index that is not a constant every thread would copy the parameter to its own memory.
__device__ __forceinline__ const std::uint8_t* block_at(const PixelBlocks& blocks, int i) {
  const std::uint8_t* p = blocks.at[0];
#pragma unroll
  for (int b = 1; b < kMostPixelBlocks; ++b)
    if (b == i) p = blocks.at[b];
  return p;
}

/// A tile of one image. Its first threads make the weights of its columns and rows.
__global__ void __launch_bounds__(kThreads)
    resize_kernel(const ImageChange* changes, const PixelBlocks blocks, const ImageSize size, PaddedRgb* resized) {
  __shared__ std::int32_t weights[kTileW + kTileH][kMostTaps];
  __shared__ int first[kTileW + kTileH], count[kTileW + kTileH];
  const ImageChange& change = changes[blockIdx.y];
  const int tiles = (size.width + kTileW - 1) / kTileW;
  const int left = int(blockIdx.x) % tiles * kTileW, top = int(blockIdx.x) / tiles * kTileH;
  const int thread = int(threadIdx.x);
  if (thread < kTileW + kTileH) {
    const bool is_column = thread < kTileW;
    const int at = is_column ? change.part_x + left + thread : change.part_y + top + thread - kTileW;
    const int from = is_column ? change.from_w : change.from_h, to = is_column ? change.resized_w : change.resized_h;
    first[thread] = at;
    count[thread] = at >= 0 && at < to ? 1 : 0;  // black outside
    weights[thread][0] = 1 << kFilterBits;
    if (count[thread] != 0 && from != to) {
      const Taps t = taps_of(from, to, at);
      first[thread] = t.first;
      count[thread] = t.count;
      for (int k = 0; k < t.count; ++k) weights[thread][k] = tap_weight(t, k);
    }
  }
  __syncthreads();
  const int x = thread % kTileW;
  if (left + x >= size.width) return;
  const std::int64_t pitch = std::int64_t(change.width) * 3;
  const std::uint8_t* from =
      block_at(blocks, change.block) + change.first_byte + change.from_y * pitch + std::int64_t(change.from_x) * 3;
  PaddedRgb* to = resized + blockIdx.y * size.pixels() + left + x;
  const Line column{first[x], count[x], weights[x]};
  for (int y = thread / kTileW; y < kTileH && top + y < size.height; y += kRowsAtOnce) {
    const int row = kTileW + y;
    const Rgb p = filtered(from, pitch, {first[row], count[row], weights[row]}, column);
    to[std::int64_t(top + y) * size.width] = {{p.v[0], p.v[1], p.v[2], 0}};
  }
}

__device__ ResizedImage image_of(const PaddedRgb* resized, const ImageSize& size) {
  return {resized + blockIdx.y * size.pixels(), size.width};
}

/// Adds the luma of every image before its contrast changes; whole numbers, so in any order.
__global__ void __launch_bounds__(kThreads)
    luma_kernel(const ImageChange* changes, const PaddedRgb* resized, const ImageSize size, unsigned long long* sums) {
  __shared__ int values[kThreads];
  const std::int64_t i = std::int64_t(blockIdx.x) * kThreads + threadIdx.x;
  values[threadIdx.x] = i < size.pixels()
                            ? luma(before_contrast(image_of(resized, size), changes[blockIdx.y], size.height,
                                                   size.width, int(i / size.width), int(i % size.width)))
                            : 0;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (int(threadIdx.x) < half) values[threadIdx.x] += values[threadIdx.x + half];
  }
  if (threadIdx.x == 0) atomicAdd(sums + blockIdx.y, static_cast<unsigned long long>(values[0]));
}

/// A thread per pixel, which writes its channels: eight at once, or one by one.
template <class T, int W>
__global__ void __launch_bounds__(kThreads)
    input_kernel(const Rows<T> x, const std::int64_t channels, const ImageChange* changes, const PaddedRgb* resized,
                 const ImageSize size, const unsigned long long* luma_sums, const PixelScaling scaling) {
  const int i = int(blockIdx.x) * kThreads + int(threadIdx.x);
  if (i >= size.pixels()) return;
  const ImageChange& change = changes[blockIdx.y];
  Rgb p = before_contrast(image_of(resized, size), change, size.height, size.width, i / size.width, i % size.width);
  change_colours(p, change, std::int64_t(luma_sums[blockIdx.y]), size.pixels());
  Pack<8> v = {};  // by indices that are constants, so that all stays in registers
#pragma unroll
  for (int c = 0; c < 3; ++c) v.v[c] = scaled(p, scaling, c);
  T* to = x.at(blockIdx.y * size.pixels() + i, 0);
  if constexpr (W == 8) {
    store<8>(to, v);
  } else {
#pragma unroll
    for (int c = 0; c < 3; ++c)
      if (c < channels) store<1>(to + c, Pack<1>{{v.v[c]}});
  }
  for (std::int64_t c = W == 8 ? 8 : 3; c < channels; c += W) store<W>(to + c, Pack<W>{});
}

bool changes_contrast(std::span<const ImageChange> changes) {
  for (const ImageChange& c : changes)
    if (c.contrast != 1) return true;
  return false;
}

}  // namespace

InputScratch input_scratch(const Shape& x) {
  InputScratch s;
  s.luma_offset = x.n * std::int64_t(sizeof(ImageChange));
  s.pixels_offset = s.luma_offset + x.n * 8;
  s.bytes = s.pixels_offset + x.n * x.pixels() * std::int64_t(sizeof(PaddedRgb));
  return s;
}

void images_to_input(View x, std::span<const ConstView> pixels, std::span<const ImageChange> changes,
                     const PixelScaling& scaling, std::byte* scratch, cudaStream_t stream) {
  constexpr const char* kOp = "images_to_input";
  const InputScratch at = input_scratch(x.shape);
  const auto* table = reinterpret_cast<const ImageChange*>(scratch);
  auto* luma_sums = reinterpret_cast<unsigned long long*>(scratch + at.luma_offset);
  auto* resized = reinterpret_cast<PaddedRgb*>(scratch + at.pixels_offset);
  const ImageSize size{int(x.shape.h), int(x.shape.w)};
  const auto blocks = [&](std::int64_t per_image) {
    return LaunchConfig{
        .grid = dim3(unsigned(per_image), unsigned(x.shape.n)), .block = dim3(kThreads), .stream = stream};
  };
  PixelBlocks from{};
  for (std::size_t b = 0; b < pixels.size(); ++b) from.at[b] = pixels[b].as<std::uint8_t>();
  const std::int64_t tiles = (x.shape.w + kTileW - 1) / kTileW * ((x.shape.h + kTileH - 1) / kTileH);
  const LaunchConfig by_pixel = blocks((size.pixels() + kThreads - 1) / kThreads);
  launch(kOp, resize_kernel, blocks(tiles), table, from, size, resized);
  if (changes_contrast(changes)) launch(kOp, luma_kernel, by_pixel, table, resized, size, luma_sums);
  with_type(kOp, x.dtype, [&]<class T>() {
    launch(kOp, can_move(8, {x}) ? input_kernel<T, 8> : input_kernel<T, 1>, by_pixel, rows_of<T>(x, kOp), x.shape.c,
           table, resized, size, luma_sums, scaling);
  });
}

}  // namespace graft::gpu
