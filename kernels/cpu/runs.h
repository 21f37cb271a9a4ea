// One way to walk NHWC, NCHW and blocked activations: groups of W neighbouring channels ("lanes"), and for each group
// the pixels of an image at a constant stride. Kernels are written once for W lanes and for both types in which
// activations are stored, and instantiated for 32, 16, 8 and 1. More than 8 lanes are several vectors, since GCC moves
// vectors wider than AVX2's through the stack: a block of 16 channels is one such group, so that its cache lines are
// walked once, and two sums do not wait for each other. In NHWC the pixels of a group lie far apart, and 32 channels
// fill the cache lines that each of them touches.
#pragma once

#include <algorithm>
#include <array>
#include <type_traits>
#include <vector>

#include "kernels/backend.h"
#include "kernels/half.h"

// Vectors wider than the target's registers never cross a function boundary here: everything is inlined.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace graft {

/// Calls body(T{}) with the type in which the CPU stores activations of this type. Errors: it has no such type.
template <class Body>
decltype(auto) with_stored_type(DType type, const Body& body) {
  if (type == DType::f32) return body(float{});
  if (type == DType::bf16) return body(BFloat16{});
  throw Error("cpu: activations are stored in f32 or bf16, not " + std::string(to_string(type)));
}

/// W floats that the compiler keeps in vector registers.
template <int W>
struct Lanes {
  typedef float type __attribute__((vector_size(W * sizeof(float)), aligned(4), may_alias));
};
template <>
struct Lanes<1> {
  using type = float;
};

/// Two halves, with the operators that kernels use.
template <int W>
struct LanePair {
  typename Lanes<W / 2>::type a{}, b{};

#define GRAFT_LANEWISE(op)                                                                          \
  [[gnu::always_inline]] friend inline LanePair operator op(const LanePair& x, const LanePair& y) { \
    return {x.a op y.a, x.b op y.b};                                                                \
  }                                                                                                 \
  [[gnu::always_inline]] friend inline LanePair operator op(const LanePair& x, float y) {           \
    return {x.a op y, x.b op y};                                                                    \
  }                                                                                                 \
  [[gnu::always_inline]] inline LanePair& operator op##=(const LanePair& y) { return *this = *this op y; }
  GRAFT_LANEWISE(+)
  GRAFT_LANEWISE(-)
  GRAFT_LANEWISE(*)
  GRAFT_LANEWISE(/)
#undef GRAFT_LANEWISE
};
template <>
struct Lanes<16> {
  using type = LanePair<16>;
};
template <>
struct Lanes<32> {
  using type = LanePair<32>;
};

namespace detail {

typedef std::uint16_t Bits16x8 __attribute__((vector_size(16), aligned(2), may_alias));
typedef std::uint32_t Bits32x8 __attribute__((vector_size(32)));
typedef std::int32_t Integers32x8 __attribute__((vector_size(32)));
typedef std::uint8_t Bytes8 __attribute__((vector_size(8), aligned(1), may_alias));

}  // namespace detail

/// As many whole numbers as Lanes<W> has floats; W is 8 or 1.
template <int W>
using Integers = std::conditional_t<W == 1, std::int32_t, detail::Integers32x8>;

template <int W>
[[gnu::always_inline]] inline typename Lanes<W>::type load(const float* p) {
  if constexpr (W > 8)
    return {load<W / 2>(p), load<W / 2>(p + W / 2)};
  else
    return *reinterpret_cast<const typename Lanes<W>::type*>(p);
}
template <int W>
[[gnu::always_inline]] inline typename Lanes<W>::type load(const BFloat16* p) {
  if constexpr (W == 1) {
    return *p;
  } else if constexpr (W == 8) {
    const auto bits = *reinterpret_cast<const detail::Bits16x8*>(p);
    return reinterpret_cast<Lanes<8>::type>(__builtin_convertvector(bits, detail::Bits32x8) << 16);
  } else {
    return {load<W / 2>(p), load<W / 2>(p + W / 2)};
  }
}

template <int W>
[[gnu::always_inline]] inline void store(float* p, typename Lanes<W>::type v) {
  if constexpr (W > 8)
    store<W / 2>(p, v.a), store<W / 2>(p + W / 2, v.b);
  else
    *reinterpret_cast<typename Lanes<W>::type*>(p) = v;
}
/// Rounds as BFloat16 does, but W = 8 and more make 0 of what is too small for bf16's exponent, and need the
/// instruction of the processors on which activations may be bf16: without it, rounding takes longer than the memory.
template <int W>
[[gnu::always_inline]] inline void store(BFloat16* p, typename Lanes<W>::type v) {
  if constexpr (W == 1) {
    *p = BFloat16(v);
  } else if constexpr (W == 8) {
    detail::Bits16x8 rounded;
    asm volatile("vcvtneps2bf16 %1, %0" : "=v"(rounded) : "v"(v));
    *reinterpret_cast<detail::Bits16x8*>(p) = rounded;
  } else {
    store<W / 2>(p, v.a), store<W / 2>(p + W / 2, v.b);
  }
}

/// Of what was loaded: nothing is rounded, and nothing too small for a normal number is lost. W is 8 or 1.
template <int W>
[[gnu::always_inline]] inline void store_exact(float* p, typename Lanes<W>::type v) {
  store<W>(p, v);
}
template <int W>
[[gnu::always_inline]] inline void store_exact(BFloat16* p, typename Lanes<W>::type v) {
  if constexpr (W == 1)
    *p = BFloat16(v);
  else
    *reinterpret_cast<detail::Bits16x8*>(p) =
        __builtin_convertvector(reinterpret_cast<detail::Bits32x8>(v) >> 16, detail::Bits16x8);
}

/// Of numbers from 0 to 255.
[[gnu::always_inline]] inline void store_bytes(std::uint8_t* p, std::int32_t v) { *p = std::uint8_t(v); }
[[gnu::always_inline]] inline void store_bytes(std::uint8_t* p, const detail::Integers32x8& v) {
  *reinterpret_cast<detail::Bytes8*>(p) = __builtin_convertvector(v, detail::Bytes8);
}

/// Floats on their way from and to storage, for loops over neighbouring elements.
inline void read_run(float* to, const BFloat16* from, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = float(from[i]);
}
inline void write_run(BFloat16* to, const float* from, std::int64_t count) {
  std::int64_t i = 0;
  if (__builtin_cpu_supports("avx512bf16"))  // a device in f32 may be asked for a copy in bf16, on any processor
    for (; i + 8 <= count; i += 8) store<8>(to + i, load<8>(from + i));
  for (; i < count; ++i) store<1>(to + i, from[i]);
}
inline constexpr std::int64_t kFloatsOnTheWay = 512;

/// to (=|+=) from, rounded once.
inline void add_run(BFloat16* to, Write write, const float* from, std::int64_t count) {
  if (write == Write::overwrite) return write_run(to, from, count);
  std::array<float, kFloatsOnTheWay> sums;
  for (std::int64_t begin = 0; begin < count; begin += kFloatsOnTheWay) {
    const std::int64_t part = std::min(kFloatsOnTheWay, count - begin);
    for (std::int64_t i = 0; i < part; ++i) sums[std::size_t(i)] = float(to[begin + i]) + from[begin + i];
    write_run(to + begin, sums.data(), part);
  }
}

/// max(v, 0); a NaN stays a NaN.
template <class V>
[[gnu::always_inline]] inline V relu(V v) {
  if constexpr (requires { v.a; })
    return {relu(v.a), relu(v.b)};
  else
    return v < 0 ? V{} : v;
}
/// dy where y is positive, else 0.
template <class V>
[[gnu::always_inline]] inline V masked(V dy, V y) {
  if constexpr (requires { y.a; })
    return {masked(dy.a, y.a), masked(dy.b, y.b)};
  else
    return y > 0 ? dy : V{};
}

inline constexpr std::int64_t kPixelsPerRun = 512;  // 32 KB of blocks of 16: five views of a run stay in L2

inline constexpr std::int64_t kPixelsAhead = 16;

/// A piece of work: `width` channels from `channel` on, `pixels` pixels from `pixel` on, of image n.
struct Run {
  std::int64_t n, channel, pixel, pixels;
  int width;
};

/// Cuts a shape into runs. All activations of one call share shape, format and type, so one list serves them.
class Runs {
 public:
  explicit Runs(const ConstView& v) : type_(v.dtype), shape_(v.shape), strides_(strides_of(v)) {
    const std::int64_t block = strides_.block;
    for (std::int64_t c = 0; c < shape_.c;) {
      const std::int64_t left = std::min(block - c % block, shape_.c - c);
      const int width = left >= 32 ? 32 : left >= 16 ? 16 : left >= 8 ? 8 : 1;
      groups_.push_back({c, width});
      c += width;
    }
    chunks_ = (shape_.pixels() + kPixelsPerRun - 1) / kPixelsPerRun;
  }

  DType type() const { return type_; }
  std::int64_t size() const { return shape_.n * chunks_ * std::int64_t(groups_.size()); }
  /// Which of the `parts()` pieces of a channel's pixels a run is: partial sums are kept per part and added in this
  /// order, so results do not depend on the number of threads.
  std::int64_t parts() const { return shape_.n * chunks_; }
  std::int64_t part(const Run& r) const { return r.n * chunks_ + r.pixel / kPixelsPerRun; }

  Run operator[](std::int64_t i) const {
    const std::int64_t groups = std::int64_t(groups_.size());
    const std::int64_t group = i % groups, chunk = i / groups % chunks_, n = i / groups / chunks_;
    const std::int64_t pixel = chunk * kPixelsPerRun;
    return {n, groups_[group].channel, pixel, std::min(kPixelsPerRun, shape_.pixels() - pixel), groups_[group].width};
  }

 private:
  struct Group {
    std::int64_t channel;
    int width;
  };
  DType type_;
  Shape shape_;
  Strides strides_;
  std::vector<Group> groups_;
  std::int64_t chunks_;
};

/// Where a run of a view starts, and the distance between its pixels.
template <class T>
struct Cursor {
  T* p;
  std::int64_t stride;
  /// The run's pixel i. In NHWC the processor does not foresee the next ones, which lie far apart: they are sent for.
  template <int W>
  [[gnu::always_inline]] T* at(std::int64_t i) const {
    if constexpr (W == 32) __builtin_prefetch(p + (i + kPixelsAhead) * stride);
    return p + i * stride;
  }
};
template <class T>
Cursor<const T> cursor(const ConstView& v, const Run& r) {
  const Strides s = strides_of(v);
  return {v.as<T>() + s(r.n, r.channel, r.pixel), s.pixel};
}
template <class T>
Cursor<T> cursor(const View& v, const Run& r) {
  const Strides s = strides_of(v);
  return {v.as<T>() + s(r.n, r.channel, r.pixel), s.pixel};
}

/// Calls kernel.template operator()<W, T>(run) for every run, in parallel; T is what the views of activations hold.
template <class Kernel>
void for_each_run(const Runs& runs, const Kernel& kernel) {
  const std::int64_t count = runs.size();
  with_stored_type(runs.type(), [&](auto stored) {
    using T = decltype(stored);
#pragma omp parallel for schedule(static)
    for (std::int64_t i = 0; i < count; ++i) {
      const Run r = runs[i];
      if (r.width == 32)
        kernel.template operator()<32, T>(r);
      else if (r.width == 16)
        kernel.template operator()<16, T>(r);
      else if (r.width == 8)
        kernel.template operator()<8, T>(r);
      else
        kernel.template operator()<1, T>(r);
    }
  });
}

}  // namespace graft
