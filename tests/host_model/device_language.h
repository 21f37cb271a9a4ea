// What device code may use of CUDA, for a C++ compiler: qualifiers, barriers, warp collectives, atomics and the
// functions that only a GPU has. It grows when a kernel needs more.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tests/host_model/scheduler.h"
#include "tests/host_model/watch.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
// Blocks run one after another, so one instance is enough; `used`, since the model fills it behind the compiler's back.
#define __shared__ __attribute__((used)) static

// ---- barriers and warp collectives

inline void __syncthreads(graft::host_model::Place at = graft::host_model::Place::current()) {
  graft::host_model::wait_for_block(false, at);
}
inline int __syncthreads_count(int holds, graft::host_model::Place at = graft::host_model::Place::current()) {
  return graft::host_model::wait_for_block(holds != 0, at);
}
inline int __syncthreads_or(int holds, graft::host_model::Place at = graft::host_model::Place::current()) {
  return graft::host_model::wait_for_block(holds != 0, at) > 0;
}
inline int __syncthreads_and(int holds, graft::host_model::Place at = graft::host_model::Place::current()) {
  return graft::host_model::wait_for_block(holds == 0, at) == 0;
}

namespace graft::host_model {

template <class T>
T shuffle(Collective kind, unsigned mask, T value, int argument, int width, Place at) {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) <= 8, "CUDA shuffles numbers");
  CollectiveCall call{.kind = kind, .mask = mask, .argument = argument, .width = width, .place = at};
  std::memcpy(&call.value, &value, sizeof value);
  const std::uint64_t bits = meet(call);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace graft::host_model

inline void __syncwarp(unsigned mask = ~0u, graft::host_model::Place at = graft::host_model::Place::current()) {
  graft::host_model::meet({.kind = graft::host_model::Collective::sync, .mask = mask, .place = at});
}
template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = warpSize,
              graft::host_model::Place at = graft::host_model::Place::current()) {
  return graft::host_model::shuffle(graft::host_model::Collective::from_lane, mask, value, lane, width, at);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = warpSize,
                 graft::host_model::Place at = graft::host_model::Place::current()) {
  return graft::host_model::shuffle(graft::host_model::Collective::from_below, mask, value, int(distance), width, at);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = warpSize,
                   graft::host_model::Place at = graft::host_model::Place::current()) {
  return graft::host_model::shuffle(graft::host_model::Collective::from_above, mask, value, int(distance), width, at);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = warpSize,
                  graft::host_model::Place at = graft::host_model::Place::current()) {
  return graft::host_model::shuffle(graft::host_model::Collective::from_xor, mask, value, lanes, width, at);
}
inline unsigned __ballot_sync(unsigned mask, int holds,
                              graft::host_model::Place at = graft::host_model::Place::current()) {
  return unsigned(graft::host_model::meet(
      {.kind = graft::host_model::Collective::ballot, .mask = mask, .value = std::uint64_t(holds != 0), .place = at}));
}
inline int __any_sync(unsigned mask, int holds, graft::host_model::Place at = graft::host_model::Place::current()) {
  return __ballot_sync(mask, holds, at) != 0;
}
inline int __all_sync(unsigned mask, int holds, graft::host_model::Place at = graft::host_model::Place::current()) {
  return __ballot_sync(mask, holds, at) == mask;
}

[[noreturn]] inline void __trap(graft::host_model::Place at = graft::host_model::Place::current()) {
  graft::host_model::trap(at);
}

// ---- memory: fences, atomics, loads and stores with a choice of cache

inline void __threadfence() { graft::host_model::watch_fence(); }
inline void __threadfence_system() { graft::host_model::watch_fence(); }
inline void __threadfence_block() {}

// The race check learns of these accesses as what they are, so the compiler must not report them as plain ones.
#define GRAFT_UNWATCHED __attribute__((no_sanitize("thread"), noinline))

namespace graft::host_model {

template <class T, class F>
GRAFT_UNWATCHED T atomically(T* p, const F& change) {
  watch_atomic(p, sizeof(T), __builtin_return_address(0));
  const T old = *p;
  *p = change(old);
  return old;
}
template <class T>
GRAFT_UNWATCHED T coherent_load(const T* p) {
  watch_coherent_read(p, sizeof(T), __builtin_return_address(0));
  return *p;
}

template <class T>
using Same = std::type_identity_t<T>;
template <class T>
concept AtomicInteger = std::is_same_v<T, int> || std::is_same_v<T, unsigned> || std::is_same_v<T, unsigned long long>;
template <class T>
concept AtomicNumber = AtomicInteger<T> || std::is_same_v<T, float> || std::is_same_v<T, double>;

}  // namespace graft::host_model

template <graft::host_model::AtomicNumber T>
T atomicAdd(T* p, graft::host_model::Same<T> v) {
  return graft::host_model::atomically(p, [v](T old) { return T(old + v); });
}
template <graft::host_model::AtomicInteger T>
T atomicSub(T* p, graft::host_model::Same<T> v) {
  return graft::host_model::atomically(p, [v](T old) { return T(old - v); });
}
template <graft::host_model::AtomicInteger T>
T atomicMin(T* p, graft::host_model::Same<T> v) {
  return graft::host_model::atomically(p, [v](T old) { return old < v ? old : v; });
}
template <graft::host_model::AtomicInteger T>
T atomicMax(T* p, graft::host_model::Same<T> v) {
  return graft::host_model::atomically(p, [v](T old) { return old < v ? v : old; });
}
template <graft::host_model::AtomicInteger T>
T atomicAnd(T* p, graft::host_model::Same<T> v) {
  return graft::host_model::atomically(p, [v](T old) { return T(old & v); });
}
template <graft::host_model::AtomicInteger T>
T atomicOr(T* p, graft::host_model::Same<T> v) {
  return graft::host_model::atomically(p, [v](T old) { return T(old | v); });
}
/// Counts up to and including `last`, then starts again at 0.
inline unsigned atomicInc(unsigned* p, unsigned last) {
  return graft::host_model::atomically(p, [last](unsigned old) { return old >= last ? 0 : old + 1; });
}
template <graft::host_model::AtomicNumber T>
T atomicExch(T* p, graft::host_model::Same<T> v) {
  return graft::host_model::atomically(p, [v](T) { return v; });
}
template <graft::host_model::AtomicInteger T>
T atomicCAS(T* p, graft::host_model::Same<T> expected, graft::host_model::Same<T> v) {
  return graft::host_model::atomically(p, [=](T old) { return old == expected ? v : old; });
}

// These are instructions for global memory, whatever the address.
template <class T>
T __ldg(const T* p, graft::host_model::Place at = graft::host_model::Place::current()) {
  graft::host_model::expect_global(p, at);
  return *p;
}
template <class T>
T __ldcs(const T* p, graft::host_model::Place at = graft::host_model::Place::current()) {
  graft::host_model::expect_global(p, at);
  return *p;
}
template <class T>
T __ldcg(const T* p, graft::host_model::Place at = graft::host_model::Place::current()) {
  graft::host_model::expect_global(p, at);
  return graft::host_model::coherent_load(p);
}
template <class T>
void __stcs(T* p, graft::host_model::Same<T> v, graft::host_model::Place at = graft::host_model::Place::current()) {
  graft::host_model::expect_global(p, at);
  *p = v;
}
template <class T>
void __stcg(T* p, graft::host_model::Same<T> v, graft::host_model::Place at = graft::host_model::Place::current()) {
  graft::host_model::expect_global(p, at);
  *p = v;
}
/// Also for memory of another type: kernels store several numbers as one.
template <class T>
void __stwb(T* p, graft::host_model::Same<T> v, graft::host_model::Place at = graft::host_model::Place::current()) {
  graft::host_model::expect_global(p, at);
  struct [[gnu::may_alias]] Any {
    T v;
  };
  reinterpret_cast<Any*>(p)->v = v;
}

// ---- numbers

template <class A, class B>
requires std::is_arithmetic_v<A> && std::is_arithmetic_v<B>
constexpr std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  return T(b) < T(a) ? T(b) : T(a);
}
template <class A, class B>
requires std::is_arithmetic_v<A> && std::is_arithmetic_v<B>
constexpr std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  return T(a) < T(b) ? T(b) : T(a);
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(unsigned(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(unsigned(x)) + 1; }
