#include "tensor/symmetric_eigen.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/core.h"

namespace graft {
namespace {

/// Cosine and sine of the rotation in the plane of p and q that makes a_pq zero.
struct Rotation {
  double c, s;
  Rotation(double a_pp, double a_pq, double a_qq) {
    const double tau = (a_qq - a_pp) / (2 * a_pq);
    const double t = (tau < 0 ? -1 : 1) / (std::abs(tau) + std::sqrt(1 + tau * tau));
    c = 1 / std::sqrt(1 + t * t);
    s = t * c;
  }
  /// Turns n pairs of neighbours or rows.
  void turn(double* x, double* y, std::int64_t n) const {
    for (std::int64_t i = 0; i < n; ++i) {
      const double u = x[i], v = y[i];
      x[i] = c * u - s * v;
      y[i] = s * u + c * v;
    }
  }
};

double off_diagonal_squares(const std::vector<double>& a, std::int64_t n) {
  double sum = 0;
  for (std::int64_t p = 0; p < n; ++p)
    for (std::int64_t q = p + 1; q < n; ++q) sum += a[std::size_t(p * n + q)] * a[std::size_t(p * n + q)];
  return 2 * sum;
}

}  // namespace

SymmetricEigen symmetric_eigen(std::vector<double> a, std::int64_t n) {
  double squares = 0;
  for (double v : a) squares += v * v;
  if (!std::isfinite(squares)) throw Error("eigenvalues: the matrix has a value that is not finite, or too large");
  std::vector<double> rows(a.size(), 0.0);  // eigenvectors as rows, so that a rotation walks through memory
  for (std::int64_t i = 0; i < n; ++i) rows[std::size_t(i * n + i)] = 1;
  constexpr int kMostSweeps = 60;  // convergence is quadratic: eight are usual
  for (int sweep = 0; sweep < kMostSweeps && off_diagonal_squares(a, n) > 1e-30 * squares; ++sweep)
    for (std::int64_t p = 0; p < n; ++p)
      for (std::int64_t q = p + 1; q < n; ++q) {
        double *row_p = &a[std::size_t(p * n)], *row_q = &a[std::size_t(q * n)];
        if (row_p[q] == 0) continue;
        const Rotation r(row_p[p], row_p[q], row_q[q]);
        r.turn(row_p, row_q, n);
        for (std::int64_t i = 0; i < n; ++i) r.turn(&a[std::size_t(i * n + p)], &a[std::size_t(i * n + q)], 1);
        row_p[q] = row_q[p] = 0;
        r.turn(&rows[std::size_t(p * n)], &rows[std::size_t(q * n)], n);
      }

  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::ranges::stable_sort(order, {}, [&](std::int64_t i) { return a[std::size_t(i * n + i)]; });
  SymmetricEigen eigen{std::vector<double>(std::size_t(n)), std::vector<double>(std::size_t(n * n))};
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t from = order[std::size_t(i)];
    eigen.values[std::size_t(i)] = a[std::size_t(from * n + from)];
    for (std::int64_t j = 0; j < n; ++j) eigen.vectors[std::size_t(j * n + i)] = rows[std::size_t(from * n + j)];
  }
  return eigen;
}

}  // namespace graft
