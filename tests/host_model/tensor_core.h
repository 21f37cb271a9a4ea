// The host twins of kernels/cuda/tensor_core.h: what ldmatrix and mma.m16n8k16 do with the registers of a warp's lanes,
// from PTX's description of the fragments. Lanes show one another their registers and wait for all twice.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "tests/host_model/device_language.h"

namespace graft::host_model {

/// What a lane brings to a product: its parts of the left and of the right factor.
struct LaneTiles {
  std::uint32_t a[4], b[2];
};

/// The lanes' row addresses, or tiles, while their warp exchanges them.
struct WarpExchange {
  const std::uint16_t* rows[32];
  LaneTiles tiles[32];
};
inline WarpExchange warp_exchange[kMostThreads / 32];

inline int linear_thread() { return int(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)); }

/// As a vote: it orders no accesses to memory, which these instructions do not either.
inline void wait_for_warp(Place at) { __ballot_sync(~0u, 1, at); }

// Exchanged behind the race check's back, which is to see accesses to the kernel's own memory alone.
#define GRAFT_EXCHANGE __attribute__((no_sanitize("thread"), noinline))

template <class T>
GRAFT_EXCHANGE void show(T& place, const T& value) {
  place = value;
}
/// `Count` neighbouring lanes' values.
template <int Count, class T>
GRAFT_EXCHANGE std::array<T, Count> seen(const T* from) {
  std::array<T, Count> values;
  std::memcpy(values.data(), from, sizeof values);
  return values;
}

inline void load_matrices(std::uint32_t (&to)[4], const void* row, bool transposed, Place at = Place::current()) {
  const int thread = linear_thread(), lane = thread % 32;
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0)
    fail(FaultKind::collective, [&] {
      return std::string("a matrix's row must begin at a multiple of 16 bytes, at ") + at.file_name() + ":" +
             std::to_string(at.line());
    });
  WarpExchange& warp = warp_exchange[thread / 32];
  show(warp.rows[lane], static_cast<const std::uint16_t*>(row));
  wait_for_warp(at);
  const auto rows = seen<32>(warp.rows);
  for (int m = 0; m < 4; ++m) {
    std::uint32_t pair = 0;
    for (int i = 0; i < 2; ++i) {
      const int r = transposed ? lane % 4 * 2 + i : lane / 4, c = transposed ? lane / 4 : lane % 4 * 2 + i;
      pair |= std::uint32_t(rows[std::size_t(8 * m + r)][c]) << 16 * i;
    }
    to[m] = pair;
  }
  wait_for_warp(at);
}

template <class T>
float element(std::uint32_t pair, int i) {
  return float(std::bit_cast<T>(std::uint16_t(pair >> 16 * i)));
}

template <class T>
void multiply_add(float (&sum)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                  Place at = Place::current()) {
  const int thread = linear_thread(), lane = thread % 32;
  WarpExchange& warp = warp_exchange[thread / 32];
  show(warp.tiles[lane], {{a[0], a[1], a[2], a[3]}, {b0, b1}});
  wait_for_warp(at);
  // Two rows of a lie with four lanes; two columns of b with eight.
  const auto left = seen<4>(warp.tiles + lane / 4 * 4);
  const auto right = seen<8>(warp.tiles + lane % 4 * 8);
  for (int k = 0; k < 16; ++k)
    for (int r = 0; r < 2; ++r) {
      const float of_row = element<T>(left[std::size_t(k % 8 / 2)].a[k / 8 * 2 + r], k % 2);
      for (int c = 0; c < 2; ++c)
        sum[2 * r + c] += of_row * element<T>(right[std::size_t(c * 4 + k % 8 / 2)].b[k / 8], k % 2);
    }
  wait_for_warp(at);
}

}  // namespace graft::host_model
