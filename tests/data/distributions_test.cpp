#include "data/distributions.h"

#include <cmath>
#include <numbers>

#include "data_testing.h"

namespace graft {
namespace {

using testing::statistics_reference;
using Row = std::vector<double>;

/// Relative to SciPy's value; the studentized range is an integral there too.
void expect_equal(double got, double expected, double tolerance = 1e-11) {
  EXPECT_NEAR(got, expected, tolerance * std::abs(expected) + 1e-15);
}

template <typename Function>
void compare_rows(const char* name, const Function& function) {
  SCOPED_TRACE(name);
  const auto& rows = statistics_reference()["distributions"][name];
  ASSERT_GE(rows.size(), 5U);
  for (const Row row : rows) function(row);
}

TEST(Distributions, EqualSciPy) {
  compare_rows("normal_cdf", [](const Row& r) { expect_equal(normal_cdf(r[0]), r[1]); });
  compare_rows("normal_quantile", [](const Row& r) { expect_equal(normal_quantile(r[0]), r[1]); });
  compare_rows("incomplete_beta", [](const Row& r) { expect_equal(incomplete_beta(r[0], r[1], r[2]), r[3]); });
  compare_rows("student_t_quantile", [](const Row& r) { expect_equal(student_t_quantile(r[0], r[1]), r[2]); });
  compare_rows("f_tail", [](const Row& r) { expect_equal(f_tail(r[0], r[1], r[2]), r[3]); });
  compare_rows("normal_range_tail",
               [](const Row& r) { EXPECT_NEAR(normal_range_tail(r[0], static_cast<std::int64_t>(r[1])), r[2], 1e-9); });
  compare_rows("normal_range_quantile", [](const Row& r) {
    EXPECT_NEAR(normal_range_quantile(r[0], static_cast<std::int64_t>(r[1])), r[2], 1e-7);
  });
}

TEST(Distributions, EndsAndSymmetry) {
  EXPECT_EQ(normal_quantile(0.0), -HUGE_VAL);
  EXPECT_EQ(normal_quantile(1.0), HUGE_VAL);
  EXPECT_TRUE(std::isnan(normal_quantile(1.5)));
  EXPECT_EQ(normal_quantile(0.25), -normal_quantile(0.75));
  EXPECT_EQ(student_t_quantile(0.5, 3.0), 0.0);
  EXPECT_EQ(student_t_quantile(0.025, 7.0), -student_t_quantile(0.975, 7.0));
  EXPECT_NEAR(student_t_tail(-1.0, 5.0) + student_t_tail(1.0, 5.0), 1.0, 1e-15);
  EXPECT_EQ(f_tail(0.0, 3.0, 4.0), 1.0);
  EXPECT_EQ(normal_range_tail(0.0, 5), 1.0);
  // Two groups: the range is |difference|, of variance 2.
  EXPECT_NEAR(normal_range_tail(2.0, 2), 2.0 * normal_cdf(-std::numbers::sqrt2), 1e-12);
}

}  // namespace
}  // namespace graft
