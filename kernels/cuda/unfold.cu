// Windows of an image unfolded into channels, and weights to match: Unfolding in graph_spec.h has the formulas. A row
// of x is taken as one line of columns times channels; in it a window's row is one piece. Numbers are moved as they
// are, but for the gradient, which is widened.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.h"

namespace graft::gpu {
namespace {

using Bits = std::uint16_t;  // a number of either 16-bit type
constexpr int kEight = 8;
using Eight = Elements<Bits, kEight>;
constexpr int kStaged = 1024;  // packs of x in shared memory
constexpr int kMostRows = 4;   // of x', by one block: more of x to wait for at once

struct Unfold {
  Eight* to;             // [images, out_h, out_w, groups]
  const Bits* x;         // [images, height, length]
  int height, length;    // of x: rows, elements of a row
  int window;            // elements of a window's row
  int rows, step;        // rows of x in a pixel of x', from one row of x' to the next
  int stride;            // elements from one window to the next
  int pad_h, left;       // rows above x, elements before a row
  int out_h, out_w;      // of x'
  int per_block, parts;  // rows of x' that a block makes; blocks of an image
  int lead, pitch;       // of a staged row: zeros before x's first element, elements in all; multiples of 8
  bool takes_eight;      // x's rows can be read in packs
};

/// The rows of x' that this block makes.
struct Part {
  std::int64_t image;
  int first, count;
};
__device__ Part part_of(const Unfold& u) {
  const int first = int(blockIdx.x) % u.parts * u.per_block;
  return {int(blockIdx.x) / u.parts, first, min(u.per_block, u.out_h - first)};
}

__device__ Bits number_at(const Unfold& u, std::int64_t image, int row, int at) {
  const bool is_inside = row >= 0 && row < u.height && at >= 0 && at < u.length;
  return is_inside ? u.x[(image * u.height + row) * u.length + at] : Bits{0};
}

/// Eight neighbours of a row, from a multiple of 8 on; zeros outside.
__device__ Eight eight_at(const Unfold& u, std::int64_t image, int row, int at) {
  Eight e = {};
  if (u.takes_eight) {
    if (row >= 0 && row < u.height && at >= 0 && at < u.length)
      e = *reinterpret_cast<const Eight*>(u.x + (image * u.height + row) * u.length + at);
  } else {
    for (int l = 0; l < kEight; ++l) e.v[l] = number_at(u, image, row, at + l);
  }
  return e;
}

/// A thread writes the same eight channels of many pixels. Neighbours write neighbouring packs: threadIdx.x runs over a
/// pixel's, threadIdx.y over pixels. The rows of x that the block needs lie in shared memory, with their padding.
__global__ void __launch_bounds__(kThreads) unfold_kernel(const Unfold u) {
  __shared__ Eight staged[kStaged];
  const Part part = part_of(u);
  const int threads = int(blockDim.x * blockDim.y), thread = int(threadIdx.y * blockDim.x + threadIdx.x);
  const int packs = u.pitch / kEight, rows = (part.count - 1) * u.step + u.rows, top = part.first * u.step - u.pad_h;
  for (int i = thread, row = 0, pack = thread; i < rows * packs; i += threads, pack += threads) {
    for (; pack >= packs; pack -= packs) ++row;  // carried, since a division takes longer than the copy
    staged[i] = eight_at(u, part.image, top + row, pack * kEight - u.lead);
  }
  __syncthreads();

  int from[kEight];   // of this thread's channels in the staged rows, for the first window
  Bits mask[kEight];  // zero for channels of zeros
  int a = int(threadIdx.x) * kEight / u.window, at = int(threadIdx.x) * kEight % u.window;
#pragma unroll
  for (int l = 0; l < kEight; ++l) {
    from[l] = a < u.rows ? a * u.pitch + at + u.lead - u.left : 0;
    mask[l] = a < u.rows ? Bits(~0) : Bits(0);
    if (++at == u.window) at = 0, ++a;
  }
  const Bits* numbers = reinterpret_cast<const Bits*>(staged);
  Eight* to = u.to + (part.image * u.out_h + part.first) * u.out_w * blockDim.x + thread;
  int row = 0, column = int(threadIdx.y);
  for (int pixel = column; pixel < part.count * u.out_w; pixel += int(blockDim.y), column += int(blockDim.y)) {
    for (; column >= u.out_w; column -= u.out_w) ++row;
    const Bits* window = numbers + row * u.step * u.pitch + column * u.stride;
    Eight e;
#pragma unroll
    for (int l = 0; l < kEight; ++l) e.v[l] = window[from[l]] & mask[l];
    *to = e;
    to += threads;
  }
}

/// The same for rows that are too long to be staged.
__global__ void __launch_bounds__(kThreads) unfold_long_kernel(const Unfold u) {
  const Part part = part_of(u);
  Eight* to = u.to + (part.image * u.out_h + part.first) * u.out_w * blockDim.x + threadIdx.x;
  for (int row = 0; row < part.count; ++row)
    for (int column = int(threadIdx.y); column < u.out_w; column += int(blockDim.y)) {
      Eight e = {};
      for (int l = 0; l < kEight; ++l) {
        const int channel = int(threadIdx.x) * kEight + l;
        const int a = channel / u.window, at = column * u.stride + channel % u.window - u.left;
        if (a < u.rows) e.v[l] = number_at(u, part.image, (part.first + row) * u.step + a - u.pad_h, at);
      }
      to[(std::int64_t(row) * u.out_w + column) * blockDim.x] = e;
    }
}

/// w is [k, taps, window], w' is [k, groups of rows, channels].
struct WeightSizes {
  std::int64_t taps, window, rows, groups, channels, k;
};

__global__ void __launch_bounds__(kThreads) unfold_weight_kernel(Bits* to, const Bits* w, const WeightSizes s) {
  const std::int64_t i = std::int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= s.k * s.groups * s.channels) return;
  const std::int64_t channel = i % s.channels, group = i / s.channels % s.groups, k = i / (s.channels * s.groups);
  const std::int64_t a = channel / s.window, tap = group * s.rows + a;
  to[i] = a < s.rows && tap < s.taps ? w[(k * s.taps + tap) * s.window + channel % s.window] : Bits{0};
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    fold_weight_kernel(float* dw, const bool adds, const T* from, const WeightSizes s) {
  const std::int64_t i = std::int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= s.k * s.taps * s.window) return;
  const std::int64_t tap = i / s.window % s.taps, k = i / (s.window * s.taps);
  const std::int64_t channel = tap % s.rows * s.window + i % s.window;
  const float value = widen(from[(k * s.groups + tap / s.rows) * s.channels + channel]);
  dw[i] = adds ? dw[i] + value : value;
}

WeightSizes sizes_of(const ConvSpec& conv, const Unfolding& u) {
  return {.taps = conv.r,
          .window = conv.s * conv.x.c,
          .rows = u.rows,
          .groups = u.conv.r,
          .channels = u.conv.x.c,
          .k = conv.k};
}

LaunchConfig thread_per_element(std::int64_t size, cudaStream_t stream) {
  return {.grid = dim3(unsigned((size + kThreads - 1) / kThreads)), .block = dim3(kThreads), .stream = stream};
}

int in_eights(std::int64_t size) { return int((size + kEight - 1) / kEight * kEight); }

/// Packs of x that a block stages for `rows` rows of x'.
std::int64_t staged_packs(const Unfold& u, int rows) {
  return (std::int64_t(rows - 1) * u.step + u.rows) * (u.pitch / kEight);
}

Unfold unfold_of(void* to, const ConstView& x, const ConvSpec& conv, const Unfolding& unfolding) {
  const std::int64_t c = conv.x.c;
  const Shape& out = unfolding.conv.x;
  Unfold u{.to = static_cast<Eight*>(to),
           .x = x.as<Bits>(),
           .height = int(conv.x.h),
           .length = int(conv.x.w * c),
           .window = int(conv.s * c),
           .rows = int(unfolding.rows),
           .step = int(conv.stride_h),
           .stride = int(conv.stride_w * c),
           .pad_h = int(conv.pad_h),
           .left = int(conv.pad_w * c),
           .out_h = int(out.h),
           .out_w = int(out.w),
           .per_block = kMostRows,
           .parts = 0,
           .lead = in_eights(conv.pad_w * c),
           .pitch = 0,
           .takes_eight = conv.x.w * c % kEight == 0 && is_aligned(x, kEight)};
  u.pitch = in_eights(u.lead - u.left + (out.w - 1) * u.stride + u.window);
  while (u.per_block > 1 && (out.n * out.h < u.per_block * kEnoughBlocks || staged_packs(u, u.per_block) > kStaged))
    --u.per_block;
  u.parts = (u.out_h + u.per_block - 1) / u.per_block;
  return u;
}

}  // namespace

void unfold(void* unfolded, ConstView x, const ConvSpec& conv, const Unfolding& unfolding, cudaStream_t stream) {
  const Unfold u = unfold_of(unfolded, x, conv, unfolding);
  const unsigned groups = unsigned(unfolding.conv.x.c / kEight);
  launch("unfold", staged_packs(u, u.per_block) <= kStaged ? unfold_kernel : unfold_long_kernel,
         {.grid = dim3(unsigned(conv.x.n * u.parts)), .block = dim3(groups, kThreads / groups), .stream = stream}, u);
}

void unfold_weight(void* unfolded, ConstView w, const ConvSpec& conv, const Unfolding& unfolding, cudaStream_t stream) {
  launch("unfold_weight", unfold_weight_kernel, thread_per_element(unfolding.conv.weight_size(), stream),
         static_cast<Bits*>(unfolded), w.as<Bits>(), sizes_of(conv, unfolding));
}

void fold_weight_grad(View dw, Write write, const void* unfolded, DType dtype, const ConvSpec& conv,
                      const Unfolding& unfolding, cudaStream_t stream) {
  if (dw.dtype != DType::f32) throw Error("fold_weight_grad: gradients of weights are float32");
  const auto run = [&]<class T>(const T* from) {
    launch("fold_weight_grad", fold_weight_kernel<T>, thread_per_element(conv.weight_size(), stream), dw.as<float>(),
           write == Write::add, from, sizes_of(conv, unfolding));
  };
  if (dtype == DType::bf16)
    run(static_cast<const __nv_bfloat16*>(unfolded));
  else
    run(static_cast<const __half*>(unfolded));
}

}  // namespace graft::gpu
