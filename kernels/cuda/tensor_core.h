// The instructions of tensor cores, a warp's products of small tiles of 16-bit numbers with sums in float. How a tile's
// elements lie in the lanes' registers is PTX's "matrix fragments for mma.m16n8k16"; kernels need to know it of sums
// alone. On the host, where tests run kernels, those of a warp have twins in tests/host_model/tensor_core.h.
#pragma once

#include "kernels/cuda/packs.h"

#ifdef __CUDACC__
#define GRAFT_TENSOR_CORE_PTX 1
#endif

namespace graft::gpu {

inline constexpr int kTileSize = 16;
inline constexpr int kTilePack = 8;     // 16-bit numbers that a thread moves at once
inline constexpr int kTilePadding = 8;  // of rows in shared memory, so that those of a tile lie in different banks

/// Four matrices of 8 x 8. Lanes 8 m .. 8 m + 7 name the rows of matrix m: `row` is where a lane's begins, in shared
/// memory at a multiple of 16 bytes. Transposed, the registers hold columns.
__device__ __forceinline__ void load_matrices(std::uint32_t (&to)[4], const void* row) {
#ifdef GRAFT_TENSOR_CORE_PTX
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(unsigned(__cvta_generic_to_shared(row))));
#else
  host_model::load_matrices(to, row, false);
#endif
}
__device__ __forceinline__ void load_matrices_transposed(std::uint32_t (&to)[4], const void* row) {
#ifdef GRAFT_TENSOR_CORE_PTX
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(unsigned(__cvta_generic_to_shared(row))));
#else
  host_model::load_matrices(to, row, true);
#endif
}

/// sum [16,8] += a [16,16] * b [16,8].
template <class T>
__device__ __forceinline__ void multiply_add(float (&sum)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                             std::uint32_t b1) {
#ifdef GRAFT_TENSOR_CORE_PTX
  if constexpr (std::is_same_v<T, __nv_bfloat16>)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  host_model::multiply_add<T>(sum, a, b0, b1);
#endif
}

/// Two numbers rounded as they are stored, the first in the lower half. With a ReLU negative ones are zero; a NaN
/// stays.
template <class T, bool HasRelu = false>
__device__ __forceinline__ std::uint32_t narrow_pair(float low, float high) {
#ifdef GRAFT_TENSOR_CORE_PTX
  constexpr bool kIsBf16 = std::is_same_v<T, __nv_bfloat16>;
  std::uint32_t pair;
  if constexpr (kIsBf16 && HasRelu) asm("cvt.rn.relu.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  if constexpr (kIsBf16 && !HasRelu) asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  if constexpr (!kIsBf16 && HasRelu) asm("cvt.rn.relu.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  if constexpr (!kIsBf16 && !HasRelu) asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  if (HasRelu) low = low < 0 ? 0.0f : low, high = high < 0 ? 0.0f : high;
  return std::uint32_t(std::bit_cast<std::uint16_t>(narrow<T>(high))) << 16 |
         std::bit_cast<std::uint16_t>(narrow<T>(low));
#endif
}
template <class T>
__device__ __forceinline__ float low_of(std::uint32_t pair) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) return std::bit_cast<float>(pair << 16);
  return widen(std::bit_cast<T>(static_cast<std::uint16_t>(pair)));
}
template <class T>
__device__ __forceinline__ float high_of(std::uint32_t pair) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) return std::bit_cast<float>(pair & 0xffff0000u);
  return widen(std::bit_cast<T>(static_cast<std::uint16_t>(pair >> 16)));
}

/// 16 bytes on their way from global to shared memory, or zeros: there for this thread once it has waited, for others
/// behind a barrier after that. Both addresses are multiples of 16. On the host they are there at once, so that tests
/// see a missing barrier, not a missing wait.
__device__ __forceinline__ void begin_copy(void* shared, const void* global, bool wanted = true) {
#ifdef GRAFT_TENSOR_CORE_PTX
  const unsigned to = unsigned(__cvta_generic_to_shared(shared)), bytes = wanted ? 16 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes) : "memory");
#else
  *static_cast<uint4*>(shared) = wanted ? *static_cast<const uint4*>(global) : uint4{};
#endif
}
/// For all that this thread has begun.
__device__ __forceinline__ void wait_for_copies() {
#ifdef GRAFT_TENSOR_CORE_PTX
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

/// A tile as the left factor, 16 rows by 16 columns.
struct LeftTile {
  std::uint32_t parts[4];
};
/// A tile as the right factor, 16 rows by two times 8 columns.
struct RightTile {
  std::uint32_t parts[4];
};
/// 16 x 16 sums: of lane l the rows l / 4 and 8 more, the columns 2 * (l % 4), the next, and those 8 further on.
struct SumTile {
  float halves[2][4] = {};
};

namespace detail {
/// Which row of a tile in memory a lane names, where the 8-blocks go down first or to the right first.
template <class T>
__device__ __forceinline__ const T* down_first(const T* tile, int pitch, int lane) {
  return tile + lane % 16 * pitch + lane / 16 * 8;
}
template <class T>
__device__ __forceinline__ const T* right_first(const T* tile, int pitch, int lane) {
  return tile + (lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 8;
}
}  // namespace detail

/// Tiles from shared memory, whose rows lie `pitch` elements apart: an odd multiple of 8, or lanes wait for one
/// another.
template <class T>
__device__ __forceinline__ LeftTile load_left(const T* tile, int pitch, int lane) {
  LeftTile t;
  load_matrices(t.parts, detail::down_first(tile, pitch, lane));
  return t;
}
template <class T>
__device__ __forceinline__ LeftTile load_left_of_transposed(const T* tile, int pitch, int lane) {
  LeftTile t;
  load_matrices_transposed(t.parts, detail::right_first(tile, pitch, lane));
  return t;
}
template <class T>
__device__ __forceinline__ RightTile load_right(const T* tile, int pitch, int lane) {
  RightTile t;
  load_matrices_transposed(t.parts, detail::down_first(tile, pitch, lane));
  return t;
}
template <class T>
__device__ __forceinline__ RightTile load_right_of_transposed(const T* tile, int pitch, int lane) {
  RightTile t;
  load_matrices(t.parts, detail::right_first(tile, pitch, lane));
  return t;
}

template <class T>
__device__ __forceinline__ void multiply_add(SumTile& sum, const LeftTile& a, const RightTile& b) {
  for (int h = 0; h < 2; ++h) multiply_add<T>(sum.halves[h], a.parts, b.parts[2 * h], b.parts[2 * h + 1]);
}

/// A tile's sums as they are stored, in pairs: [h][r] of SumTile's halves[h][2 r] and the next.
struct RoundedTile {
  std::uint32_t pairs[2][2];
};
template <class T>
__device__ __forceinline__ RoundedTile rounded(const SumTile& sum) {
  RoundedTile t;
  for (int h = 0; h < 2; ++h)
    for (int r = 0; r < 2; ++r) t.pairs[h][r] = narrow_pair<T>(sum.halves[h][2 * r], sum.halves[h][2 * r + 1]);
  return t;
}

/// To shared memory with the pitch of tiles.
template <class T>
__device__ __forceinline__ void store_tile(T* tile, int pitch, const RoundedTile& t, int lane) {
  for (int h = 0; h < 2; ++h)
    for (int r = 0; r < 2; ++r)
      *reinterpret_cast<std::uint32_t*>(tile + (lane / 4 + 8 * r) * pitch + lane % 4 * 2 + 8 * h) = t.pairs[h][r];
}

/// To rows `pitch` floats apart, in any memory that takes 8 bytes at once. In shared memory a pitch of 8 more than a
/// multiple of 32 keeps the lanes in different banks.
__device__ __forceinline__ void store_sums(float* tile, std::int64_t pitch, const SumTile& sum, int lane) {
  for (int h = 0; h < 2; ++h)
    for (int r = 0; r < 2; ++r)
      *reinterpret_cast<float2*>(tile + (lane / 4 + 8 * r) * pitch + lane % 4 * 2 + 8 * h) =
          make_float2(sum.halves[h][2 * r], sum.halves[h][2 * r + 1]);
}

}  // namespace graft::gpu
