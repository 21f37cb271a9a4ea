// The 16-bit types over all their values: conversions there and back, and rounding on both sides of every midpoint.
#include "kernels/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace graft {
namespace {

constexpr double kHalfInfinity = std::numeric_limits<double>::infinity();

template <class Half>
Half of_bits(int bits) {
  Half h;
  h.bits = static_cast<std::uint16_t>(bits);
  return h;
}

/// Number of the bit pattern of infinity; smaller patterns are finite and rise with their value.
template <class Half>
constexpr int kInfinityBits = std::is_same_v<Half, BFloat16> ? 0x7F80 : 0x7C00;

/// A pattern's value from the definition: fraction and exponent, no bit of a float involved.
template <class Half>
double defined_value(int bits) {
  const int fraction_bits = std::is_same_v<Half, BFloat16> ? 7 : 10, bias = std::is_same_v<Half, BFloat16> ? 127 : 15;
  const int exponent = bits >> fraction_bits, fraction = bits & ((1 << fraction_bits) - 1);
  const int whole = exponent == 0 ? fraction : fraction + (1 << fraction_bits);
  return std::ldexp(whole, std::max(exponent, 1) - bias - fraction_bits);
}

template <class Half>
class HalfTypes : public ::testing::Test {};
using Types = ::testing::Types<BFloat16, Float16>;
TYPED_TEST_SUITE(HalfTypes, Types);

TYPED_TEST(HalfTypes, HaveTheValuesOfTheirDefinition) {
  for (int bits = 0; bits < kInfinityBits<TypeParam>; ++bits) {
    const double value = defined_value<TypeParam>(bits);
    ASSERT_EQ(static_cast<double>(of_bits<TypeParam>(bits)), value) << bits;
    ASSERT_EQ(static_cast<double>(of_bits<TypeParam>(bits | 0x8000)), -value) << bits;
  }
  EXPECT_EQ(static_cast<double>(of_bits<TypeParam>(kInfinityBits<TypeParam>)), kHalfInfinity);
}

TYPED_TEST(HalfTypes, ComeBackFromFloatAndDoubleAsTheyWere) {
  for (int bits = 0; bits < 0x10000; ++bits) {
    const TypeParam half = of_bits<TypeParam>(bits);
    const float value = half;
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(static_cast<float>(TypeParam(value)))) << bits;
      ASSERT_TRUE(std::isnan(static_cast<float>(TypeParam(static_cast<double>(value))))) << bits;
      continue;
    }
    ASSERT_EQ(TypeParam(value).bits, bits);
    ASSERT_EQ(TypeParam(static_cast<double>(value)).bits, bits);
  }
}

TYPED_TEST(HalfTypes, RoundToTheNearestTiesToEven) {
  const auto above = [](auto x) { return std::nextafter(x, std::numeric_limits<decltype(x)>::infinity()); };
  const auto below = [](auto x) { return std::nextafter(x, decltype(x)(0)); };
  for (int bits = 0; bits < kInfinityBits<TypeParam>; ++bits) {
    // Beyond the largest number lies infinity, in the place of the next power of two.
    const double low = defined_value<TypeParam>(bits), high = defined_value<TypeParam>(bits + 1),
                 tie = (low + high) / 2;
    const int even = bits % 2 == 0 ? bits : bits + 1;
    ASSERT_EQ(TypeParam(tie).bits, even) << bits;
    ASSERT_EQ(TypeParam(above(tie)).bits, bits + 1) << bits;  // by way of a float it would be a tie
    ASSERT_EQ(TypeParam(below(tie)).bits, bits) << bits;
    ASSERT_EQ(TypeParam(-above(tie)).bits, (bits + 1) | 0x8000) << bits;
    const float short_tie = static_cast<float>(tie);
    if (static_cast<double>(short_tie) != tie) continue;
    ASSERT_EQ(TypeParam(short_tie).bits, even) << bits;
    ASSERT_EQ(TypeParam(above(short_tie)).bits, bits + 1) << bits;
    ASSERT_EQ(TypeParam(below(short_tie)).bits, bits) << bits;
    ASSERT_EQ(TypeParam(-below(short_tie)).bits, bits | 0x8000) << bits;
  }
}

TYPED_TEST(HalfTypes, KeepWhatIsNotFinite) {
  for (const double x : {1e300, kHalfInfinity, 3.5e38}) {
    EXPECT_EQ(static_cast<double>(TypeParam(x)), kHalfInfinity) << x;
    EXPECT_EQ(static_cast<double>(TypeParam(-x)), -kHalfInfinity) << x;
  }
  EXPECT_TRUE(std::isnan(static_cast<float>(TypeParam(std::nan("")))));
  EXPECT_TRUE(std::isnan(static_cast<float>(TypeParam(std::bit_cast<float>(0x7F800001u)))));  // its top bits are zero
  EXPECT_EQ(TypeParam(-1e-300).bits, 0x8000);
}

TEST(HalfTypesByDType, RoundAsTheTypeSays) {
  EXPECT_EQ(rounded_to(DType::bf16, 1 + 0x1p-8), 1);
  EXPECT_EQ(rounded_to(DType::f16, 1 + 0x1p-11), 1);
  EXPECT_EQ(rounded_to(DType::f32, 1 + 0x1p-24), 1);
  EXPECT_EQ(rounded_to(DType::f64, 1 + 0x1p-24), 1 + 0x1p-24);
  EXPECT_THROW(rounded_to(DType::i32, 1), Error);
  EXPECT_TRUE(is_half(DType::bf16) && is_half(DType::f16) && !is_half(DType::f32));
}

}  // namespace
}  // namespace graft
