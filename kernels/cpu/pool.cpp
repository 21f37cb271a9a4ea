// Pooling on the CPU: for each image and group of neighbouring channels, windows over pixels; the inner loop runs over
// channels.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/cpu_device.h"

namespace graft {
namespace {

constexpr std::int64_t kLanes = 64;  // channels handled together in NHWC

/// Calls body(n, first channel, channels) in parallel for groups of channels that are neighbours in memory in all
/// views.
template <class Body>
void for_each_group(const ConstView& a, const ConstView& b, const Body& body) {
  const std::int64_t lanes = std::min({strides_of(a).block, strides_of(b).block, kLanes});
  const std::int64_t groups = (a.shape.c + lanes - 1) / lanes;
#pragma omp parallel for collapse(2) schedule(static)
  for (std::int64_t n = 0; n < a.shape.n; ++n)
    for (std::int64_t g = 0; g < groups; ++g) body(n, g * lanes, std::min(lanes, a.shape.c - g * lanes));
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

void clear(const View& dx, std::int64_t n, std::int64_t channel, std::int64_t count) {
  const Strides s = strides_of(dx);
  for (std::int64_t p = 0; p < dx.shape.pixels(); ++p) std::fill_n(dx.as<float>() + s(n, channel, p), count, 0.0f);
}

// PyTorch divides by the window clipped to the padded input, or to the input alone.
float average_divisor(const PoolSpec& spec, const Window& h, const Window& w) {
  if (!spec.count_padding) return float((h.end - h.begin) * (w.end - w.begin));
  const std::int64_t rows = std::min(h.unclipped + spec.window_h, spec.x.h + spec.pad_h) - h.unclipped;
  const std::int64_t columns = std::min(w.unclipped + spec.window_w, spec.x.w + spec.pad_w) - w.unclipped;
  return float(rows * columns);
}

}  // namespace

void CpuBackend::max_pool(const PoolSpec& spec, View y, View index, ConstView x) {
  const Strides sx = strides_of(x), sy = strides_of(y), si = strides_of(index);
  for_each_group(x, y, [&](std::int64_t n, std::int64_t channel, std::int64_t count) {
    for (std::int64_t i = 0; i < y.shape.h; ++i)
      for (std::int64_t j = 0; j < y.shape.w; ++j) {
        const Window h(i, spec.stride_h, spec.pad_h, spec.window_h, spec.x.h),
            w(j, spec.stride_w, spec.pad_w, spec.window_w, spec.x.w);
        float best[kLanes];
        std::uint8_t where[kLanes];
        std::fill_n(best, count, -std::numeric_limits<float>::infinity());
        std::fill_n(where, count, std::uint8_t((h.begin - h.unclipped) * spec.window_w + w.begin - w.unclipped));
        for (std::int64_t r = h.begin; r < h.end; ++r)
          for (std::int64_t c = w.begin; c < w.end; ++c) {
            const float* from = x.as<float>() + sx(n, channel, r * spec.x.w + c);
            const auto position = std::uint8_t((r - h.unclipped) * spec.window_w + c - w.unclipped);
            for (std::int64_t l = 0; l < count; ++l) {
              const bool better = from[l] > best[l] || from[l] != from[l];  // a NaN wins and stays
              best[l] = better ? from[l] : best[l];
              where[l] = better ? position : where[l];
            }
          }
        std::copy_n(best, count, y.as<float>() + sy(n, channel, i * y.shape.w + j));
        std::copy_n(where, count, index.as<std::uint8_t>() + si(n, channel, i * y.shape.w + j));
      }
  });
}

void CpuBackend::max_pool_grad(const PoolSpec& spec, View dx, Write write, ConstView dy, ConstView index) {
  const Strides sx = strides_of(dx), sy = strides_of(dy), si = strides_of(index);
  for_each_group(dx, dy, [&](std::int64_t n, std::int64_t channel, std::int64_t count) {
    if (write == Write::overwrite) clear(dx, n, channel, count);
    for (std::int64_t i = 0; i < dy.shape.h; ++i)
      for (std::int64_t j = 0; j < dy.shape.w; ++j) {
        const float* g = dy.as<float>() + sy(n, channel, i * dy.shape.w + j);
        const std::uint8_t* where = index.as<std::uint8_t>() + si(n, channel, i * dy.shape.w + j);
        const std::int64_t top = i * spec.stride_h - spec.pad_h, left = j * spec.stride_w - spec.pad_w;
        for (std::int64_t l = 0; l < count; ++l) {
          const std::int64_t r = top + where[l] / spec.window_w, c = left + where[l] % spec.window_w;
          dx.as<float>()[sx(n, channel, r * spec.x.w + c) + l] += g[l];
        }
      }
  });
}

void CpuBackend::avg_pool(const PoolSpec& spec, View y, ConstView x) {
  const Strides sx = strides_of(x), sy = strides_of(y);
  for_each_group(x, y, [&](std::int64_t n, std::int64_t channel, std::int64_t count) {
    for (std::int64_t i = 0; i < y.shape.h; ++i)
      for (std::int64_t j = 0; j < y.shape.w; ++j) {
        const Window h(i, spec.stride_h, spec.pad_h, spec.window_h, spec.x.h),
            w(j, spec.stride_w, spec.pad_w, spec.window_w, spec.x.w);
        float sum[kLanes] = {};
        for (std::int64_t r = h.begin; r < h.end; ++r)
          for (std::int64_t c = w.begin; c < w.end; ++c) {
            const float* from = x.as<float>() + sx(n, channel, r * spec.x.w + c);
            for (std::int64_t l = 0; l < count; ++l) sum[l] += from[l];
          }
        const float scale = 1.0f / average_divisor(spec, h, w);
        float* to = y.as<float>() + sy(n, channel, i * y.shape.w + j);
        for (std::int64_t l = 0; l < count; ++l) to[l] = sum[l] * scale;
      }
  });
}

void CpuBackend::avg_pool_grad(const PoolSpec& spec, View dx, Write write, ConstView dy) {
  const Strides sx = strides_of(dx), sy = strides_of(dy);
  for_each_group(dx, dy, [&](std::int64_t n, std::int64_t channel, std::int64_t count) {
    if (write == Write::overwrite) clear(dx, n, channel, count);
    for (std::int64_t i = 0; i < dy.shape.h; ++i)
      for (std::int64_t j = 0; j < dy.shape.w; ++j) {
        const Window h(i, spec.stride_h, spec.pad_h, spec.window_h, spec.x.h),
            w(j, spec.stride_w, spec.pad_w, spec.window_w, spec.x.w);
        const float* g = dy.as<float>() + sy(n, channel, i * dy.shape.w + j);
        const float scale = 1.0f / average_divisor(spec, h, w);
        for (std::int64_t r = h.begin; r < h.end; ++r)
          for (std::int64_t c = w.begin; c < w.end; ++c) {
            float* to = dx.as<float>() + sx(n, channel, r * spec.x.w + c);
            for (std::int64_t l = 0; l < count; ++l) to[l] += g[l] * scale;
          }
      }
  });
}

void CpuBackend::adaptive_avg_pool(View y, ConstView x) {
  const Strides sx = strides_of(x), sy = strides_of(y);
  for_each_group(x, y, [&](std::int64_t n, std::int64_t channel, std::int64_t count) {
    for (std::int64_t i = 0; i < y.shape.h; ++i)
      for (std::int64_t j = 0; j < y.shape.w; ++j) {
        const std::int64_t r0 = adaptive_begin(i, x.shape.h, y.shape.h), r1 = adaptive_end(i, x.shape.h, y.shape.h);
        const std::int64_t c0 = adaptive_begin(j, x.shape.w, y.shape.w), c1 = adaptive_end(j, x.shape.w, y.shape.w);
        float sum[kLanes] = {};
        for (std::int64_t r = r0; r < r1; ++r)
          for (std::int64_t c = c0; c < c1; ++c) {
            const float* from = x.as<float>() + sx(n, channel, r * x.shape.w + c);
            for (std::int64_t l = 0; l < count; ++l) sum[l] += from[l];
          }
        float* to = y.as<float>() + sy(n, channel, i * y.shape.w + j);
        for (std::int64_t l = 0; l < count; ++l) to[l] = sum[l] / float((r1 - r0) * (c1 - c0));
      }
  });
}

void CpuBackend::adaptive_avg_pool_grad(View dx, Write write, ConstView dy) {
  const Strides sx = strides_of(dx), sy = strides_of(dy);
  for_each_group(dx, dy, [&](std::int64_t n, std::int64_t channel, std::int64_t count) {
    if (write == Write::overwrite) clear(dx, n, channel, count);
    for (std::int64_t i = 0; i < dy.shape.h; ++i)
      for (std::int64_t j = 0; j < dy.shape.w; ++j) {
        const std::int64_t r0 = adaptive_begin(i, dx.shape.h, dy.shape.h), r1 = adaptive_end(i, dx.shape.h, dy.shape.h);
        const std::int64_t c0 = adaptive_begin(j, dx.shape.w, dy.shape.w), c1 = adaptive_end(j, dx.shape.w, dy.shape.w);
        const float* g = dy.as<float>() + sy(n, channel, i * dy.shape.w + j);
        const float scale = 1.0f / float((r1 - r0) * (c1 - c0));
        for (std::int64_t r = r0; r < r1; ++r)
          for (std::int64_t c = c0; c < c1; ++c) {
            float* to = dx.as<float>() + sx(n, channel, r * dx.shape.w + c);
            for (std::int64_t l = 0; l < count; ++l) to[l] += g[l] * scale;
          }
      }
  });
}

}  // namespace graft
