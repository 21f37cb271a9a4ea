// How kernels move elements: W neighbours at once, of float, bfloat16 or half. Loads widen to float, stores round to
// the nearest and ties to even; all arithmetic in between is float's or double's.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <bit>
#include <initializer_list>
#include <type_traits>

#include "kernels/backend.h"
#include "kernels/cuda/gpu.h"

namespace graft::gpu {

template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, double>) return DType::f64;
  if constexpr (std::is_same_v<T, __nv_bfloat16>) return DType::bf16;
  if constexpr (std::is_same_v<T, __half>) return DType::f16;
  return DType::f32;
}

/// What numbers of a storage type are computed in.
template <class T>
using Compute = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class T>
__device__ __forceinline__ Compute<T> widen(T v) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>)
    return __bfloat162float(v);
  else if constexpr (std::is_same_v<T, __half>)
    return __half2float(v);
  else
    return v;
}

template <class T, class V>
__device__ __forceinline__ T narrow(V v) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>)
    return __float2bfloat16_rn(float(v));
  else if constexpr (std::is_same_v<T, __half>)
    return __float2half_rn(float(v));
  else
    return T(v);
}

/// W neighbouring numbers in registers.
template <int W>
struct Pack {
  float v[W];
};

/// The same in memory; 16 bytes, or a part of them, are one access.
template <class T, int W>
struct alignas(sizeof(T) * W < 16 ? sizeof(T) * W : 16) Elements {
  T v[W];
};

template <int W, class T>
__device__ __forceinline__ Pack<W> load(const T* p) {
  const Elements<T, W> e = *reinterpret_cast<const Elements<T, W>*>(p);
  Pack<W> a;
  for (int l = 0; l < W; ++l) a.v[l] = widen(e.v[l]);
  return a;
}

/// Numbers that wait for their turn, in pairs as they are stored: as single ones they would take a register each.
template <class T, int W>
struct Waiting {
  static constexpr bool kPairs = sizeof(T) == 2 && W > 1;
  using Part = std::conditional_t<kPairs, std::uint32_t, T>;
  static constexpr int kParts = kPairs ? W / 2 : W;
  Elements<Part, kParts> parts;
};

template <int W, class T>
__device__ __forceinline__ Waiting<T, W> load_waiting(const T* p) {
  return *reinterpret_cast<const Waiting<T, W>*>(p);
}

template <class T, int W>
__device__ __forceinline__ Pack<W> widened(const Waiting<T, W>& w) {
  Pack<W> a;
  for (int l = 0; l < W; ++l) {
    if constexpr (Waiting<T, W>::kPairs)
      a.v[l] = widen(std::bit_cast<T>(static_cast<std::uint16_t>(w.parts.v[l / 2] >> (l % 2 * 16))));
    else
      a.v[l] = widen(w.parts.v[l]);
  }
  return a;
}

/// Stores e in accesses of 16 or 8 bytes, as far as it has so many. An assignment can become one access per member.
template <class E>
__device__ __forceinline__ void store_wide(void* p, const E& e) {
  using Word = std::conditional_t<sizeof(E) % 16 == 0, uint4, uint2>;
  if constexpr (sizeof(E) % sizeof(Word) == 0) {
    struct Words {
      Word v[sizeof(E) / sizeof(Word)];
    };
    const Words words = std::bit_cast<Words>(e);
    for (std::size_t i = 0; i < sizeof(E) / sizeof(Word); ++i) __stwb(static_cast<Word*>(p) + i, words.v[i]);
  } else {
    *static_cast<E*>(p) = e;
  }
}

template <int W, class T>
__device__ __forceinline__ void store(T* p, const Pack<W>& a) {
  Elements<T, W> e;
  for (int l = 0; l < W; ++l) e.v[l] = narrow<T>(a.v[l]);
  store_wide(p, e);
}

/// The largest float that a store of T leaves as zero: half of T's smallest number, a tie that goes to even.
template <class T>
inline constexpr float kRoundsToZero = std::is_same_v<T, __nv_bfloat16> ? 0x1p-134f
                                       : std::is_same_v<T, __half>      ? 0x1p-25f
                                                                        : 0.0f;

/// Stores, or adds to what is there.
template <int W, class T>
__device__ __forceinline__ void write(T* p, Pack<W> a, bool adds) {
  if (adds) {
    const Pack<W> old = load<W>(p);
    for (int l = 0; l < W; ++l) a.v[l] += old.v[l];
  }
  store<W>(p, a);
}

/// Elements in 16 bytes.
template <class T>
inline constexpr int kWide = 16 / int(sizeof(T));

/// Whether `width` elements from a view's first on can be moved at once.
inline bool is_aligned(const ConstView& v, int width) {
  const std::int64_t bytes = width * size_of(v.dtype);
  return reinterpret_cast<std::uintptr_t>(v.data) % std::uintptr_t(bytes < 16 ? bytes : 16) == 0;
}

/// Whether every view's channels can be moved `width` at a time. Views without data do not matter.
inline bool can_move(int width, std::initializer_list<ConstView> views) {
  for (const ConstView& v : views)
    if (v.data && (v.shape.c % width != 0 || v.pitch % width != 0 || !is_aligned(v, width))) return false;
  return true;
}

/// Calls body.operator()<T>() with the type in which activations are stored.
/// Errors: another type.
template <class Body>
void with_type(const char* op, DType dtype, const Body& body) {
  switch (dtype) {
    case DType::f32:
      return body.template operator()<float>();
    case DType::bf16:
      return body.template operator()<__nv_bfloat16>();
    case DType::f16:
      return body.template operator()<__half>();
    default:
      throw Error(std::string(op) + ": the GPU takes f32, bf16 and f16, got " + std::string(to_string(dtype)) +
                  "; copy it first");
  }
}

/// The same for kernels on tensor cores.
template <class Body>
void with_half_type(const char* op, DType dtype, const Body& body) {
  if (dtype == DType::bf16) return body.template operator()<__nv_bfloat16>();
  if (dtype == DType::f16) return body.template operator()<__half>();
  throw Error(std::string(op) + ": takes bf16 and f16, got " + std::string(to_string(dtype)));
}

/// Calls body.operator()<T, W>() with the type of `first` and the widest pack that all views allow, or single elements.
template <class Body>
void with_packs(const char* op, const ConstView& first, std::initializer_list<ConstView> others, const Body& body) {
  with_type(op, first.dtype, [&]<class T>() {
    if (can_move(kWide<T>, {first}) && can_move(kWide<T>, others))
      body.template operator()<T, kWide<T>>();
    else
      body.template operator()<T, 1>();
  });
}

}  // namespace graft::gpu
