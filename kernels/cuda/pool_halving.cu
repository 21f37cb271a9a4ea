// Pools that halve an image: windows of 3x3 with padding 1, or of 2x2 without, two apart. Sizes are constants, so that
// all loads of a window start together and no index takes a division. A thread walks down a strip of windows and keeps
// what one window shares with the next; gradients do so by quads of 2x2 inputs, which at most 2x2 windows cover. Sums
// and comparisons are taken in the order of pool.cu, to the same bits.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/pool.h"

namespace graft::gpu {
namespace {

/// Windows of an image, or quads of inputs, as blocks share them: blockIdx.x is a tile of channels, y a strip of rows,
/// z the image. threadIdx.y runs over columns.
struct Strips {
  int rows, columns, rows_per_strip;
  std::int64_t channels;
};
struct StripLaunch {
  Strips strips;
  LaunchConfig config;
};

StripLaunch strip_launch(std::int64_t images, std::int64_t rows, std::int64_t columns, std::int64_t channels, int width,
                         cudaStream_t stream) {
  constexpr std::int64_t kMostRows = 4;
  const std::int64_t groups = (channels + width - 1) / width;
  unsigned lanes = 1;
  while (lanes < 32 && lanes < groups) lanes *= 2;
  const std::int64_t tiles = (groups + lanes - 1) / lanes, blocks = images * rows * tiles;
  const std::int64_t each = blocks < 2 * kEnoughBlocks           ? 1
                            : blocks < kMostRows * kEnoughBlocks ? blocks / kEnoughBlocks
                                                                 : kMostRows;
  // As many threads as give all of them the same number of columns.
  const std::int64_t rounds = (columns * lanes + kThreads - 1) / kThreads;
  const unsigned depth = rounds == 0 ? 1 : unsigned((columns + rounds - 1) / rounds);
  const unsigned strip_count = unsigned((rows + each - 1) / each);
  return {
      .strips = {.rows = int(rows), .columns = int(columns), .rows_per_strip = int(each), .channels = channels},
      .config = {
          .grid = dim3(unsigned(tiles), strip_count, unsigned(images)), .block = dim3(lanes, depth), .stream = stream}};
}

/// What a thread of Strips works on: rows [begin, end) of image n, columns from `column` on.
struct StripThread {
  std::int64_t channel, n;
  int begin, end, column, step;
  bool is_active;  // false beyond the last channel
};
template <int W>
__device__ __forceinline__ StripThread strip_thread(const Strips& s) {
  const std::int64_t channel = std::int64_t(blockIdx.x * blockDim.x + threadIdx.x) * W;
  const int begin = int(blockIdx.y) * s.rows_per_strip, end = begin + s.rows_per_strip;
  return {channel, blockIdx.z, begin, min(end, s.rows), int(threadIdx.y), int(blockDim.y), channel < s.channels};
}

struct Size {
  int h, w;
};
__device__ __forceinline__ std::int64_t pixel(std::int64_t n, int i, int j, const Size& s) {
  return (n * s.h + i) * s.w + j;
}

template <class T, int W>
__device__ __forceinline__ Elements<T, W> load_elements(const T* p) {
  return *reinterpret_cast<const Elements<T, W>*>(p);
}

/// K neighbouring pixels of a row of x from `left` on, as they stand in memory. Every address is of a pixel that
/// exists, since loads behind a branch would wait for each other: outside the image it is the nearest one.
template <class T, int W, int K>
struct Line {
  Elements<T, W> at[K];
};
template <class T, int W, int K>
__device__ __forceinline__ Line<T, W, K> load_line(const ConstRows<T>& x, const Size& size, std::int64_t n, int row,
                                                   int left, std::int64_t channel) {
  const T* p = x.at(pixel(n, K == 2 ? row : min(row, size.h - 1), 0, size), channel);
  Line<T, W, K> line;
#pragma unroll
  for (int c = 0; c < K; ++c)
    line.at[c] = load_elements<T, W>(p + (K == 2 ? left + c : min(max(left + c, 0), size.w - 1)) * x.pitch);
  return line;
}

/// The largest values so far, and where in their window they are.
template <int W>
struct Best {
  float value[W];
  int where[W];
};
template <int W>
__device__ __forceinline__ void take(Best<W>& best, int l, float v, int where) {
  if (v > best.value[l] || v != v) {  // a NaN wins and stays
    best.value[l] = v;
    best.where[l] = where;
  }
}
/// Of a line, whose columns first..last are inside the image: what stands beside them repeats the nearest, and counts
/// as being there.
template <int W, class T, int K>
__device__ __forceinline__ Best<W> largest(const Line<T, W, K>& line, int first, int last) {
  Best<W> best;
#pragma unroll
  for (int l = 0; l < W; ++l) {
    best.value[l] = widen(line.at[0].v[l]);
    best.where[l] = first;
    if (K == 3) take(best, l, widen(line.at[1].v[l]), 1);
    take(best, l, widen(line.at[K - 1].v[l]), last);
  }
  return best;
}

template <class T, int W, int K>
__global__ void __launch_bounds__(kThreads) max_pool_halving_kernel(const Strips s, const Size in, const Rows<T> y,
                                                                    const IndexRows index, const ConstRows<T> x) {
  const StripThread t = strip_thread<W>(s);
  if (!t.is_active) return;
  for (int j = t.column; j < s.columns; j += t.step) {
    const int left = 2 * j - (K - 2), first = left < 0 ? 1 : 0, last = left + K <= in.w ? K - 1 : K - 2;
    Best<W> above;  // of the line that a 3x3 window shares with the one above
    for (int l = 0; l < W; ++l) above.value[l] = -INFINITY, above.where[l] = K + first;
    if (K == 3 && t.begin > 0)
      above = largest<W>(load_line<T, W, K>(x, in, t.n, 2 * t.begin - 1, left, t.channel), first, last);
#pragma unroll 1
    for (int i = t.begin; i < t.end; ++i) {
      const auto upper_line = load_line<T, W, K>(x, in, t.n, 2 * i, left, t.channel);
      const auto lower_line = load_line<T, W, K>(x, in, t.n, 2 * i + 1, left, t.channel);
      const Best<W> upper = largest<W>(upper_line, first, last), lower = largest<W>(lower_line, first, last);
      const int lowest = K == 3 && 2 * i + 1 == in.h ? 1 : K - 1;  // row of the window that lower_line repeats
      Best<W> best = K == 3 ? above : upper;
#pragma unroll
      for (int l = 0; l < W; ++l) {
        if (K == 3) take(best, l, upper.value[l], K + upper.where[l]);
        take(best, l, lower.value[l], lowest * K + lower.where[l]);
      }
      above = lower;
      const std::int64_t row = pixel(t.n, i, j, {s.rows, s.columns});
      Pack<W> out;
      for (int l = 0; l < W; ++l) out.v[l] = best.value[l];
      store<W>(y.at(row, t.channel), out);
      store_index<W>(index.at(row, t.channel), best.where);
    }
  }
}

/// Neighbouring windows of a row: two of 3x3, which reach into one quad, or one of 2x2. In the place of one that does
/// not exist stands the nearest.
template <class T, int W, int K>
struct Windows {
  Elements<T, W> dy[K - 1];
  Elements<std::uint8_t, W> index[K - 1];
};
template <class T, int W, int K>
__device__ __forceinline__ Windows<T, W, K> load_windows(const ConstRows<T>& dy, const IndexRows& index,
                                                         const Size& out, std::int64_t n, int i, int j,
                                                         std::int64_t channel) {
  Windows<T, W, K> windows;
#pragma unroll
  for (int d = 0; d < K - 1; ++d) {
    const std::int64_t row = pixel(n, min(i, out.h - 1), min(j + d, out.w - 1), out);
    windows.dy[d] = load_elements<T, W>(dy.at(row, channel));
    windows.index[d] = load_elements<std::uint8_t, W>(index.at(row, channel));
  }
  return windows;
}

template <class T, int W, int K>
__global__ void __launch_bounds__(kThreads)
    max_pool_grad_halving_kernel(const Strips s, const Size in, const Size out, const Rows<T> dx, const bool adds,
                                 const ConstRows<T> dy, const IndexRows index) {
  const StripThread t = strip_thread<W>(s);
  if (!t.is_active) return;
  for (int j = t.column; j < s.columns; j += t.step) {
    Windows<T, W, K> rows[2];  // that of the quad, and the next, which reaches into its lower half
    rows[0] = load_windows<T, W, K>(dy, index, out, t.n, t.begin, j, t.channel);
#pragma unroll 1
    for (int i = t.begin; i < t.end; ++i) {
      rows[1] = load_windows<T, W, K>(dy, index, out, t.n, i + 1, j, t.channel);
#pragma unroll
      for (int u = 0; u < 2; ++u)
#pragma unroll
        for (int v = 0; v < 2; ++v) {
          if (2 * i + u >= in.h || 2 * j + v >= in.w) continue;
          Pack<W> sum = {};
#pragma unroll
          for (int a = 0; a <= u * (K - 2); ++a)
#pragma unroll
            for (int b = 0; b <= v * (K - 2); ++b) {
              const bool exists = i + a < out.h && j + b < out.w;
              const int position = exists ? (u - 2 * a + K - 2) * K + v - 2 * b + K - 2 : -1;  // of this input in it
              for (int l = 0; l < W; ++l)
                sum.v[l] += rows[a].index[b].v[l] == position ? widen(rows[a].dy[b].v[l]) : 0.0f;
            }
          write<W>(dx.at(pixel(t.n, 2 * i + u, 2 * j + v, in), t.channel), sum, adds);
        }
      rows[0] = rows[1];
    }
  }
}

template <class T, int W>
__global__ void __launch_bounds__(kThreads)
    avg_pool_halving_kernel(const Strips s, const Size in, const Rows<T> y, const ConstRows<T> x) {
  const StripThread t = strip_thread<W>(s);
  if (!t.is_active) return;
  for (int j = t.column; j < s.columns; j += t.step)
#pragma unroll 1
    for (int i = t.begin; i < t.end; ++i) {
      Line<T, W, 2> lines[2];
      for (int r = 0; r < 2; ++r) lines[r] = load_line<T, W, 2>(x, in, t.n, 2 * i + r, 2 * j, t.channel);
      Pack<W> sum = {};
      for (int r = 0; r < 2; ++r)
        for (int c = 0; c < 2; ++c)
          for (int l = 0; l < W; ++l) sum.v[l] += widen(lines[r].at[c].v[l]);
      for (int l = 0; l < W; ++l) sum.v[l] *= 0.25f;
      store<W>(y.at(pixel(t.n, i, j, {s.rows, s.columns}), t.channel), sum);
    }
}

template <class T, int W>
__global__ void __launch_bounds__(kThreads)
    avg_pool_grad_halving_kernel(const Strips s, const Size in, const Size out, const Rows<T> dx, const bool adds,
                                 const ConstRows<T> dy) {
  const StripThread t = strip_thread<W>(s);
  if (!t.is_active) return;
  for (int j = t.column; j < s.columns; j += t.step)
#pragma unroll 1
    for (int i = t.begin; i < t.end; ++i) {
      Pack<W> g = load<W>(dy.at(pixel(t.n, min(i, out.h - 1), min(j, out.w - 1), out), t.channel));
      const bool exists = i < out.h && j < out.w;
      for (int l = 0; l < W; ++l) g.v[l] = exists ? 0.0f + g.v[l] * 0.25f : 0.0f;  // as a sum would: never -0
#pragma unroll
      for (int u = 0; u < 2; ++u)
#pragma unroll
        for (int v = 0; v < 2; ++v)
          if (2 * i + u < in.h && 2 * j + v < in.w)
            write<W>(dx.at(pixel(t.n, 2 * i + u, 2 * j + v, in), t.channel), g, adds);
    }
}

Size size_of_image(const Shape& s) { return {int(s.h), int(s.w)}; }
StripLaunch strips_of_windows(const Shape& y, int width, cudaStream_t stream) {
  return strip_launch(y.n, y.h, y.w, y.c, width, stream);
}
StripLaunch strips_of_quads(const Shape& x, int width, cudaStream_t stream) {
  return strip_launch(x.n, (x.h + 1) / 2, (x.w + 1) / 2, x.c, width, stream);
}

}  // namespace

bool is_halving(const PoolSpec& s) {
  constexpr std::int64_t kMost = 65535;  // blocks along y and z
  const std::int64_t k = s.window_h;
  const bool fits = s.x.n <= kMost && s.x.h <= kMost && s.x.w <= kMost && s.y().pixels() > 0;
  return fits && (k == 2 || k == 3) && s.window_w == k && s.stride_h == 2 && s.stride_w == 2 && s.pad_h == k - 2 &&
         s.pad_w == k - 2;
}

void max_pool_halving(const PoolSpec& spec, View y, View index, ConstView x, cudaStream_t stream) {
  constexpr const char* kOp = "max_pool";
  with_packs(kOp, x, {y, index}, [&]<class T, int W>() {
    const StripLaunch s = strips_of_windows(y.shape, W, stream);
    launch(kOp, spec.window_h == 3 ? max_pool_halving_kernel<T, W, 3> : max_pool_halving_kernel<T, W, 2>, s.config,
           s.strips, size_of_image(x.shape), rows_of<T>(y, kOp), index_rows(index), rows_of<T>(x, kOp));
  });
}

void max_pool_grad_halving(const PoolSpec& spec, View dx, Write write, ConstView dy, ConstView index,
                           cudaStream_t stream) {
  constexpr const char* kOp = "max_pool_grad";
  const auto run = [&]<class T, int W, int K>() {
    const StripLaunch s = strips_of_quads(dx.shape, W, stream);
    launch(kOp, max_pool_grad_halving_kernel<T, W, K>, s.config, s.strips, size_of_image(dx.shape),
           size_of_image(dy.shape), rows_of<T>(dx, kOp), write == Write::add, rows_of<T>(dy, kOp), index_rows(index));
  };
  with_packs(kOp, dy, {dx, index}, [&]<class T, int W>() {
    // Four windows of eight channels each would take 119 registers, and leave the GPU's threads half idle.
    constexpr int kNarrow = W == 8 ? 4 : W;
    if (spec.window_h == 3) return run.template operator()<T, kNarrow, 3>();
    run.template operator()<T, W, 2>();
  });
}

void avg_pool_halving(const PoolSpec&, View y, ConstView x, cudaStream_t stream) {
  constexpr const char* kOp = "avg_pool";
  with_packs(kOp, x, {y}, [&]<class T, int W>() {
    const StripLaunch s = strips_of_windows(y.shape, W, stream);
    launch(kOp, avg_pool_halving_kernel<T, W>, s.config, s.strips, size_of_image(x.shape), rows_of<T>(y, kOp),
           rows_of<T>(x, kOp));
  });
}

void avg_pool_grad_halving(const PoolSpec&, View dx, Write write, ConstView dy, cudaStream_t stream) {
  constexpr const char* kOp = "avg_pool_grad";
  with_packs(kOp, dy, {dx}, [&]<class T, int W>() {
    const StripLaunch s = strips_of_quads(dx.shape, W, stream);
    launch(kOp, avg_pool_grad_halving_kernel<T, W>, s.config, s.strips, size_of_image(dx.shape),
           size_of_image(dy.shape), rows_of<T>(dx, kOp), write == Write::add, rows_of<T>(dy, kOp));
  });
}

}  // namespace graft::gpu
