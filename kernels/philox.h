// Philox4x32-10, the counter-based random generator behind every random number in graft: data order, splits,
// augmentation, dropout, new heads. It has no state: the same (seed, stream, epoch, index, draw) gives the same bits on
// every device, with any number of threads, before and after a resume. Everything is constexpr, so device code can call
// it. Source: Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"; checked against
// Random123's known answers in tests/data/philox_test.cpp.
#pragma once

#include <cstdint>

namespace graft {

/// Four random words, or the counter that makes them.
struct PhiloxBlock {
  std::uint32_t v0 = 0, v1 = 0, v2 = 0, v3 = 0;
  friend constexpr bool operator==(const PhiloxBlock&, const PhiloxBlock&) = default;
};

struct PhiloxKey {
  std::uint32_t k0 = 0, k1 = 0;
};

/// The ten rounds: a bijection of the counter, chosen by the key.
constexpr PhiloxBlock philox4x32(PhiloxBlock counter, PhiloxKey key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53U} * counter.v0;
    const std::uint64_t b = std::uint64_t{0xCD9E8D57U} * counter.v2;
    counter = {static_cast<std::uint32_t>(b >> 32) ^ counter.v1 ^ key.k0, static_cast<std::uint32_t>(b),
               static_cast<std::uint32_t>(a >> 32) ^ counter.v3 ^ key.k1, static_cast<std::uint32_t>(a)};
    key.k0 += 0x9E3779B9U;
    key.k1 += 0xBB67AE85U;
  }
  return counter;
}

/// 24 random bits as a float in [0, 1).
constexpr float uniform_float(std::uint32_t bits) { return static_cast<float>(bits >> 8) * (1.0F / 16777216.0F); }

/// Who draws. Streams keep users apart: adding a draw to one never shifts another.
enum class RandomStream : std::uint32_t {
  order = 1,
  augment = 2,
  split = 3,
  dropout = 4,
  head = 5,
  drawing = 6,
  other = 7,
  normalization = 8,
  adapters = 9,
  resampling = 10
};

/// Everything a random number depends on, besides how many were drawn before it.
struct RandomPlace {
  std::uint64_t seed = 0;
  RandomStream stream = RandomStream::other;
  std::uint32_t epoch = 0;
  std::uint64_t index = 0;
};

/// Block number `block` of the sequence at a place. The stream is folded into the key's upper word.
constexpr PhiloxBlock random_block(const RandomPlace& at, std::uint32_t block) {
  return philox4x32({block, static_cast<std::uint32_t>(at.index), static_cast<std::uint32_t>(at.index >> 32), at.epoch},
                    {static_cast<std::uint32_t>(at.seed), static_cast<std::uint32_t>(at.seed >> 32) ^
                                                              (static_cast<std::uint32_t>(at.stream) * 0x85EBCA6BU)});
}

/// The sequence of numbers at one place, drawn one after the other.
class Random {
 public:
  constexpr explicit Random(RandomPlace at) : at_(at) {}

  constexpr std::uint32_t bits() {
    if (used_ == 4) {
      words_ = random_block(at_, block_++);
      used_ = 0;
    }
    switch (used_++) {
      case 0:
        return words_.v0;
      case 1:
        return words_.v1;
      case 2:
        return words_.v2;
      default:
        return words_.v3;
    }
  }

  constexpr std::uint64_t bits64() {
    const std::uint64_t high = bits();
    return high << 32 | bits();
  }

  /// [0, 1), 53 bits.
  constexpr double uniform() { return static_cast<double>(bits64() >> 11) * (1.0 / 9007199254740992.0); }
  constexpr double uniform(double low, double high) { return low + (high - low) * uniform(); }
  constexpr bool happens(double probability) { return uniform() < probability; }

  /// 0 .. count-1; the bias is below count / 2^64.
  constexpr std::int64_t below(std::int64_t count) {
    const std::uint64_t n = static_cast<std::uint64_t>(count);
    const std::uint64_t x = bits64();
    // High half of the 128-bit product x * n, from 32-bit halves.
    const std::uint64_t low = (x & 0xFFFFFFFFU) * n;
    return static_cast<std::int64_t>(((x >> 32) * n + (low >> 32)) >> 32);
  }

 private:
  RandomPlace at_;
  PhiloxBlock words_;
  std::uint32_t block_ = 0;
  int used_ = 4;
};

}  // namespace graft
