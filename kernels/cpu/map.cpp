// Element-wise formulas and copies between formats on the CPU.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <utility>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/runs.h"

namespace graft {
namespace {

/// A view as rows of neighbouring elements in the same order for every view of one call: for slices and tails.
struct Rows {
  std::int64_t images, groups, pixels, lanes;
  explicit Rows(const ConstView& v)
      : images(v.shape.n),
        groups(v.format == kNhwc ? 1 : v.shape.c / v.format.block),
        pixels(v.shape.pixels()),
        lanes(v.format == kNhwc ? v.shape.c : v.format.block) {}
};

constexpr std::int64_t kChunk = 1 << 14;

/// y = f(...) for neighbouring elements from `index` on. An element's inputs are read before it is written, so y may be
/// one of them.
template <class F>
void map_run(const F& f, std::int64_t index, std::int64_t count, float* y, Write write, const float* a, const float* b,
             const float* c) {
  if (write == Write::add) {
#pragma GCC ivdep
    for (std::int64_t i = 0; i < count; ++i) y[i] += f(index + i, a[i], b[i], c[i]);
  } else {
#pragma GCC ivdep
    for (std::int64_t i = 0; i < count; ++i) y[i] = f(index + i, a[i], b[i], c[i]);
  }
}
template <class F>
void map_run(const F& f, std::int64_t index, std::int64_t count, BFloat16* y, Write write, const BFloat16* a,
             const BFloat16* b, const BFloat16* c) {
  std::array<float, kFloatsOnTheWay> to, from_a, from_b, from_c;
  for (std::int64_t begin = 0; begin < count; begin += kFloatsOnTheWay) {
    const std::int64_t part = std::min(kFloatsOnTheWay, count - begin);
    if (write == Write::add) read_run(to.data(), y + begin, part);
    read_run(from_a.data(), a + begin, part);
    if constexpr (F::kInputs > 1) read_run(from_b.data(), b + begin, part);
    if constexpr (F::kInputs > 2) read_run(from_c.data(), c + begin, part);
    map_run(f, index + begin, part, to.data(), write, from_a.data(), F::kInputs > 1 ? from_b.data() : from_a.data(),
            F::kInputs > 2 ? from_c.data() : from_a.data());
    write_run(y + begin, to.data(), part);
  }
}

template <class T, class F>
void map_elements(const F& f, const View& out, Write write, const ConstView* in, int inputs) {
  const ConstView& a = in[0];
  const ConstView& b = inputs > 1 ? in[1] : in[0];
  const ConstView& c = inputs > 2 ? in[2] : in[0];
  if (out.is_dense() && a.is_dense() && b.is_dense() && c.is_dense()) {
    const std::int64_t size = out.shape.size();
#pragma omp parallel for schedule(static)
    for (std::int64_t i = 0; i < size; i += kChunk)
      map_run(f, i, std::min(kChunk, size - i), out.as<T>() + i, write, a.as<T>() + i, b.as<T>() + i, c.as<T>() + i);
    return;
  }
  const Rows rows(out);
  const Strides sy = strides_of(out), sa = strides_of(a), sb = strides_of(b), sc = strides_of(c);
#pragma omp parallel for collapse(2) schedule(static)
  for (std::int64_t n = 0; n < rows.images; ++n)
    for (std::int64_t g = 0; g < rows.groups; ++g)
      for (std::int64_t p = 0; p < rows.pixels; ++p) {
        const std::int64_t channel = g * rows.lanes;
        map_run(f, ((n * rows.groups + g) * rows.pixels + p) * rows.lanes, rows.lanes, out.as<T>() + sy(n, channel, p),
                write, a.as<T>() + sa(n, channel, p), b.as<T>() + sb(n, channel, p), c.as<T>() + sc(n, channel, p));
      }
}

using MapFn = void (*)(const void* functor, const View&, Write, const ConstView*, int);

template <std::size_t... I>
constexpr std::array<MapFn, sizeof...(I)> map_table(std::index_sequence<I...>) {
  return {[](const void* functor, const View& out, Write write, const ConstView* in, int inputs) {
    with_stored_type(out.dtype, [&](auto stored) {
      map_elements<decltype(stored)>(*static_cast<const std::tuple_element_t<I, MapFunctors>*>(functor), out, write, in,
                                     inputs);
    });
  }...};
}

template <class To, class From>
void copy_run(std::int64_t count, To* to, Write write, const From* from) {
  using Sum = std::conditional_t<std::is_same_v<To, double> || std::is_same_v<From, double>, double, float>;
  if constexpr (std::is_same_v<To, From>) {
    if (write == Write::overwrite) return void(std::copy_n(from, count, to));
  }
  if constexpr (std::is_same_v<To, BFloat16> && std::is_same_v<From, float>) return add_run(to, write, from, count);
  if (write == Write::add)
    for (std::int64_t i = 0; i < count; ++i) to[i] = To(Sum(to[i]) + Sum(from[i]));
  else
    for (std::int64_t i = 0; i < count; ++i) to[i] = To(Sum(from[i]));
}

template <class To, class From>
void copy_elements(const View& y, Write write, const ConstView& x) {
  if (y.format == x.format && y.is_dense() && x.is_dense()) {
    const std::int64_t size = y.shape.size();
#pragma omp parallel for schedule(static)
    for (std::int64_t i = 0; i < size; i += kChunk)
      copy_run(std::min(kChunk, size - i), y.as<To>() + i, write, x.as<From>() + i);
    return;
  }
  const Strides sy = strides_of(y), sx = strides_of(x);
  // The longest runs of channels that are neighbours on both sides.
  const std::int64_t lanes = std::min(sy.block, sx.block);
  const std::int64_t groups = (y.shape.c + lanes - 1) / lanes;
#pragma omp parallel for collapse(2) schedule(static)
  for (std::int64_t n = 0; n < y.shape.n; ++n)
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::int64_t channel = g * lanes, count = std::min(lanes, y.shape.c - channel);
      To* to = y.as<To>() + sy(n, channel, 0);
      const From* from = x.as<From>() + sx(n, channel, 0);
      const std::int64_t pixels = y.shape.pixels();
      // Single values, as when a weight passes into a file's order, are not worth a call each.
      if (std::is_same_v<To, From> && count == 1 && write == Write::overwrite)
        for (std::int64_t p = 0; p < pixels; ++p) to[p * sy.pixel] = To(from[p * sx.pixel]);
      else
        for (std::int64_t p = 0; p < pixels; ++p) copy_run(count, to + p * sy.pixel, write, from + p * sx.pixel);
    }
}

/// By their bits without the sign: infinity's are above those of every number, and a NaN's above infinity's.
template <class T>
bool are_finite(const T* v, std::int64_t count) {
  std::uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
  for (std::int64_t i = 0; i < count; ++i)
    largest = std::max(largest, std::bit_cast<std::uint32_t>(float(v[i])) & 0x7fffffffu);
  return largest < 0x7f800000u;
}

}  // namespace

void CpuBackend::run_map(const MapCall& call) {
  static constexpr auto kTable = map_table(std::make_index_sequence<std::tuple_size_v<MapFunctors>>());
  kTable[std::size_t(call.functor)](call.parameters, call.out, call.write, call.in, call.inputs);
}

void CpuBackend::copy(View y, Write write, ConstView x) {
  if (y.shape != x.shape) throw Error("copy: shapes differ: " + to_string(x.shape) + " to " + to_string(y.shape));
  with_float_type(y.dtype, [&](auto to) {
    with_float_type(x.dtype, [&](auto from) { copy_elements<decltype(to), decltype(from)>(y, write, x); });
  });
}

bool CpuBackend::all_finite(ConstView x) {
  const Rows rows(x);
  const Strides s = strides_of(x);
  constexpr std::int64_t kPart = std::int64_t{1} << 16;  // of what is dense, such as all weights at once, for a thread
  const std::int64_t parts = (x.shape.size() + kPart - 1) / kPart;
  bool finite = true;
  with_stored_type(x.dtype, [&](auto stored) {
    const auto* v = x.as<decltype(stored)>();
    if (x.is_dense()) {
#pragma omp parallel for schedule(static) reduction(&& : finite)
      for (std::int64_t part = 0; part < parts; ++part)
        finite = finite && are_finite(v + part * kPart, std::min(kPart, x.shape.size() - part * kPart));
      return;
    }
#pragma omp parallel for collapse(2) schedule(static) reduction(&& : finite)
    for (std::int64_t n = 0; n < rows.images; ++n)
      for (std::int64_t g = 0; g < rows.groups; ++g)
        for (std::int64_t p = 0; p < rows.pixels; ++p)
          finite = finite && are_finite(v + s(n, g * rows.lanes, p), rows.lanes);
  });
  return finite;
}

}  // namespace graft
