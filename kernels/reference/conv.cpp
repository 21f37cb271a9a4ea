// Convolutions by their definition. Weights are K R S C, so the innermost loop runs over input channels, which are
// neighbours in memory on both sides; `block` of them at a time when x is blocked. Four output channels are computed
// side by side: alone, a sum waits for its own last addition most of the time.
#include "kernels/reference/reference.h"

namespace graft {
namespace {

constexpr std::int64_t kSide = 4;
using Rows = const double* [kSide];  // of weights, one for each of the output channels

/// sums[i] += product of x and rows[i] from `begin` on
void add_products(double (&sums)[kSide], const double* x, const Rows& rows, std::int64_t begin, std::int64_t count) {
  const double *w0 = rows[0] + begin, *w1 = rows[1] + begin, *w2 = rows[2] + begin, *w3 = rows[3] + begin;
  double sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
#pragma omp simd reduction(+ : sum0, sum1, sum2, sum3)
  for (std::int64_t i = 0; i < count; ++i) {
    sum0 += x[i] * w0[i];
    sum1 += x[i] * w1[i];
    sum2 += x[i] * w2[i];
    sum3 += x[i] * w3[i];
  }
  sums[0] += sum0;
  sums[1] += sum1;
  sums[2] += sum2;
  sums[3] += sum3;
}

/// y += sum of factors[i] times rows[i] from `begin` on, in this order
void add_scaled(double* y, const double (&factors)[kSide], const Rows& rows, std::int64_t begin, std::int64_t count) {
  const double *w0 = rows[0] + begin, *w1 = rows[1] + begin, *w2 = rows[2] + begin, *w3 = rows[3] + begin;
  const double f0 = factors[0], f1 = factors[1], f2 = factors[2], f3 = factors[3];
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) y[i] = y[i] + f0 * w0[i] + f1 * w1[i] + f2 * w2[i] + f3 * w3[i];
}

void add_scaled(double* y, double factor, const double* x, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) y[i] += factor * x[i];
}

/// Input row (or column) that output row p meets through kernel row r; -1 in the padding.
std::int64_t source(std::int64_t p, std::int64_t r, std::int64_t stride, std::int64_t dilation, std::int64_t pad,
                    std::int64_t size) {
  const std::int64_t h = p * stride + r * dilation - pad;
  return h < size ? h : -1;
}
std::int64_t source_row(const ConvSpec& c, std::int64_t p, std::int64_t r) {
  return source(p, r, c.stride_h, c.dilation_h, c.pad_h, c.x.h);
}
std::int64_t source_column(const ConvSpec& c, std::int64_t q, std::int64_t s) {
  return source(q, s, c.stride_w, c.dilation_w, c.pad_w, c.x.w);
}

/// Calls f(place in a row of weights, place in x, count) for what output pixel p,q of image n sees of x, piece by
/// piece: a piece is neighbours in memory on both sides, a row of the kernel where x's pixels follow each other.
template <class F>
void for_each_piece(const ConvSpec& spec, const Strides& sx, std::int64_t n, std::int64_t p, std::int64_t q,
                    const F& f) {
  const std::int64_t channels = spec.x.c;
  const bool whole_rows = spec.dilation_w == 1 && sx.pixel == channels && sx.block >= channels;
  for (std::int64_t r = 0; r < spec.r; ++r) {
    const std::int64_t h = source_row(spec, p, r);
    if (h < 0) continue;
    std::int64_t pixels = 1;
    for (std::int64_t s = 0; s < spec.s; s += pixels) {
      const std::int64_t w = source_column(spec, q, s);
      pixels = whole_rows && w >= 0 ? std::min(spec.s - s, spec.x.w - w) : 1;
      if (w < 0) continue;
      const std::int64_t weight = (r * spec.s + s) * channels, at = sx(n, 0, h * spec.x.w + w);
      const std::int64_t step = whole_rows ? pixels * channels : sx.block;
      for (std::int64_t c = 0, group = 0; c < pixels * channels; c += step, group += sx.group)
        f(weight + c, at + group, std::min(step, pixels * channels - c));
    }
  }
}

void check(const char* call, const ConvSpec& spec, const ConstView& x, const ConstView& y, const ConstView& w) {
  const Shape weight{spec.k, spec.x.c, spec.r, spec.s};
  if (x.shape != spec.x || y.shape != spec.y() || w.shape != weight)
    throw Error(std::string(call) + ": expects x " + to_string(spec.x) + ", y " + to_string(spec.y()) + ", w " +
                to_string(weight) + "; got " + to_string(x.shape) + ", " + to_string(y.shape) + ", " +
                to_string(w.shape));
}

}  // namespace

/// y[n,k,p,q] = b[k] + residual[n,k,p,q] + sum over r,s,c of x[n,c,h,w] w[k,r,s,c]
void ReferenceBackend::conv(const ConvSpec& spec, View y, ConstView x, WeightView weight,
                            const ConvEpilogue& epilogue) {
  check("conv", spec, x, y, weight.value);
  const Strides sx = strides_of(x), sy = strides_of(y);
  const double *bias = epilogue.bias.as<double>(), *residual = epilogue.residual.as<double>();
  const std::int64_t row_size = spec.r * spec.s * spec.x.c;
#pragma omp parallel for collapse(2) num_threads(threads_)
  for (std::int64_t n = 0; n < spec.x.n; ++n)
    for (std::int64_t first = 0; first < spec.k; first += kSide) {
      const std::int64_t last = std::min(first + kSide, spec.k) - 1;
      Rows rows;  // the last one again where there are no more
      for (std::int64_t i = 0; i < kSide; ++i)
        rows[i] = weight.value.as<double>() + std::min(first + i, last) * row_size;
      for (std::int64_t p = 0; p < y.shape.h; ++p)
        for (std::int64_t q = 0; q < y.shape.w; ++q) {
          double sums[kSide] = {};
          for_each_piece(spec, sx, n, p, q, [&](std::int64_t begin, std::int64_t at, std::int64_t count) {
            add_products(sums, x.as<double>() + at, rows, begin, count);
          });
          for (std::int64_t k = first; k <= last; ++k) {
            const std::int64_t at = sy(n, k, p * y.shape.w + q);
            const double sum = sums[k - first] + (bias ? bias[k] : 0) + (residual ? residual[at] : 0);
            y.as<double>()[at] = epilogue.relu && sum < 0 ? 0 : sum;
          }
        }
    }
}

/// dx[n,c,h,w] = sum over the k,p,q,r,s that meet h,w of dy[n,k,p,q] w[k,r,s,c]
void ReferenceBackend::conv_data_grad(const ConvSpec& spec, View dx, Write write, ConstView dy, WeightView weight) {
  check("conv_data_grad", spec, dx, dy, weight.value);
  constexpr std::int64_t kChannels = 64;  // one thread's share of an image
  const Strides sx = strides_of(dx), sy = strides_of(dy);
  const std::int64_t lanes = std::min(sx.block, kChannels), row_size = spec.r * spec.s * spec.x.c;
#pragma omp parallel for collapse(2) num_threads(threads_)
  for (std::int64_t n = 0; n < spec.x.n; ++n)
    for (std::int64_t c = 0; c < spec.x.c; c += lanes) {
      const std::int64_t count = std::min(lanes, spec.x.c - c);
      double* image = dx.as<double>() + sx(n, c, 0);
      if (write == Write::overwrite)
        for (std::int64_t i = 0; i < spec.x.pixels(); ++i) std::fill_n(image + i * sx.pixel, count, 0.0);
      std::int64_t side = kSide;
      for (std::int64_t k = 0; k < spec.k; k += side) {
        if (spec.k - k < kSide) side = 1;
        Rows rows;
        for (std::int64_t i = 0; i < side; ++i) rows[i] = weight.value.as<double>() + (k + i) * row_size + c;
        for (std::int64_t p = 0; p < dy.shape.h; ++p)
          for (std::int64_t q = 0; q < dy.shape.w; ++q) {
            double g[kSide];
            for (std::int64_t i = 0; i < side; ++i) g[i] = dy.as<double>()[sy(n, k + i, p * dy.shape.w + q)];
            for (std::int64_t r = 0; r < spec.r; ++r)
              for (std::int64_t s = 0; s < spec.s; ++s) {
                const std::int64_t h = source_row(spec, p, r), w = source_column(spec, q, s);
                if (h < 0 || w < 0) continue;
                double* pixel = image + (h * spec.x.w + w) * sx.pixel;
                const std::int64_t begin = (r * spec.s + s) * spec.x.c;
                if (side == kSide)
                  add_scaled(pixel, g, rows, begin, count);
                else
                  add_scaled(pixel, g[0], rows[0] + begin, count);
              }
          }
      }
    }
}

/// dw[k,r,s,c] = sum over n,p,q of dy[n,k,p,q] x[n,c,h,w]
void ReferenceBackend::conv_weight_grad(const ConvSpec& spec, View dw, Write write, ConstView dy, ConstView x) {
  check("conv_weight_grad", spec, x, dy, dw);
  const Strides sx = strides_of(x), sy = strides_of(dy);
  const std::int64_t row_size = spec.r * spec.s * spec.x.c;
#pragma omp parallel for num_threads(threads_)
  for (std::int64_t k = 0; k < spec.k; ++k) {
    double* row = dw.as<double>() + k * row_size;
    if (write == Write::overwrite) std::fill_n(row, row_size, 0.0);
    for (std::int64_t n = 0; n < spec.x.n; ++n)
      for (std::int64_t p = 0; p < dy.shape.h; ++p)
        for (std::int64_t q = 0; q < dy.shape.w; ++q) {
          const double g = dy.as<double>()[sy(n, k, p * dy.shape.w + q)];
          for_each_piece(spec, sx, n, p, q, [&](std::int64_t begin, std::int64_t at, std::int64_t count) {
            add_scaled(row + begin, g, x.as<double>() + at, count);
          });
        }
  }
}

void ReferenceBackend::channel_sum(View db, Write write, ConstView dy) {
  const ChannelGroups groups{dy};
#pragma omp parallel for num_threads(threads_)
  for (std::int64_t i = 0; i < groups.size(); ++i) {
    const ChannelGroup g = groups[i];
    double* sum = db.as<double>() + g.first;
    if (write == Write::overwrite) std::fill_n(sum, g.count, 0.0);
    for (std::int64_t n = 0; n < dy.shape.n; ++n)
      for (std::int64_t p = 0; p < dy.shape.pixels(); ++p) {
        const double* d = at(dy, n, g, p);
        for (std::int64_t l = 0; l < g.count; ++l) sum[l] += d[l];
      }
  }
}

}  // namespace graft
