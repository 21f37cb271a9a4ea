// Eigenvalues and eigenvectors against their definition and against matrices built from a known spectrum.
#include "tensor/symmetric_eigen.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/core.h"
#include "kernels/philox.h"

namespace graft {
namespace {

using Matrix = std::vector<double>;

double& at(Matrix& m, std::int64_t n, std::int64_t i, std::int64_t j) { return m[std::size_t(i * n + j)]; }

Matrix product(const Matrix& a, const Matrix& b, std::int64_t n) {
  Matrix c(a.size());
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t k = 0; k < n; ++k)
      for (std::int64_t j = 0; j < n; ++j) at(c, n, i, j) += a[std::size_t(i * n + k)] * b[std::size_t(k * n + j)];
  return c;
}

/// H diag(values) H with a random reflection H = 1 - 2 u u^T.
Matrix with_spectrum(const std::vector<double>& values, std::uint64_t seed) {
  const std::int64_t n = std::ssize(values);
  Random random({.seed = seed});
  std::vector<double> u(values.size());
  double squares = 0;
  for (double& v : u) v = random.uniform(-1, 1), squares += v * v;
  Matrix h(std::size_t(n * n)), d(std::size_t(n * n));
  for (std::int64_t i = 0; i < n; ++i) {
    at(d, n, i, i) = values[std::size_t(i)];
    for (std::int64_t j = 0; j < n; ++j)
      at(h, n, i, j) = double(i == j) - 2 * u[std::size_t(i)] * u[std::size_t(j)] / squares;
  }
  return product(product(h, d, n), h, n);
}

void expect_eigen(const Matrix& a, const std::vector<double>& expected) {
  const std::int64_t n = std::ssize(expected);
  const SymmetricEigen eigen = symmetric_eigen(a, n);
  double norm = 0;
  for (double v : expected) norm = std::max(norm, std::abs(v));
  const double tolerance = 1e-14 * double(n) * norm;  // rounding of n additions
  for (std::int64_t i = 0; i < n; ++i) {
    EXPECT_NEAR(eigen.values[std::size_t(i)], expected[std::size_t(i)], tolerance) << i;
    for (std::int64_t j = 0; j < n; ++j) {
      double applied = 0, dot = 0;
      for (std::int64_t k = 0; k < n; ++k) {
        applied += a[std::size_t(j * n + k)] * eigen.vectors[std::size_t(k * n + i)];
        dot += eigen.vectors[std::size_t(k * n + i)] * eigen.vectors[std::size_t(k * n + j)];
      }
      EXPECT_NEAR(applied, eigen.values[std::size_t(i)] * eigen.vectors[std::size_t(j * n + i)], tolerance) << i;
      EXPECT_NEAR(dot, double(i == j), 1e-14 * double(n)) << i << ' ' << j;
    }
  }
}

TEST(SymmetricEigen, OfKnownMatrices) {
  expect_eigen({7}, {7});
  expect_eigen({2, 1, 1, 2}, {1, 3});
  expect_eigen({0, 1, 1, 0}, {-1, 1});
  expect_eigen({3, 0, 0, 0, -1, 0, 0, 0, 2}, {-1, 2, 3});
  expect_eigen(Matrix(16), {0, 0, 0, 0});
}

TEST(SymmetricEigen, OfAKnownSpectrum) {
  expect_eigen(with_spectrum({-3, -0.5, 0, 0.25, 4}, 1), {-3, -0.5, 0, 0.25, 4});
  expect_eigen(with_spectrum({1, 1, 1, 2, 2, 5}, 2), {1, 1, 1, 2, 2, 5});  // repeated
  std::vector<double> wide(40);
  for (std::size_t i = 0; i < wide.size(); ++i) wide[i] = std::pow(10.0, double(i) / 5 - 4);  // 1e-4 .. 6e3
  expect_eigen(with_spectrum(wide, 3), wide);
}

TEST(SymmetricEigen, SameBitsAgain) {
  const Matrix a = with_spectrum({1, 2, 3, 4, 5, 6, 7}, 4);
  EXPECT_EQ(symmetric_eigen(a, 7).vectors, symmetric_eigen(a, 7).vectors);
}

TEST(SymmetricEigen, RefusesWhatIsNotFinite) {
  EXPECT_THROW(symmetric_eigen({1, std::numeric_limits<double>::quiet_NaN(), 0, 1}, 2), Error);
  EXPECT_THROW(symmetric_eigen({std::numeric_limits<double>::infinity()}, 1), Error);
}

}  // namespace
}  // namespace graft
