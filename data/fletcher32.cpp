#include "data/fletcher32.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace graft {

std::uint32_t fletcher32(std::span<const std::uint8_t> bytes) {
  // The filter sums big-endian 16-bit words w: a = sum of w, b = sum of the running a, both in ones' complement. Over a
  // block of n words b grows by n*a + sum of (n - i) w_i, which has no chain of dependencies and vectorises.
  constexpr std::size_t kBlock = 4096;
  const auto reduce = [](std::uint64_t x) { return x == 0 ? 0 : (x - 1) % 65535 + 1; };
  std::uint64_t a = 0, b = 0;
  const std::size_t words = bytes.size() / 2;
  for (std::size_t begin = 0; begin < words; begin += kBlock) {
    const std::size_t n = std::min(kBlock, words - begin);
    const std::uint8_t* data = bytes.data() + 2 * begin;
    std::uint32_t plain = 0;
    std::uint64_t weighted = 0;
    for (std::size_t row = 0; row < n; row += 256) {  // row sums stay below 2^32
      const std::size_t length = std::min<std::size_t>(256, n - row);
      std::uint32_t row_sum = 0, row_weighted = 0;
      for (std::size_t i = 0; i < length; ++i) {
        std::uint16_t word;
        std::memcpy(&word, data + 2 * (row + i), 2);
        const std::uint32_t w = static_cast<std::uint16_t>(word << 8 | word >> 8);
        row_sum += w;
        row_weighted += static_cast<std::uint32_t>(256 - i) * w;
      }
      plain += row_sum;
      // The weights of this row are (n - row - i) = (256 - i) + (n - row - 256), the latter perhaps negative.
      weighted += row_weighted + (n - row) * std::uint64_t{row_sum} - 256 * std::uint64_t{row_sum};
    }
    b = reduce(b + n * a + weighted);
    a = reduce(a + plain);
  }
  if (bytes.size() % 2 != 0) {
    a = reduce(a + (std::uint64_t{bytes.back()} << 8));
    b = reduce(b + a);
  }
  return static_cast<std::uint32_t>(b << 16 | a);
}

}  // namespace graft
