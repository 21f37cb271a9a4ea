// Convolutions by their definition. Weights are K R S C, so the innermost loop runs over input channels, which are
// neighbours in memory on both sides; `block` of them at a time when x is blocked.
#include "kernels/reference/reference.h"

namespace graft {
namespace {

double dot(const double* a, const double* b, std::int64_t count) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
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
    for (std::int64_t k = 0; k < spec.k; ++k)
      for (std::int64_t p = 0; p < y.shape.h; ++p)
        for (std::int64_t q = 0; q < y.shape.w; ++q) {
          double sum = bias ? bias[k] : 0;
          for (std::int64_t r = 0; r < spec.r; ++r)
            for (std::int64_t s = 0; s < spec.s; ++s) {
              const std::int64_t h = source_row(spec, p, r), w = source_column(spec, q, s);
              if (h < 0 || w < 0) continue;
              const double* a = x.as<double>() + n * sx.image + (h * spec.x.w + w) * sx.pixel;
              const double* b = weight.value.as<double>() + k * row_size + (r * spec.s + s) * spec.x.c;
              for (std::int64_t c = 0; c < spec.x.c; c += sx.block, a += sx.group)
                sum += dot(a, b + c, std::min(sx.block, spec.x.c - c));
            }
          const std::int64_t at = sy(n, k, p * y.shape.w + q);
          if (residual) sum += residual[at];
          y.as<double>()[at] = epilogue.relu && sum < 0 ? 0 : sum;
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
      for (std::int64_t k = 0; k < spec.k; ++k)
        for (std::int64_t p = 0; p < dy.shape.h; ++p)
          for (std::int64_t q = 0; q < dy.shape.w; ++q) {
            const double g = dy.as<double>()[sy(n, k, p * dy.shape.w + q)];
            for (std::int64_t r = 0; r < spec.r; ++r)
              for (std::int64_t s = 0; s < spec.s; ++s) {
                const std::int64_t h = source_row(spec, p, r), w = source_column(spec, q, s);
                if (h < 0 || w < 0) continue;
                const double* b = weight.value.as<double>() + k * row_size + (r * spec.s + s) * spec.x.c + c;
                add_scaled(image + (h * spec.x.w + w) * sx.pixel, g, b, count);
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
          for (std::int64_t r = 0; r < spec.r; ++r)
            for (std::int64_t s = 0; s < spec.s; ++s) {
              const std::int64_t h = source_row(spec, p, r), w = source_column(spec, q, s);
              if (h < 0 || w < 0) continue;
              const double* a = x.as<double>() + n * sx.image + (h * spec.x.w + w) * sx.pixel;
              double* b = row + (r * spec.s + s) * spec.x.c;
              for (std::int64_t c = 0; c < spec.x.c; c += sx.block, a += sx.group)
                add_scaled(b + c, g, a, std::min(sx.block, spec.x.c - c));
            }
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
