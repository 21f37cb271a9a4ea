#include "data/fletcher32.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>

namespace graft {

static_assert(std::endian::native == std::endian::little, "words are swapped, and files hold the checksum so");

std::uint32_t fletcher32(std::span<const std::uint8_t> bytes) {
  // The filter sums big-endian 16-bit words w: a = sum of w, b = sum of the running a, both in ones' complement. Words
  // are dealt out to lanes that sum without a carry: 256 rows stay below 2^32. A word of lane i in a row counts in b as
  // often as words follow it, itself included: 8 times the rows from its own on, less i.
  constexpr std::size_t kLanes = 8, kRows = 256;
  const auto reduce = [](std::uint64_t x) { return x == 0 ? 0 : (x - 1) % 65535 + 1; };
  std::uint64_t a = 0, b = 0;
  const std::uint8_t* data = bytes.data();
  std::size_t words = bytes.size() / 2;
  while (words >= kLanes) {
    const std::size_t rows = std::min(kRows, words / kLanes);
    std::array<std::uint32_t, kLanes> sum{}, running{};
    for (std::size_t row = 0; row < rows; ++row, data += 2 * kLanes) {
      std::array<std::uint16_t, kLanes> word;
      std::memcpy(word.data(), data, sizeof word);
      for (std::size_t i = 0; i < kLanes; ++i) {
        sum[i] += static_cast<std::uint16_t>(word[i] << 8 | word[i] >> 8);
        running[i] += sum[i];
      }
    }
    std::uint64_t total = 0, weighted = 0;
    for (std::size_t i = 0; i < kLanes; ++i) {
      total += sum[i];
      weighted += kLanes * std::uint64_t{running[i]} - i * std::uint64_t{sum[i]};
    }
    b = reduce(b + rows * kLanes * a + weighted);
    a = reduce(a + total);
    words -= rows * kLanes;
  }
  for (; words > 0; --words, data += 2) {
    a = reduce(a + (std::uint64_t{data[0]} << 8 | data[1]));
    b = reduce(b + a);
  }
  if (bytes.size() % 2 != 0) {
    a = reduce(a + (std::uint64_t{bytes.back()} << 8));
    b = reduce(b + a);
  }
  return static_cast<std::uint32_t>(b << 16 | a);
}

}  // namespace graft
