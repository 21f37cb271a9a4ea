// Linear layers: y = x w^T + b and its two gradients. Rows of higher dimensions are taken as they lie in memory.
#include "kernels/reference/reference.h"

namespace graft {
namespace {

std::int64_t columns(const ConstView& v) { return v.shape.size() / v.shape.n; }
std::int64_t row_step(const ConstView& v) { return v.pitch * v.shape.pixels(); }

void check(const char* call, const ConstView& x, const ConstView& y, const ConstView& w) {
  if (x.shape.n != y.shape.n || w.shape.n != columns(y) || columns(w) != columns(x))
    throw Error(std::string(call) + ": x " + to_string(x.shape) + ", y " + to_string(y.shape) + " and w " +
                to_string(w.shape) + " do not fit; w is [outputs, inputs]");
  for (const ConstView& v : {x, y, w})
    if (!v.is_dense() && v.shape.pixels() > 1)
      throw Error(std::string(call) + ": a channel slice cannot be flattened; copy it first");
}

}  // namespace

void ReferenceBackend::linear(View y, ConstView x, WeightView w, ConstView bias) {
  check("linear", x, y, w.value);
  const std::int64_t inputs = columns(x), outputs = columns(y), step = row_step(w.value);
#pragma omp parallel for num_threads(threads_)
  for (std::int64_t o = 0; o < outputs; ++o)
    for (std::int64_t n = 0; n < x.shape.n; ++n) {
      const double *a = x.as<double>() + n * row_step(x), *b = w.value.as<double>() + o * step;
      double sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t i = 0; i < inputs; ++i) sum += a[i] * b[i];
      y.as<double>()[n * row_step(y) + o] = sum + (bias.data ? bias.as<double>()[o] : 0);
    }
}

void ReferenceBackend::linear_data_grad(View dx, Write write, ConstView dy, WeightView w) {
  check("linear_data_grad", dx, dy, w.value);
  constexpr std::int64_t kInputs = 512;  // one thread's share of a row
  const std::int64_t inputs = columns(dx), outputs = columns(dy), step = row_step(w.value);
#pragma omp parallel for num_threads(threads_)
  for (std::int64_t begin = 0; begin < inputs; begin += kInputs) {
    const std::int64_t end = std::min(inputs, begin + kInputs);
    if (write == Write::overwrite)
      for (std::int64_t n = 0; n < dx.shape.n; ++n)
        std::fill(dx.as<double>() + n * row_step(dx) + begin, dx.as<double>() + n * row_step(dx) + end, 0.0);
    for (std::int64_t o = 0; o < outputs; ++o)
      for (std::int64_t n = 0; n < dx.shape.n; ++n) {
        const double g = dy.as<double>()[n * row_step(dy) + o];
        const double* b = w.value.as<double>() + o * step;
        double* d = dx.as<double>() + n * row_step(dx);
#pragma omp simd
        for (std::int64_t i = begin; i < end; ++i) d[i] += g * b[i];
      }
  }
}

void ReferenceBackend::linear_weight_grad(View dw, Write write, ConstView dy, ConstView x) {
  check("linear_weight_grad", x, dy, dw);
  const std::int64_t inputs = columns(x), outputs = columns(dy);
#pragma omp parallel for num_threads(threads_)
  for (std::int64_t o = 0; o < outputs; ++o) {
    double* d = dw.as<double>() + o * row_step(dw);
    if (write == Write::overwrite) std::fill_n(d, inputs, 0.0);
    for (std::int64_t n = 0; n < x.shape.n; ++n) {
      const double g = dy.as<double>()[n * row_step(dy) + o];
      const double* a = x.as<double>() + n * row_step(x);
#pragma omp simd
      for (std::int64_t i = 0; i < inputs; ++i) d[i] += g * a[i];
    }
  }
}

}  // namespace graft
