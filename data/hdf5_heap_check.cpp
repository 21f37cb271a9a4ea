#include "data/hdf5_heap_check.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>

namespace graft {
namespace {

constexpr std::size_t kHeaderBytes = 16;  // of a heap and of an object, with 8-byte lengths as every current writer has

std::uint64_t read_unsigned(const std::uint8_t* data, std::size_t count) {
  std::uint64_t value = 0;
  std::memcpy(&value, data, count);
  return value;
}

/// "GCOL", version, 3 reserved, size of the heap; then objects: index (2), references (2), reserved (4), size (8), data
/// padded to 8. Index 0 is the free space, whose size counts its own header.
bool is_sound(std::span<const std::uint8_t> heap) {
  const std::uint64_t size = read_unsigned(heap.data() + 8, 8);
  if (size < 4096 || size > (std::uint64_t{1} << 32)) return false;
  const std::size_t end = std::min<std::uint64_t>(size, heap.size());
  std::size_t at = kHeaderBytes;
  while (at + kHeaderBytes <= end) {
    const std::uint64_t index = read_unsigned(heap.data() + at, 2);
    const std::uint64_t length = read_unsigned(heap.data() + at + 8, 8);
    if (length > size - at) return false;
    const std::uint64_t step = index == 0 ? length : kHeaderBytes + (length + 7) / 8 * 8;
    if (step < kHeaderBytes || step > size - at) return false;
    at += step;
  }
  return true;
}

}  // namespace

bool has_sound_global_heaps(std::span<const std::uint8_t> bytes) {
  // Signature, version and reserved bytes together: eight bytes that weights do not form by chance. The library itself
  // refuses a heap whose signature or version is damaged.
  constexpr std::array<std::uint8_t, 8> kStart = {'G', 'C', 'O', 'L', 1, 0, 0, 0};
  const std::boyer_moore_horspool_searcher searcher(kStart.begin(), kStart.end());
  for (auto at = bytes.begin();;) {
    at = std::search(at, bytes.end(), searcher);
    if (static_cast<std::size_t>(bytes.end() - at) < kHeaderBytes) return true;
    if (!is_sound(bytes.subspan(static_cast<std::size_t>(at - bytes.begin())))) return false;
    at += kHeaderBytes;
  }
}

}  // namespace graft
