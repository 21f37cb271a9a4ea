// Pooling on the CPU: for each image and group of neighbouring channels, windows over pixels; the inner loop runs over
// channels.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/runs.h"
#include "kernels/scratch.h"

namespace graft {
namespace {

/// Channels handled together in NHWC: a cache line or more.
template <class T>
constexpr std::int64_t kLanes = std::is_same_v<T, float> ? 64 : 32;

/// Calls body.template operator()<T>(n, first channel, channels) in parallel for groups of channels that are neighbours
/// in memory in both views; T is what these hold.
template <class Body>
void for_each_group(const ConstView& a, const ConstView& b, const Body& body) {
  with_stored_type(a.dtype, [&](auto stored) {
    using T = decltype(stored);
    const std::int64_t lanes = std::min({strides_of(a).block, strides_of(b).block, kLanes<T>});
    const std::int64_t groups = (a.shape.c + lanes - 1) / lanes;
#pragma omp parallel for collapse(2) schedule(static)
    for (std::int64_t n = 0; n < a.shape.n; ++n)
      for (std::int64_t g = 0; g < groups; ++g)
        body.template operator()<T>(n, g * lanes, std::min(lanes, a.shape.c - g * lanes));
  });
}

/// The part of window i that lies inside [0, size).
struct Window {
  std::int64_t begin, end;  // clipped
  std::int64_t unclipped;   // where it would begin
  Window(std::int64_t i, std::int64_t stride, std::int64_t pad, std::int64_t length, std::int64_t size)
      : begin(std::max<std::int64_t>(0, i * stride - pad)),
        end(std::min(size, i * stride - pad + length)),
        unclipped(i * stride - pad) {}
};

/// PyTorch's adaptive windows: floor(i*size/out) .. ceil((i+1)*size/out).
std::int64_t adaptive_begin(std::int64_t i, std::int64_t size, std::int64_t out) { return i * size / out; }
std::int64_t adaptive_end(std::int64_t i, std::int64_t size, std::int64_t out) {
  return ((i + 1) * size + out - 1) / out;
}

/// Floats for the sums of one plane in every thread, where dx holds 16 bits.
class PlaneMemory {
 public:
  PlaneMemory(Backend& backend, const View& dx)
      : size_(dx.dtype == DType::f32 ? 0 : dx.shape.pixels() * kLanes<BFloat16>),
        floats_(backend, omp_get_max_threads() * size_ * size_of(DType::f32)) {}
  float* of_this_thread() const { return floats_.as<float>() + omp_get_thread_num() * size_; }

 private:
  std::int64_t size_;
  Scratch floats_;
};

/// Where a gradient's sums for some channels of an image are taken: in dx itself or, where that holds 16 bits, in
/// floats that are rounded once, by `finish`.
template <class T>
class PlaneSums {
 public:
  PlaneSums(const PlaneMemory& memory, const View& dx, Write write, std::int64_t n, std::int64_t channel,
            std::int64_t count)
      : pixels_(dx.shape.pixels()), count_(count), strides_(strides_of(dx)), to_(dx.as<T>() + strides_(n, channel, 0)) {
    if constexpr (kInPlace)
      sums_ = to_;
    else
      sums_ = memory.of_this_thread();
    if (kInPlace && write == Write::add) return;
    for (std::int64_t p = 0; p < pixels_; ++p)
      for (std::int64_t l = 0; l < count_; ++l)
        at(p)[l] = write == Write::add ? float(to_[p * strides_.pixel + l]) : 0.0f;
  }
  float* at(std::int64_t pixel) { return sums_ + pixel * (kInPlace ? strides_.pixel : count_); }
  void finish() {
    if constexpr (!kInPlace)
      for (std::int64_t p = 0; p < pixels_; ++p) write_run(to_ + p * strides_.pixel, at(p), count_);
  }

 private:
  static constexpr bool kInPlace = std::is_same_v<T, float>;
  std::int64_t pixels_, count_;
  Strides strides_;
  T* to_;
  float* sums_ = nullptr;
};

// PyTorch divides by the window clipped to the padded input, or to the input alone.
float average_divisor(const PoolSpec& spec, const Window& h, const Window& w) {
  if (!spec.count_padding) return float((h.end - h.begin) * (w.end - w.begin));
  const std::int64_t rows = std::min(h.unclipped + spec.window_h, spec.x.h + spec.pad_h) - h.unclipped;
  const std::int64_t columns = std::min(w.unclipped + spec.window_w, spec.x.w + spec.pad_w) - w.unclipped;
  return float(rows * columns);
}

/// The largest of a window for W channels, and its position, the first of equal ones. A NaN is larger than all, the
/// last of them the largest.
template <int W, class T>
void max_of_window(T* to, std::uint8_t* where, const T* from, std::int64_t pixel, const PoolSpec& spec, const Window& h,
                   const Window& w) {
  using V = typename Lanes<W>::type;
  using Positions = Integers<W>;
  const auto position = [&](std::int64_t r, std::int64_t c) {
    return std::int32_t((r - h.unclipped) * spec.window_w + c - w.unclipped);
  };
  V best = V{} - std::numeric_limits<float>::infinity();
  Positions at = Positions{} + position(h.begin, w.begin);
  for (std::int64_t r = h.begin; r < h.end; ++r)
    for (std::int64_t c = w.begin; c < w.end; ++c) {
      const V v = load<W>(from + (r * spec.x.w + c) * pixel);
      const auto better = (v > best) | (v != v);
      best = better ? v : best;
      at = better ? Positions{} + position(r, c) : at;
    }
  store_exact<W>(to, best);
  store_bytes(where, at);
}

}  // namespace

void CpuBackend::max_pool(const PoolSpec& spec, View y, View index, ConstView x) {
  const Strides sx = strides_of(x), sy = strides_of(y), si = strides_of(index);
  for_each_group(x, y, [&]<class T>(std::int64_t n, std::int64_t channel, std::int64_t count) {
    for (std::int64_t i = 0; i < y.shape.h; ++i)
      for (std::int64_t j = 0; j < y.shape.w; ++j) {
        const Window h(i, spec.stride_h, spec.pad_h, spec.window_h, spec.x.h),
            w(j, spec.stride_w, spec.pad_w, spec.window_w, spec.x.w);
        const T* from = x.as<T>() + sx(n, channel, 0);
        T* to = y.as<T>() + sy(n, channel, i * y.shape.w + j);
        std::uint8_t* where = index.as<std::uint8_t>() + si(n, channel, i * y.shape.w + j);
        std::int64_t l = 0;
        for (; l + 8 <= count; l += 8) max_of_window<8>(to + l, where + l, from + l, sx.pixel, spec, h, w);
        for (; l < count; ++l) max_of_window<1>(to + l, where + l, from + l, sx.pixel, spec, h, w);
      }
  });
}

void CpuBackend::max_pool_grad(const PoolSpec& spec, View dx, Write write, ConstView dy, ConstView index) {
  const Strides sy = strides_of(dy), si = strides_of(index);
  std::vector<std::int64_t> offsets;  // of a window's positions from its first, in pixels
  for (std::int64_t i = 0; i < spec.window_h * spec.window_w; ++i)
    offsets.push_back(i / spec.window_w * spec.x.w + i % spec.window_w);
  const PlaneMemory memory(*this, dx);
  for_each_group(dx, dy, [&]<class T>(std::int64_t n, std::int64_t channel, std::int64_t count) {
    PlaneSums<T> sums(memory, dx, write, n, channel, count);
    for (std::int64_t i = 0; i < dy.shape.h; ++i)
      for (std::int64_t j = 0; j < dy.shape.w; ++j) {
        const T* g = dy.as<T>() + sy(n, channel, i * dy.shape.w + j);
        const std::uint8_t* where = index.as<std::uint8_t>() + si(n, channel, i * dy.shape.w + j);
        const std::int64_t first = (i * spec.stride_h - spec.pad_h) * spec.x.w + j * spec.stride_w - spec.pad_w;
        for (std::int64_t l = 0; l < count; ++l) sums.at(first + offsets[where[l]])[l] += float(g[l]);
      }
    sums.finish();
  });
}

void CpuBackend::avg_pool(const PoolSpec& spec, View y, ConstView x) {
  const Strides sx = strides_of(x), sy = strides_of(y);
  for_each_group(x, y, [&]<class T>(std::int64_t n, std::int64_t channel, std::int64_t count) {
    for (std::int64_t i = 0; i < y.shape.h; ++i)
      for (std::int64_t j = 0; j < y.shape.w; ++j) {
        const Window h(i, spec.stride_h, spec.pad_h, spec.window_h, spec.x.h),
            w(j, spec.stride_w, spec.pad_w, spec.window_w, spec.x.w);
        float sum[kLanes<T>] = {};
        for (std::int64_t r = h.begin; r < h.end; ++r)
          for (std::int64_t c = w.begin; c < w.end; ++c) {
            const T* from = x.as<T>() + sx(n, channel, r * spec.x.w + c);
            for (std::int64_t l = 0; l < count; ++l) sum[l] += float(from[l]);
          }
        const float scale = 1.0f / average_divisor(spec, h, w);
        T* to = y.as<T>() + sy(n, channel, i * y.shape.w + j);
        for (std::int64_t l = 0; l < count; ++l) to[l] = T(sum[l] * scale);
      }
  });
}

void CpuBackend::avg_pool_grad(const PoolSpec& spec, View dx, Write write, ConstView dy) {
  const Strides sy = strides_of(dy);
  const PlaneMemory memory(*this, dx);
  for_each_group(dx, dy, [&]<class T>(std::int64_t n, std::int64_t channel, std::int64_t count) {
    PlaneSums<T> sums(memory, dx, write, n, channel, count);
    for (std::int64_t i = 0; i < dy.shape.h; ++i)
      for (std::int64_t j = 0; j < dy.shape.w; ++j) {
        const Window h(i, spec.stride_h, spec.pad_h, spec.window_h, spec.x.h),
            w(j, spec.stride_w, spec.pad_w, spec.window_w, spec.x.w);
        const T* g = dy.as<T>() + sy(n, channel, i * dy.shape.w + j);
        const float scale = 1.0f / average_divisor(spec, h, w);
        for (std::int64_t r = h.begin; r < h.end; ++r)
          for (std::int64_t c = w.begin; c < w.end; ++c) {
            float* to = sums.at(r * spec.x.w + c);
            for (std::int64_t l = 0; l < count; ++l) to[l] += float(g[l]) * scale;
          }
      }
    sums.finish();
  });
}

void CpuBackend::adaptive_avg_pool(View y, ConstView x) {
  const Strides sx = strides_of(x), sy = strides_of(y);
  for_each_group(x, y, [&]<class T>(std::int64_t n, std::int64_t channel, std::int64_t count) {
    for (std::int64_t i = 0; i < y.shape.h; ++i)
      for (std::int64_t j = 0; j < y.shape.w; ++j) {
        const std::int64_t r0 = adaptive_begin(i, x.shape.h, y.shape.h), r1 = adaptive_end(i, x.shape.h, y.shape.h);
        const std::int64_t c0 = adaptive_begin(j, x.shape.w, y.shape.w), c1 = adaptive_end(j, x.shape.w, y.shape.w);
        float sum[kLanes<T>] = {};
        for (std::int64_t r = r0; r < r1; ++r)
          for (std::int64_t c = c0; c < c1; ++c) {
            const T* from = x.as<T>() + sx(n, channel, r * x.shape.w + c);
            for (std::int64_t l = 0; l < count; ++l) sum[l] += float(from[l]);
          }
        T* to = y.as<T>() + sy(n, channel, i * y.shape.w + j);
        for (std::int64_t l = 0; l < count; ++l) to[l] = T(sum[l] / float((r1 - r0) * (c1 - c0)));
      }
  });
}

void CpuBackend::adaptive_avg_pool_grad(View dx, Write write, ConstView dy) {
  const Strides sy = strides_of(dy);
  const PlaneMemory memory(*this, dx);
  for_each_group(dx, dy, [&]<class T>(std::int64_t n, std::int64_t channel, std::int64_t count) {
    PlaneSums<T> sums(memory, dx, write, n, channel, count);
    for (std::int64_t i = 0; i < dy.shape.h; ++i)
      for (std::int64_t j = 0; j < dy.shape.w; ++j) {
        const std::int64_t r0 = adaptive_begin(i, dx.shape.h, dy.shape.h), r1 = adaptive_end(i, dx.shape.h, dy.shape.h);
        const std::int64_t c0 = adaptive_begin(j, dx.shape.w, dy.shape.w), c1 = adaptive_end(j, dx.shape.w, dy.shape.w);
        const T* g = dy.as<T>() + sy(n, channel, i * dy.shape.w + j);
        const float scale = 1.0f / float((r1 - r0) * (c1 - c0));
        for (std::int64_t r = r0; r < r1; ++r)
          for (std::int64_t c = c0; c < c1; ++c) {
            float* to = sums.at(r * dx.shape.w + c);
            for (std::int64_t l = 0; l < count; ++l) to[l] += float(g[l]) * scale;
          }
      }
    sums.finish();
  });
}

}  // namespace graft
