// What the kernels of conv_growth.cu and conv_growth_weight_grad.cu share: how the pixels of a 3x3 convolution are
// counted, and how threads share rows of shared memory.
#pragma once

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/tensor_core.h"

namespace graft::gpu::growth {

inline constexpr int kTaps = 9;
inline constexpr int kWidest = 58;  // images of which the largest tiles fit

/// Exact quotients by a number from 2 on, as far as quotients are asked of numbers below 2^32 / it.
struct Divisor {
  unsigned value, inverse;
  explicit Divisor(std::int64_t d)
      : value(unsigned(d)), inverse(unsigned(((std::uint64_t{1} << 32) + unsigned(d) - 1) / unsigned(d))) {}
  __device__ __forceinline__ unsigned quotient(unsigned n) const { return unsigned(std::uint64_t(n) * inverse >> 32); }
};

/// Pixels are counted through images of h + 1 rows of w + 1 pixels, the last of each zeros that the next row and image
/// begin behind. What a window reads then lies at the same nine distances from every pixel.
struct Counting {
  Divisor row, image;  // w + 1, h + 1
  int pixels, width;   // of all images; w

  explicit Counting(const Shape& x) : row(x.w + 1), image(x.h + 1), pixels(int(count(x))), width(int(x.w)) {}
  static std::int64_t count(const Shape& x) { return x.n * (x.h + 1) * (x.w + 1); }
  /// Whether pixels are so few that quotients are exact.
  static bool is_exact(const Shape& x) { return count(x) <= (std::int64_t{1} << 31) / (x.h > x.w ? x.h + 1 : x.w + 1); }
  /// From row to row of the window.
  __device__ __forceinline__ int line() const { return int(row.value); }
  /// How far before a pixel its window begins, and how far behind it ends.
  __device__ __forceinline__ int reach() const { return line() + 1; }
  /// The pixel's row of channels in memory; negative: zeros.
  __device__ __forceinline__ int row_of(int pixel) const {
    const unsigned at = row.quotient(unsigned(pixel)), column = unsigned(pixel) - at * row.value;
    const unsigned n = image.quotient(at), h = at - n * image.value;
    const bool is_there = unsigned(pixel) < unsigned(pixels) && column + 1 != row.value && h + 1 != image.value;
    return is_there ? int((at - n) * unsigned(width) + column) : -1;
  }
};

/// A copy of 16 bytes of `from`'s row, or of zeros where there is none.
template <class T>
__device__ __forceinline__ void begin_row_copy(T* to, const ConstRows<T>& from, int row, int channel) {
  begin_copy(to, from.at(row < 0 ? 0 : row, channel), row >= 0);
}

/// Of a warp whose lanes move rows of shared memory, `Lanes` to a row, which row a lane has. Eight lanes store
/// together: they have rows whose banks differ, of 48 bytes (2 lanes) every second one, of 80 bytes (4 lanes) every
/// fourth.
template <int Lanes>
__device__ __forceinline__ int row_of_lane(int lane) {
  static_assert(Lanes == 2 || Lanes == 4);
  return Lanes == 2 ? lane / 16 * 8 + lane / 8 % 2 + lane / 2 % 4 * 2 : lane / 8 + lane / 4 % 2 * 4;
}
/// The row that a thread of a block has.
template <int Lanes>
__device__ __forceinline__ int row_of_thread(int thread) {
  return thread / kWarp * (kWarp / Lanes) + row_of_lane<Lanes>(thread % kWarp);
}

}  // namespace graft::gpu::growth
