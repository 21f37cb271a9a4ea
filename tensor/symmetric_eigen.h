// Eigenvalues and eigenvectors of small symmetric matrices on the host, in double, by Jacobi's rotations: slower than a
// reduction to tridiagonal form, but a page long and accurate for small eigenvalues too. Its one use is
// ops/batch_spectral_shrinkage.cpp.
#pragma once

#include <cstdint>
#include <vector>

namespace graft {

/// Eigenvalues in ascending order; column i of `vectors` [n,n], row by row, is the unit eigenvector of value i.
struct SymmetricEigen {
  std::vector<double> values, vectors;
};

/// Of the symmetric matrix `a` [n,n]; about 10 n^3 to 30 n^3 operations. The same bits for the same input.
/// Errors: a value is not finite.
/// Source: Golub, Van Loan, Matrix Computations, 4th edition, algorithm 8.5.3 (cyclic Jacobi).
SymmetricEigen symmetric_eigen(std::vector<double> a, std::int64_t n);

}  // namespace graft
