// The two 16-bit number types on the host: storage only, arithmetic is done in float or double. Rounding is to nearest,
// ties to even; a NaN stays a NaN. CUDA kernels use the toolkit's types, which have the same bits.
//   BFloat16  1 sign, 8 exponent, 7 fraction bits: float's range, 8 significant bits
//   Float16   1 sign, 5 exponent, 10 fraction bits (IEEE 754 binary16): 11 significant bits, 6e-8 to 65504
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/core.h"

namespace graft {

namespace detail {

/// A float between whose neighbours `x` lies, with its last bit set where x is no float: rounding it to a shorter type
/// then gives what rounding x itself gives. Source: Boldo, Melquiond 2008 (rounding to odd).
constexpr float rounded_to_odd(double x) {
  const float nearest = static_cast<float>(x);
  if (static_cast<double>(nearest) == x || x != x) return nearest;
  std::uint32_t bits = std::bit_cast<std::uint32_t>(nearest);
  const bool is_beyond =
      (nearest < 0 ? -static_cast<double>(nearest) : static_cast<double>(nearest)) > (x < 0 ? -x : x);
  if (is_beyond) --bits;  // towards zero; from infinity to the largest float
  return std::bit_cast<float>(bits | 1);
}

}  // namespace detail

struct BFloat16 {
  std::uint16_t bits = 0;

  BFloat16() = default;
  constexpr explicit BFloat16(float x) {
    const std::uint32_t b = std::bit_cast<std::uint32_t>(x);
    const bool is_nan = (b & 0x7FFFFFFFu) > 0x7F800000u;
    bits = static_cast<std::uint16_t>(is_nan ? b >> 16 | 0x40u : (b + 0x7FFFu + (b >> 16 & 1u)) >> 16);
  }
  constexpr explicit BFloat16(double x) : BFloat16(detail::rounded_to_odd(x)) {}
  constexpr operator float() const { return std::bit_cast<float>(std::uint32_t(bits) << 16); }
};

struct Float16 {
  std::uint16_t bits = 0;

  Float16() = default;
  constexpr explicit Float16(float x) {
    const std::uint32_t b = std::bit_cast<std::uint32_t>(x), magnitude = b & 0x7FFFFFFFu;
    std::uint32_t h;
    if (magnitude > 0x7F800000u)  // NaN
      h = 0x7E00u | (magnitude >> 13 & 0x3FFu);
    else if (magnitude >= 0x477FF000u)  // 65520 and more: infinity
      h = 0x7C00u;
    else if (magnitude < 0x38800000u)  // below 2^-14: whole multiples of 2^-24, which is the last bit of 0.5f
      h = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - std::bit_cast<std::uint32_t>(0.5f);
    else
      h = (magnitude - (112u << 23) + 0xFFFu + (magnitude >> 13 & 1u)) >> 13;
    bits = static_cast<std::uint16_t>((b >> 16 & 0x8000u) | h);
  }
  constexpr explicit Float16(double x) : Float16(detail::rounded_to_odd(x)) {}
  constexpr operator float() const {
    const std::uint32_t sign = std::uint32_t(bits & 0x8000u) << 16, exponent = bits >> 10 & 0x1Fu,
                        fraction = bits & 0x3FFu;
    if (exponent == 0) {
      const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
      return sign ? -magnitude : magnitude;
    }
    return std::bit_cast<float>(sign | (exponent == 31 ? 0x7F800000u : (exponent + 112u) << 23) | fraction << 13);
  }
};

static_assert(sizeof(BFloat16) == 2 && sizeof(Float16) == 2);

constexpr bool is_half(DType type) { return type == DType::bf16 || type == DType::f16; }

/// Calls body(T{}) with the host's type of a floating-point DType. Errors: a type of whole numbers.
template <class Body>
decltype(auto) with_float_type(DType type, const Body& body) {
  switch (type) {
    case DType::f64:
      return body(double{});
    case DType::f32:
      return body(float{});
    case DType::bf16:
      return body(BFloat16{});
    case DType::f16:
      return body(Float16{});
    default:
      throw Error("dtype: " + std::string(to_string(type)) + " is no floating-point type");
  }
}

/// The number of type `type` nearest to x, ties to even. Errors: a type of whole numbers.
inline double rounded_to(DType type, double x) {
  return with_float_type(type, [x](auto t) { return static_cast<double>(decltype(t)(x)); });
}

}  // namespace graft
