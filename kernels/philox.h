// Philox4x32-10, the counter-based random generator of Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
// 1, 2, 3" (SC 2011). A number is a pure function of (seed, stream, index): no state, so threads and devices agree.
#pragma once

#include <cstdint>

#if defined(__CUDACC__) || defined(GRAFT_HOST_MODEL)
#define GRAFT_PHILOX_HD __host__ __device__ __forceinline__
#else
#define GRAFT_PHILOX_HD inline
#endif

namespace graft {

struct PhiloxBlock {
  std::uint32_t v[4];
};

/// The ten-round block cipher: four 32-bit outputs for a 128-bit counter and a 64-bit key.
GRAFT_PHILOX_HD PhiloxBlock philox4x32(PhiloxBlock counter, std::uint32_t key0, std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t(0xD2511F53u) * counter.v[0];
    const std::uint64_t b = std::uint64_t(0xCD9E8D57u) * counter.v[2];
    counter = {{std::uint32_t(b >> 32) ^ counter.v[1] ^ key0, std::uint32_t(b), std::uint32_t(a >> 32) ^ counter.v[3] ^ key1,
                std::uint32_t(a)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

/// Block `index` of stream `stream` under `seed`.
GRAFT_PHILOX_HD PhiloxBlock philox(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return philox4x32({{std::uint32_t(index), std::uint32_t(index >> 32), std::uint32_t(stream), std::uint32_t(stream >> 32)}},
                    std::uint32_t(seed), std::uint32_t(seed >> 32));
}

/// Uniform in [0, 1) with 53 random bits.
GRAFT_PHILOX_HD double philox_uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  const PhiloxBlock b = philox(seed, stream, index);
  return double((std::uint64_t(b.v[0]) << 21) ^ (b.v[1] >> 11)) * (1.0 / 9007199254740992.0);
}

}  // namespace graft
