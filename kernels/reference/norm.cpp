// Batch norm by its formulas, for a group of neighbouring channels at a time.
#include <cmath>

#include "kernels/reference/reference.h"

namespace graft {
namespace {

/// Per-channel numbers [rows,C]: row `row`, from channel `channel` on.
const double* row_of(const ConstView& v, std::int64_t row, std::int64_t channel) {
  return v.as<double>() + row * v.pitch + channel;
}
double* row_of(const View& v, std::int64_t row, std::int64_t channel) {
  return v.as<double>() + row * v.pitch + channel;
}

double inverse_deviation(double variance, double epsilon) { return 1 / std::sqrt(variance + epsilon); }

/// The byte that holds channel c's bit of a ReLU mask.
std::uint8_t* mask_byte(const View& mask, std::int64_t n, std::int64_t c, std::int64_t pixel) {
  return mask.as<std::uint8_t>() + strides_of(mask)(n, c / 8, pixel);
}

void write_mask(const View& mask, const ConstView& y, int threads) {
  const Strides s = strides_of(y);
#pragma omp parallel for collapse(2) num_threads(threads)
  for (std::int64_t n = 0; n < y.shape.n; ++n)
    for (std::int64_t p = 0; p < y.shape.pixels(); ++p) {
      for (std::int64_t c = 0; c < y.shape.c; c += 8) *mask_byte(mask, n, c, p) = 0;
      for (std::int64_t c = 0; c < y.shape.c; ++c)
        if (y.as<double>()[s(n, c, p)] > 0) *mask_byte(mask, n, c, p) |= std::uint8_t(1 << c % 8);
    }
}

/// Whether the ReLU behind the normalisation let a value through.
bool lets_through(const NormalizeArgs& a, const ConstView& y, std::int64_t n, std::int64_t c, std::int64_t pixel) {
  if (!a.relu) return true;
  if (a.relu_mask.data) return (*mask_byte(a.relu_mask, n, c, pixel) >> c % 8 & 1) != 0;
  return y.as<double>()[strides_of(y)(n, c, pixel)] > 0;
}

}  // namespace

void ReferenceBackend::batch_statistics(View stats, ConstView x) {
  const ChannelGroups groups{x};
  const double elements = double(x.shape.n * x.shape.pixels());
#pragma omp parallel for num_threads(threads_)
  for (std::int64_t i = 0; i < groups.size(); ++i) {
    const ChannelGroup g = groups[i];
    double *mean = row_of(stats, 0, g.first), *variance = row_of(stats, 1, g.first);
    std::fill_n(mean, g.count, 0.0), std::fill_n(variance, g.count, 0.0);
    for (std::int64_t n = 0; n < x.shape.n; ++n)
      for (std::int64_t p = 0; p < x.shape.pixels(); ++p) {
        const double* in = at(x, n, g, p);
        for (std::int64_t l = 0; l < g.count; ++l) mean[l] += in[l];
      }
    for (std::int64_t l = 0; l < g.count; ++l) mean[l] /= elements;
    for (std::int64_t n = 0; n < x.shape.n; ++n)
      for (std::int64_t p = 0; p < x.shape.pixels(); ++p) {
        const double* in = at(x, n, g, p);
        for (std::int64_t l = 0; l < g.count; ++l) variance[l] += (in[l] - mean[l]) * (in[l] - mean[l]);
      }
    for (std::int64_t l = 0; l < g.count; ++l) variance[l] /= elements;
  }
}

void ReferenceBackend::normalize(View y, ConstView x, const NormalizeArgs& a, ConstView residual) {
  const ChannelGroups groups{y, x, residual};
#pragma omp parallel for collapse(2) num_threads(threads_)
  for (std::int64_t n = 0; n < x.shape.n; ++n)
    for (std::int64_t i = 0; i < groups.size(); ++i) {
      const ChannelGroup g = groups[i];
      const double *mean = row_of(a.stats, 0, g.first), *variance = row_of(a.stats, 1, g.first);
      const double *gamma = row_of(a.gamma, 0, g.first), *beta = row_of(a.beta, 0, g.first);
      for (std::int64_t p = 0; p < x.shape.pixels(); ++p) {
        const double *in = at(x, n, g, p), *extra = residual.data ? at(residual, n, g, p) : nullptr;
        double* out = at(y, n, g, p);
        for (std::int64_t l = 0; l < g.count; ++l) {
          double v = (in[l] - mean[l]) * inverse_deviation(variance[l], a.epsilon) * gamma[l] + beta[l];
          if (extra) v += extra[l];
          out[l] = a.relu && v < 0 ? 0 : v;
        }
      }
    }
  if (a.relu_mask.data) write_mask(a.relu_mask, y, threads_);
}

void ReferenceBackend::fold_normalize(View folded, View shift, ConstView w, ConstView bias, const NormalizeArgs& a) {
  const std::int64_t rows = w.shape.n, row_size = w.shape.size() / rows;
  for (std::int64_t k = 0; k < rows; ++k) {
    const double scale = *row_of(a.gamma, 0, k) * inverse_deviation(*row_of(a.stats, 1, k), a.epsilon);
    for (std::int64_t i = k * row_size; i < (k + 1) * row_size; ++i) folded.as<double>()[i] = w.as<double>()[i] * scale;
    const double offset = bias.data ? *row_of(bias, 0, k) : 0;
    *row_of(shift, 0, k) = (offset - *row_of(a.stats, 0, k)) * scale + *row_of(a.beta, 0, k);
  }
}

void ReferenceBackend::normalize_grad_sums(View sums, ConstView dy, ConstView y, ConstView x, const NormalizeArgs& a) {
  const ChannelGroups groups{x, dy, y};
#pragma omp parallel for num_threads(threads_)
  for (std::int64_t i = 0; i < groups.size(); ++i) {
    const ChannelGroup g = groups[i];
    const double *mean = row_of(a.stats, 0, g.first), *variance = row_of(a.stats, 1, g.first);
    double *sum = row_of(sums, 0, g.first), *sum_xhat = row_of(sums, 1, g.first);
    std::fill_n(sum, g.count, 0.0), std::fill_n(sum_xhat, g.count, 0.0);
    for (std::int64_t n = 0; n < x.shape.n; ++n)
      for (std::int64_t p = 0; p < x.shape.pixels(); ++p) {
        const double *in = at(x, n, g, p), *d = at(dy, n, g, p);
        for (std::int64_t l = 0; l < g.count; ++l) {
          const double v = lets_through(a, y, n, g.first + l, p) ? d[l] : 0;
          sum[l] += v;
          sum_xhat[l] += v * (in[l] - mean[l]) * inverse_deviation(variance[l], a.epsilon);
        }
      }
  }
}

void ReferenceBackend::normalize_grad(View dx, Write write, View dresidual, Write residual_write, ConstView dy,
                                      ConstView y, ConstView x, const NormalizeArgs& a, ConstView sums) {
  const ChannelGroups groups{x, dx, dresidual, dy, y};
  const double elements = double(x.shape.n * x.shape.pixels());
#pragma omp parallel for collapse(2) num_threads(threads_)
  for (std::int64_t n = 0; n < x.shape.n; ++n)
    for (std::int64_t i = 0; i < groups.size(); ++i) {
      const ChannelGroup g = groups[i];
      const double *mean = row_of(a.stats, 0, g.first), *variance = row_of(a.stats, 1, g.first);
      const double* gamma = row_of(a.gamma, 0, g.first);
      for (std::int64_t p = 0; p < x.shape.pixels(); ++p) {
        const double *in = at(x, n, g, p), *d = at(dy, n, g, p);
        double* to = dx.data ? at(dx, n, g, p) : nullptr;
        double* to_residual = dresidual.data ? at(dresidual, n, g, p) : nullptr;
        for (std::int64_t l = 0; l < g.count; ++l) {
          const double passes = lets_through(a, y, n, g.first + l, p) ? d[l] : 0,
                       inverse = inverse_deviation(variance[l], a.epsilon);
          if (to_residual) to_residual[l] = residual_write == Write::add ? to_residual[l] + passes : passes;
          if (!to) continue;
          double v = passes;
          if (sums.data) {
            const double xhat = (in[l] - mean[l]) * inverse;
            v -= (row_of(sums, 0, g.first)[l] + xhat * row_of(sums, 1, g.first)[l]) / elements;
          }
          v *= gamma[l] * inverse;
          to[l] = write == Write::add ? to[l] + v : v;
        }
      }
    }
}

void ReferenceBackend::normalize_grad_correction(View dx, ConstView x, ConstView stats, double epsilon,
                                                 ConstView weighted) {
  const ChannelGroups groups{x, dx};
  const double elements = double(x.shape.n * x.shape.pixels());
#pragma omp parallel for collapse(2) num_threads(threads_)
  for (std::int64_t n = 0; n < x.shape.n; ++n)
    for (std::int64_t i = 0; i < groups.size(); ++i) {
      const ChannelGroup g = groups[i];
      const double *mean = row_of(stats, 0, g.first), *variance = row_of(stats, 1, g.first);
      for (std::int64_t p = 0; p < x.shape.pixels(); ++p) {
        const double* in = at(x, n, g, p);
        double* to = at(dx, n, g, p);
        for (std::int64_t l = 0; l < g.count; ++l) {
          const double inverse = inverse_deviation(variance[l], epsilon), xhat = (in[l] - mean[l]) * inverse;
          to[l] -= inverse / elements * (row_of(weighted, 0, g.first)[l] + xhat * row_of(weighted, 1, g.first)[l]);
        }
      }
    }
}

void ReferenceBackend::update_running(View running, ConstView stats, double momentum, std::int64_t elements) {
  const double unbiased = elements > 1 ? double(elements) / double(elements - 1) : 1;
  for (std::int64_t c = 0; c < running.shape.c; ++c) {
    double &mean = row_of(running, 0, c)[0], &variance = row_of(running, 1, c)[0];
    mean += momentum * (row_of(stats, 0, c)[0] - mean);
    variance += momentum * (row_of(stats, 1, c)[0] * unbiased - variance);
  }
}

}  // namespace graft
