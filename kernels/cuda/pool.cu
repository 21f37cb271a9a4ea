// Pooling. Forward passes take a thread per output pixel and channel, gradients a thread per input pixel and channel,
// which gathers from the windows that cover it: no atomics, the same bits every time. Any window goes; the networks'
// own are those of pool_halving.cu.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/pool.h"

namespace graft::gpu {
namespace {

template <int W>
__device__ __forceinline__ void load_index(const std::uint8_t* from, int (&v)[W]) {
  const auto e = *reinterpret_cast<const Elements<std::uint8_t, W>*>(from);
  for (int l = 0; l < W; ++l) v[l] = e.v[l];
}

/// A row of a [N, h, w] grid of pixels as its coordinates.
struct Pixel {
  std::int64_t n, i, j;
};
__device__ __forceinline__ Pixel pixel_of(std::int64_t row, std::int64_t h, std::int64_t w) {
  return {row / (h * w), row / w % h, row % w};
}

/// A range of indices, clipped to what exists.
struct Span {
  std::int64_t begin, end;
};
/// Inputs under window i of [0, size).
__device__ __forceinline__ Span window_span(std::int64_t first, std::int64_t length, std::int64_t size) {
  return {first < 0 ? 0 : first, first + length < size ? first + length : size};
}
/// Windows that cover input i: those with  w*stride - pad <= i < w*stride - pad + length.
__device__ __forceinline__ Span covering(std::int64_t i, std::int64_t stride, std::int64_t pad, std::int64_t length,
                                         std::int64_t windows) {
  const std::int64_t over = i + pad - length + 1;
  const std::int64_t begin = over <= 0 ? 0 : (over + stride - 1) / stride;
  const std::int64_t end = (i + pad) / stride + 1;
  return {begin, end < windows ? end : windows};
}
/// PyTorch's adaptive windows: floor(i*size/out) .. ceil((i+1)*size/out). With size and out exchanged it gives the
/// windows that cover an input.
__device__ __forceinline__ Span adaptive_span(std::int64_t i, std::int64_t size, std::int64_t out) {
  return {i * size / out, ((i + 1) * size + out - 1) / out};
}

template <class T, int W>
__global__ void __launch_bounds__(kThreads)
    max_pool_kernel(const RowTiling t, const PoolSpec s, const Rows<T> y, const IndexRows index, const ConstRows<T> x) {
  const ThreadRows at = thread_rows<W>(t);
  if (!at.is_active) return;
  for (std::int64_t row = at.begin; row < at.end; row += at.step) {
    const Pixel p = pixel_of(row, s.out_h(), s.out_w());
    const std::int64_t top = p.i * s.stride_h - s.pad_h, left = p.j * s.stride_w - s.pad_w;
    const Span h = window_span(top, s.window_h, s.x.h), w = window_span(left, s.window_w, s.x.w);
    Pack<W> best;
    int where[W];
    for (int l = 0; l < W; ++l) {
      best.v[l] = -INFINITY;
      where[l] = int((h.begin - top) * s.window_w + w.begin - left);
    }
    for (std::int64_t i = h.begin; i < h.end; ++i)
      for (std::int64_t j = w.begin; j < w.end; ++j) {
        const Pack<W> v = load<W>(x.at((p.n * s.x.h + i) * s.x.w + j, at.channel));
        const int position = int((i - top) * s.window_w + j - left);
        for (int l = 0; l < W; ++l)
          if (v.v[l] > best.v[l] || v.v[l] != v.v[l]) {  // a NaN wins and stays
            best.v[l] = v.v[l];
            where[l] = position;
          }
      }
    store<W>(y.at(row, at.channel), best);
    store_index<W>(index.at(row, at.channel), where);
  }
}

template <class T, int W>
__global__ void __launch_bounds__(kThreads)
    max_pool_grad_kernel(const RowTiling t, const PoolSpec s, const Rows<T> dx, const bool adds, const ConstRows<T> dy,
                         const IndexRows index) {
  const ThreadRows at = thread_rows<W>(t);
  if (!at.is_active) return;
  for (std::int64_t row = at.begin; row < at.end; row += at.step) {
    const Pixel p = pixel_of(row, s.x.h, s.x.w);
    const Span h = covering(p.i, s.stride_h, s.pad_h, s.window_h, s.out_h()),
               w = covering(p.j, s.stride_w, s.pad_w, s.window_w, s.out_w());
    Pack<W> sum = {};
    for (std::int64_t i = h.begin; i < h.end; ++i)
      for (std::int64_t j = w.begin; j < w.end; ++j) {
        const std::int64_t from = (p.n * s.out_h() + i) * s.out_w() + j;
        const int position = int((p.i - (i * s.stride_h - s.pad_h)) * s.window_w + p.j - (j * s.stride_w - s.pad_w));
        int where[W];
        load_index<W>(index.at(from, at.channel), where);
        const Pack<W> g = load<W>(dy.at(from, at.channel));
        for (int l = 0; l < W; ++l) sum.v[l] += where[l] == position ? g.v[l] : 0.0f;
      }
    write<W>(dx.at(row, at.channel), sum, adds);
  }
}

/// PyTorch divides by the window clipped to the padded input, or to the input alone.
__device__ __forceinline__ float average_divisor(const PoolSpec& s, std::int64_t i, std::int64_t j) {
  const std::int64_t top = i * s.stride_h - s.pad_h, left = j * s.stride_w - s.pad_w;
  if (!s.count_padding) {
    const Span h = window_span(top, s.window_h, s.x.h), w = window_span(left, s.window_w, s.x.w);
    return float((h.end - h.begin) * (w.end - w.begin));
  }
  const std::int64_t bottom = top + s.window_h < s.x.h + s.pad_h ? top + s.window_h : s.x.h + s.pad_h;
  const std::int64_t right = left + s.window_w < s.x.w + s.pad_w ? left + s.window_w : s.x.w + s.pad_w;
  return float((bottom - top) * (right - left));
}

template <class T, int W>
__global__ void __launch_bounds__(kThreads)
    avg_pool_kernel(const RowTiling t, const PoolSpec s, const Rows<T> y, const ConstRows<T> x) {
  const ThreadRows at = thread_rows<W>(t);
  if (!at.is_active) return;
  for (std::int64_t row = at.begin; row < at.end; row += at.step) {
    const Pixel p = pixel_of(row, s.out_h(), s.out_w());
    const Span h = window_span(p.i * s.stride_h - s.pad_h, s.window_h, s.x.h),
               w = window_span(p.j * s.stride_w - s.pad_w, s.window_w, s.x.w);
    Pack<W> sum = {};
    for (std::int64_t i = h.begin; i < h.end; ++i)
      for (std::int64_t j = w.begin; j < w.end; ++j) {
        const Pack<W> v = load<W>(x.at((p.n * s.x.h + i) * s.x.w + j, at.channel));
        for (int l = 0; l < W; ++l) sum.v[l] += v.v[l];
      }
    const float scale = 1.0f / average_divisor(s, p.i, p.j);
    for (int l = 0; l < W; ++l) sum.v[l] *= scale;
    store<W>(y.at(row, at.channel), sum);
  }
}

template <class T, int W>
__global__ void __launch_bounds__(kThreads) avg_pool_grad_kernel(const RowTiling t, const PoolSpec s, const Rows<T> dx,
                                                                 const bool adds, const ConstRows<T> dy) {
  const ThreadRows at = thread_rows<W>(t);
  if (!at.is_active) return;
  for (std::int64_t row = at.begin; row < at.end; row += at.step) {
    const Pixel p = pixel_of(row, s.x.h, s.x.w);
    const Span h = covering(p.i, s.stride_h, s.pad_h, s.window_h, s.out_h()),
               w = covering(p.j, s.stride_w, s.pad_w, s.window_w, s.out_w());
    Pack<W> sum = {};
    for (std::int64_t i = h.begin; i < h.end; ++i)
      for (std::int64_t j = w.begin; j < w.end; ++j) {
        const Pack<W> g = load<W>(dy.at((p.n * s.out_h() + i) * s.out_w() + j, at.channel));
        const float scale = 1.0f / average_divisor(s, i, j);
        for (int l = 0; l < W; ++l) sum.v[l] += g.v[l] * scale;
      }
    write<W>(dx.at(row, at.channel), sum, adds);
  }
}

struct AdaptiveSizes {
  std::int64_t in_h, in_w, out_h, out_w;
};

template <class T, int W>
__global__ void __launch_bounds__(kThreads)
    adaptive_avg_pool_kernel(const RowTiling t, const AdaptiveSizes s, const Rows<T> y, const ConstRows<T> x) {
  const ThreadRows at = thread_rows<W>(t);
  if (!at.is_active) return;
  for (std::int64_t row = at.begin; row < at.end; row += at.step) {
    const Pixel p = pixel_of(row, s.out_h, s.out_w);
    const Span h = adaptive_span(p.i, s.in_h, s.out_h), w = adaptive_span(p.j, s.in_w, s.out_w);
    Pack<W> sum = {};
    for (std::int64_t i = h.begin; i < h.end; ++i)
      for (std::int64_t j = w.begin; j < w.end; ++j) {
        const Pack<W> v = load<W>(x.at((p.n * s.in_h + i) * s.in_w + j, at.channel));
        for (int l = 0; l < W; ++l) sum.v[l] += v.v[l];
      }
    const float count = float((h.end - h.begin) * (w.end - w.begin));
    for (int l = 0; l < W; ++l) sum.v[l] /= count;
    store<W>(y.at(row, at.channel), sum);
  }
}

template <class T, int W>
__global__ void __launch_bounds__(kThreads)
    adaptive_avg_pool_grad_kernel(const RowTiling t, const AdaptiveSizes s, const Rows<T> dx, const bool adds,
                                  const ConstRows<T> dy) {
  const ThreadRows at = thread_rows<W>(t);
  if (!at.is_active) return;
  if (s.out_h == 1 && s.out_w == 1) {  // the networks' own: one division per row in the place of twelve
    const std::int64_t pixels = s.in_h * s.in_w;
    const float scale = 1.0f / float(pixels);
    for (std::int64_t row = at.begin; row < at.end; row += at.step) {
      Pack<W> g = load<W>(dy.at(row / pixels, at.channel));
      for (int l = 0; l < W; ++l) g.v[l] = 0.0f + g.v[l] * scale;  // as a sum would: never -0
      write<W>(dx.at(row, at.channel), g, adds);
    }
    return;
  }
  for (std::int64_t row = at.begin; row < at.end; row += at.step) {
    const Pixel p = pixel_of(row, s.in_h, s.in_w);
    const Span h = adaptive_span(p.i, s.out_h, s.in_h), w = adaptive_span(p.j, s.out_w, s.in_w);
    Pack<W> sum = {};
    for (std::int64_t i = h.begin; i < h.end; ++i)
      for (std::int64_t j = w.begin; j < w.end; ++j) {
        const Span wh = adaptive_span(i, s.in_h, s.out_h), ww = adaptive_span(j, s.in_w, s.out_w);
        const float scale = 1.0f / float((wh.end - wh.begin) * (ww.end - ww.begin));
        const Pack<W> g = load<W>(dy.at((p.n * s.out_h + i) * s.out_w + j, at.channel));
        for (int l = 0; l < W; ++l) sum.v[l] += g.v[l] * scale;
      }
    write<W>(dx.at(row, at.channel), sum, adds);
  }
}

}  // namespace

void max_pool(const PoolSpec& spec, View y, View index, ConstView x, cudaStream_t stream) {
  if (is_halving(spec)) return max_pool_halving(spec, y, index, x, stream);
  constexpr const char* kOp = "max_pool";
  if (spec.window_h * spec.window_w > 256)
    throw Error("max_pool: a window may cover 256 pixels, got " + std::to_string(spec.window_h) + "x" +
                std::to_string(spec.window_w));
  with_packs(kOp, x, {y, index}, [&]<class T, int W>() {
    const RowTiling t = tile_pass(y.shape, W);
    launch(kOp, max_pool_kernel<T, W>, t.config(stream), t, spec, rows_of<T>(y, kOp), index_rows(index),
           rows_of<T>(x, kOp));
  });
}

void max_pool_grad(const PoolSpec& spec, View dx, Write write, ConstView dy, ConstView index, cudaStream_t stream) {
  if (is_halving(spec)) return max_pool_grad_halving(spec, dx, write, dy, index, stream);
  constexpr const char* kOp = "max_pool_grad";
  with_packs(kOp, dy, {dx, index}, [&]<class T, int W>() {
    const RowTiling t = tile_pass(dx.shape, W);
    launch(kOp, max_pool_grad_kernel<T, W>, t.config(stream), t, spec, rows_of<T>(dx, kOp), write == Write::add,
           rows_of<T>(dy, kOp), index_rows(index));
  });
}

void avg_pool(const PoolSpec& spec, View y, ConstView x, cudaStream_t stream) {
  if (is_halving(spec) && spec.window_h == 2) return avg_pool_halving(spec, y, x, stream);
  constexpr const char* kOp = "avg_pool";
  with_packs(kOp, x, {y}, [&]<class T, int W>() {
    const RowTiling t = tile_pass(y.shape, W);
    launch(kOp, avg_pool_kernel<T, W>, t.config(stream), t, spec, rows_of<T>(y, kOp), rows_of<T>(x, kOp));
  });
}

void avg_pool_grad(const PoolSpec& spec, View dx, Write write, ConstView dy, cudaStream_t stream) {
  if (is_halving(spec) && spec.window_h == 2) return avg_pool_grad_halving(spec, dx, write, dy, stream);
  constexpr const char* kOp = "avg_pool_grad";
  with_packs(kOp, dy, {dx}, [&]<class T, int W>() {
    const RowTiling t = tile_pass(dx.shape, W);
    launch(kOp, avg_pool_grad_kernel<T, W>, t.config(stream), t, spec, rows_of<T>(dx, kOp), write == Write::add,
           rows_of<T>(dy, kOp));
  });
}

void adaptive_avg_pool(View y, ConstView x, cudaStream_t stream) {
  constexpr const char* kOp = "adaptive_avg_pool";
  with_packs(kOp, x, {y}, [&]<class T, int W>() {
    const RowTiling t = tile_pass(y.shape, W);
    launch(kOp, adaptive_avg_pool_kernel<T, W>, t.config(stream), t,
           AdaptiveSizes{x.shape.h, x.shape.w, y.shape.h, y.shape.w}, rows_of<T>(y, kOp), rows_of<T>(x, kOp));
  });
}

void adaptive_avg_pool_grad(View dx, Write write, ConstView dy, cudaStream_t stream) {
  constexpr const char* kOp = "adaptive_avg_pool_grad";
  with_packs(kOp, dy, {dx}, [&]<class T, int W>() {
    const RowTiling t = tile_pass(dx.shape, W);
    launch(kOp, adaptive_avg_pool_grad_kernel<T, W>, t.config(stream), t,
           AdaptiveSizes{dx.shape.h, dx.shape.w, dy.shape.h, dy.shape.w}, rows_of<T>(dx, kOp), write == Write::add,
           rows_of<T>(dy, kOp));
  });
}

}  // namespace graft::gpu
