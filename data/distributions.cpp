#include "data/distributions.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace graft {
namespace {

double normal_density(double z) { return std::exp(-0.5 * z * z) * std::numbers::inv_sqrtpi / std::numbers::sqrt2; }

/// Where a falling function crosses `target` in [low, high].
template <typename Function>
double solve_falling(const Function& function, double target, double low, double high) {
  while (true) {
    const double middle = 0.5 * (low + high);
    if (middle <= low || middle >= high) return middle;
    (function(middle) > target ? low : high) = middle;
  }
}

/// The continued fraction of incomplete_beta, quickly convergent for x < (a + 1) / (a + b + 2).
double beta_fraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300;
  const auto away_from_zero = [](double value) { return std::abs(value) < kTiny ? kTiny : value; };
  double c = 1.0, d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0)), result = d;
  for (int m = 1; m <= 1000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1.0 / away_from_zero(1.0 + even * d);
    c = away_from_zero(1.0 + even / c);
    result *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1.0 / away_from_zero(1.0 + odd * d);
    c = away_from_zero(1.0 + odd / c);
    result *= d * c;
    if (std::abs(d * c - 1.0) < 1e-15) break;
  }
  return result;
}

}  // namespace

double normal_cdf(double z) { return 0.5 * std::erfc(-z / std::numbers::sqrt2); }

double normal_quantile(double p) {
  if (p == 0.0) return -std::numeric_limits<double>::infinity();
  if (p == 1.0) return std::numeric_limits<double>::infinity();
  if (!(p > 0.0 && p < 1.0)) return std::numeric_limits<double>::quiet_NaN();
  if (p > 0.5) return -normal_quantile(1.0 - p);
  const double t = std::sqrt(-2.0 * std::log(p));
  double z = -(t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308))));
  for (int i = 0; i < 3; ++i) {
    const double step = (normal_cdf(z) - p) / normal_density(z);
    z -= step / (1.0 + 0.5 * z * step);
  }
  return z;
}

double incomplete_beta(double a, double b, double x) {
  if (x <= 0.0) return 0.0;
  if (x >= 1.0) return 1.0;
  if (x > (a + 1.0) / (a + b + 2.0)) return 1.0 - incomplete_beta(b, a, 1.0 - x);
  const double front =
      std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x));
  return front * beta_fraction(a, b, x) / a;
}

double student_t_tail(double t, double freedom) {
  const double one_side = 0.5 * incomplete_beta(0.5 * freedom, 0.5, freedom / (freedom + t * t));
  return t >= 0.0 ? one_side : 1.0 - one_side;
}

double student_t_quantile(double p, double freedom) {
  if (p == 0.5) return 0.0;
  if (p < 0.5) return -student_t_quantile(1.0 - p, freedom);
  double high = 1.0;
  while (student_t_tail(high, freedom) > 1.0 - p) high *= 2.0;
  return solve_falling([&](double t) { return student_t_tail(t, freedom); }, 1.0 - p, 0.0, high);
}

double f_tail(double f, double numerator_freedom, double denominator_freedom) {
  if (f <= 0.0) return 1.0;
  return incomplete_beta(0.5 * denominator_freedom, 0.5 * numerator_freedom,
                         denominator_freedom / (denominator_freedom + numerator_freedom * f));
}

double normal_range_tail(double q, std::int64_t groups) {
  if (q <= 0.0) return 1.0;
  // The trapezium rule converges exponentially for such an integrand; beyond 9 standard deviations nothing is left.
  constexpr double kStep = 1.0 / 32.0, kFar = 9.0;
  double sum = 0.0;
  for (double z = -kFar; z <= kFar + q; z += kStep) {
    sum += normal_density(z) * std::pow(normal_cdf(z) - normal_cdf(z - q), static_cast<double>(groups - 1));
  }
  return 1.0 - static_cast<double>(groups) * kStep * sum;
}

double normal_range_quantile(double tail, std::int64_t groups) {
  return solve_falling([&](double q) { return normal_range_tail(q, groups); }, tail, 0.0, 64.0);
}

}  // namespace graft
