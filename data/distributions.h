// The distributions that intervals and tests need and the standard library lacks. Accurate to about 1e-12, relative for
// tails; compared with SciPy in tests/data/distributions_test.cpp.
#pragma once

#include <cstdint>

namespace graft {

/// P(Z <= z) of a standard normal.
double normal_cdf(double z);

/// z with P(Z <= z) = p. -infinity at 0, infinity at 1, NaN outside 0..1.
/// Source: Abramowitz and Stegun 26.2.23 for a start, refined by Halley's method on erfc.
double normal_quantile(double p);

/// I_x(a, b), the regularised incomplete beta function; a, b > 0, x in 0..1.
/// Source: the continued fraction DLMF 8.17.22, by Lentz's method.
double incomplete_beta(double a, double b, double x);

/// P(T > t) of Student's t; freedom > 0.
double student_t_tail(double t, double freedom);

/// t with P(T <= t) = p, 0 < p < 1.
double student_t_quantile(double p, double freedom);

/// P(F > f) of the F distribution.
double f_tail(double f, double numerator_freedom, double denominator_freedom);

/// P(range of `groups` standard normals > q): the studentized range with infinite degrees of freedom; groups >= 2.
///   1 - k integral phi(z) (Phi(z) - Phi(z - q))^(k-1) dz
double normal_range_tail(double q, std::int64_t groups);

/// q with normal_range_tail(q, groups) = tail, 0 < tail < 1.
double normal_range_quantile(double tail, std::int64_t groups);

}  // namespace graft
