// The smallest singular values of a batch's features. They are found on the host: one copy of the matrix out, its Gram
// matrix and eigenvectors in double, one small matrix back, with which the derivative is a single product on the
// device:
//   sum of sigma^2 over the chosen = |P F|^2, P = sum of u u^T over their left singular vectors, d / dF = 2 P F
// (with more images than features the same from the other side, F P with right singular vectors).
#include <cmath>
#include <limits>

#include "tensor/ops.h"
#include "tensor/symmetric_eigen.h"

namespace graft {
namespace {

/// F F^T of F [rows,columns], or F^T F when `by_columns`.
std::vector<double> gram(const std::vector<double>& f, std::int64_t rows, std::int64_t columns, bool by_columns) {
  const std::int64_t n = by_columns ? columns : rows, length = by_columns ? rows : columns;
  const std::int64_t step = by_columns ? 1 : columns, stride = by_columns ? columns : 1;
  std::vector<double> g(static_cast<std::size_t>(n * n));
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = i; j < n; ++j) {
      const double *a = &f[std::size_t(i * step)], *b = &f[std::size_t(j * step)];
      double sum = 0;
      for (std::int64_t k = 0; k < length; ++k) sum += a[k * stride] * b[k * stride];
      g[std::size_t(i * n + j)] = g[std::size_t(j * n + i)] = sum;
    }
  return g;
}

/// factor * sum of v v^T over the first `count` columns v of `vectors` [n,n].
std::vector<double> projector(const std::vector<double>& vectors, std::int64_t n, std::int64_t count, double factor) {
  std::vector<double> p(static_cast<std::size_t>(n * n));
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j)
      for (std::int64_t k = 0; k < count; ++k)
        p[std::size_t(i * n + j)] += factor * vectors[std::size_t(i * n + k)] * vectors[std::size_t(j * n + k)];
  return p;
}

/// NaN throughout where a feature is not finite: whoever reads the loss will say so.
SymmetricEigen eigen_or_nan(const std::vector<double>& gram, std::int64_t n) {
  double squares = 0;
  for (double v : gram) squares += v * v;
  if (std::isfinite(squares)) return symmetric_eigen(gram, n);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  return {std::vector<double>(std::size_t(n), nan), std::vector<double>(std::size_t(n * n), nan)};
}

}  // namespace

Tensor batch_spectral_shrinkage(const Tensor& features, const SpectralShrinkageArgs& args) {
  const Tensor input = to_nhwc(features);
  const Tensor f = converted(input, input.context().dtype());
  const std::int64_t rows = f.shape().n, columns = f.shape().size() / rows;
  const bool by_columns = rows > columns;
  const std::int64_t n = std::min(rows, columns), count = std::min(args.count, n);
  if (args.count < 1 || f.shape().pixels() != 1)
    throw Error("batch_spectral_shrinkage: needs features [N,F,1,1] and at least one singular value, got " +
                to_string(features.shape()) + " and " + std::to_string(args.count));
  const SymmetricEigen eigen = eigen_or_nan(gram(f.to_host(), rows, columns, by_columns), n);
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double value = eigen.values[std::size_t(i)];
    sum += value < 0 ? 0 : value;  // a NaN stays
  }
  Tensor penalty = from_host(f.context(), {1, 1, 1, 1}, std::vector<double>{args.weight * sum});
  const Tensor p = from_host(f.context(), {n, n, 1, 1}, projector(eigen.vectors, n, count, 2 * args.weight));

  return record("batch_spectral_shrinkage", penalty, {input}, [=](Tensor& d, Grads& g) {
    g.accumulate(0, [&](View df, Write w) {
      Backend& device = d.backend();
      Tensor product = empty(d.context(), f.shape());
      if (by_columns)
        device.linear(product.view(), f.view(), WeightView{p.view()}, {});
      else
        device.linear_data_grad(product.view(), Write::overwrite, p.view(), WeightView{f.view()});
      const ScaleBy derivative{d.view().data};
      if (df.dtype == product.dtype()) return device.map(derivative, df, w, {product.view()});
      device.map(derivative, product.view(), Write::overwrite, {product.view()});
      device.copy(df, w, product.view());
    });
  });
}

}  // namespace graft
