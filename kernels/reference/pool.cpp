// Pooling by its definition, for a group of neighbouring channels at a time.
#include <limits>

#include "kernels/reference/reference.h"

namespace graft {
namespace {

/// The input rows (or columns) that one output row covers: begin .. end, inside the input.
struct Span {
  std::int64_t begin, end;
  std::int64_t origin;  // where the window would begin without the input's edge
  std::int64_t padded;  // its length inside the padded input
};

Span window(std::int64_t i, std::int64_t length, std::int64_t stride, std::int64_t pad, std::int64_t size) {
  const std::int64_t origin = i * stride - pad;
  return {std::max<std::int64_t>(0, origin), std::min(size, origin + length), origin,
          std::min(origin + length, size + pad) - origin};
}
Span window_rows(const PoolSpec& p, std::int64_t i) { return window(i, p.window_h, p.stride_h, p.pad_h, p.x.h); }
Span window_columns(const PoolSpec& p, std::int64_t j) { return window(j, p.window_w, p.stride_w, p.pad_w, p.x.w); }

/// floor(i*size/out) .. ceil((i+1)*size/out), as PyTorch's AdaptiveAvgPool2d.
Span adaptive(std::int64_t i, std::int64_t size, std::int64_t out) {
  const std::int64_t begin = i * size / out, end = ((i + 1) * size + out - 1) / out;
  return {begin, end, begin, end - begin};
}

double divisor(const Span& h, const Span& w, bool count_padding) {
  return count_padding ? double(h.padded * w.padded) : double((h.end - h.begin) * (w.end - w.begin));
}

/// Mean of x over the window rows(i) x columns(j) for every output pixel; `count_padding` as in PoolSpec.
template <class Rows, class Columns>
void average(const View& y, const ConstView& x, bool count_padding, int threads, Rows rows, Columns columns) {
  const ChannelGroups groups{y, x};
#pragma omp parallel for collapse(2) num_threads(threads)
  for (std::int64_t n = 0; n < y.shape.n; ++n)
    for (std::int64_t gi = 0; gi < groups.size(); ++gi)
      for (std::int64_t i = 0; i < y.shape.h; ++i)
        for (std::int64_t j = 0; j < y.shape.w; ++j) {
          const ChannelGroup g = groups[gi];
          const Span h = rows(i), w = columns(j);
          double* to = at(y, n, g, i * y.shape.w + j);
          std::fill_n(to, g.count, 0.0);
          for (std::int64_t r = h.begin; r < h.end; ++r)
            for (std::int64_t c = w.begin; c < w.end; ++c) {
              const double* in = at(x, n, g, r * x.shape.w + c);
              for (std::int64_t l = 0; l < g.count; ++l) to[l] += in[l];
            }
          for (std::int64_t l = 0; l < g.count; ++l) to[l] /= divisor(h, w, count_padding);
        }
}

template <class Rows, class Columns>
void average_grad(const View& dx, Write write, const ConstView& dy, bool count_padding, int threads, Rows rows,
                  Columns columns) {
  const ChannelGroups groups{dx, dy};
#pragma omp parallel for collapse(2) num_threads(threads)
  for (std::int64_t n = 0; n < dy.shape.n; ++n)
    for (std::int64_t gi = 0; gi < groups.size(); ++gi) {
      const ChannelGroup g = groups[gi];
      if (write == Write::overwrite)
        for (std::int64_t p = 0; p < dx.shape.pixels(); ++p) std::fill_n(at(dx, n, g, p), g.count, 0.0);
      for (std::int64_t i = 0; i < dy.shape.h; ++i)
        for (std::int64_t j = 0; j < dy.shape.w; ++j) {
          const Span h = rows(i), w = columns(j);
          const double* d = at(dy, n, g, i * dy.shape.w + j);
          for (std::int64_t r = h.begin; r < h.end; ++r)
            for (std::int64_t c = w.begin; c < w.end; ++c) {
              double* to = at(dx, n, g, r * dx.shape.w + c);
              for (std::int64_t l = 0; l < g.count; ++l) to[l] += d[l] / divisor(h, w, count_padding);
            }
        }
    }
}

void check(const char* call, const PoolSpec& spec, const ConstView& x, const ConstView& y) {
  if (x.shape != spec.x || y.shape != spec.y())
    throw Error(std::string(call) + ": expects x " + to_string(spec.x) + " and y " + to_string(spec.y()) + "; got " +
                to_string(x.shape) + " and " + to_string(y.shape));
}

}  // namespace

void ReferenceBackend::max_pool(const PoolSpec& spec, View y, View index, ConstView x) {
  check("max_pool", spec, x, y);
  const ChannelGroups groups{y, index, x};
#pragma omp parallel for collapse(2) num_threads(threads_)
  for (std::int64_t n = 0; n < y.shape.n; ++n)
    for (std::int64_t gi = 0; gi < groups.size(); ++gi)
      for (std::int64_t i = 0; i < y.shape.h; ++i)
        for (std::int64_t j = 0; j < y.shape.w; ++j) {
          const ChannelGroup g = groups[gi];
          const Span h = window_rows(spec, i), w = window_columns(spec, j);
          for (std::int64_t l = 0; l < g.count; ++l) {
            double best = -std::numeric_limits<double>::infinity();
            std::int64_t row = h.begin, column = w.begin;
            for (std::int64_t r = h.begin; r < h.end; ++r)
              for (std::int64_t c = w.begin; c < w.end; ++c) {
                const double v = at(x, n, g, r * spec.x.w + c)[l];
                if (v > best || v != v) best = v, row = r, column = c;  // a NaN wins and stays
              }
            at(y, n, g, i * y.shape.w + j)[l] = best;
            at<std::uint8_t>(index, n, g, i * y.shape.w + j)[l] =
                std::uint8_t((row - h.origin) * spec.window_w + column - w.origin);
          }
        }
}

void ReferenceBackend::max_pool_grad(const PoolSpec& spec, View dx, Write write, ConstView dy, ConstView index) {
  check("max_pool_grad", spec, dx, dy);
  const ChannelGroups groups{dx, dy, index};
#pragma omp parallel for collapse(2) num_threads(threads_)
  for (std::int64_t n = 0; n < dy.shape.n; ++n)
    for (std::int64_t gi = 0; gi < groups.size(); ++gi) {
      const ChannelGroup g = groups[gi];
      if (write == Write::overwrite)
        for (std::int64_t p = 0; p < dx.shape.pixels(); ++p) std::fill_n(at(dx, n, g, p), g.count, 0.0);
      for (std::int64_t i = 0; i < dy.shape.h; ++i)
        for (std::int64_t j = 0; j < dy.shape.w; ++j) {
          const double* d = at(dy, n, g, i * dy.shape.w + j);
          const std::uint8_t* where = at<std::uint8_t>(index, n, g, i * dy.shape.w + j);
          for (std::int64_t l = 0; l < g.count; ++l) {
            const std::int64_t r = window_rows(spec, i).origin + where[l] / spec.window_w;
            const std::int64_t c = window_columns(spec, j).origin + where[l] % spec.window_w;
            at(dx, n, g, r * spec.x.w + c)[l] += d[l];
          }
        }
    }
}

void ReferenceBackend::avg_pool(const PoolSpec& spec, View y, ConstView x) {
  check("avg_pool", spec, x, y);
  average(
      y, x, spec.count_padding, threads_, [&](std::int64_t i) { return window_rows(spec, i); },
      [&](std::int64_t j) { return window_columns(spec, j); });
}

void ReferenceBackend::avg_pool_grad(const PoolSpec& spec, View dx, Write write, ConstView dy) {
  check("avg_pool_grad", spec, dx, dy);
  average_grad(
      dx, write, dy, spec.count_padding, threads_, [&](std::int64_t i) { return window_rows(spec, i); },
      [&](std::int64_t j) { return window_columns(spec, j); });
}

void ReferenceBackend::adaptive_avg_pool(View y, ConstView x) {
  average(
      y, x, false, threads_, [&](std::int64_t i) { return adaptive(i, x.shape.h, y.shape.h); },
      [&](std::int64_t j) { return adaptive(j, x.shape.w, y.shape.w); });
}

void ReferenceBackend::adaptive_avg_pool_grad(View dx, Write write, ConstView dy) {
  average_grad(
      dx, write, dy, false, threads_, [&](std::int64_t i) { return adaptive(i, dx.shape.h, dy.shape.h); },
      [&](std::int64_t j) { return adaptive(j, dx.shape.w, dy.shape.w); });
}

}  // namespace graft
