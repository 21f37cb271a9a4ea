// Element-wise formulas and copies between formats on the CPU.
#include <cmath>
#include <cstdint>
#include <utility>

#include "kernels/cpu/cpu_device.h"

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

template <class F>
void map_elements(const F& f, const View& out, Write write, const ConstView* in, int inputs) {
  const auto apply = [&](std::int64_t index, std::int64_t count, float* y, const float* a, const float* b,
                         const float* c) {
    if (write == Write::add)
      for (std::int64_t i = 0; i < count; ++i) y[i] += f(index + i, a[i], b[i], c[i]);
    else
      for (std::int64_t i = 0; i < count; ++i) y[i] = f(index + i, a[i], b[i], c[i]);
  };
  const ConstView& a = in[0];
  const ConstView& b = inputs > 1 ? in[1] : in[0];
  const ConstView& c = inputs > 2 ? in[2] : in[0];
  if (out.is_dense() && a.is_dense() && b.is_dense() && c.is_dense()) {
    const std::int64_t size = out.shape.size();
#pragma omp parallel for schedule(static)
    for (std::int64_t i = 0; i < size; i += kChunk)
      apply(i, std::min(kChunk, size - i), out.as<float>() + i, a.as<float>() + i, b.as<float>() + i,
            c.as<float>() + i);
    return;
  }
  const Rows rows(out);
  const Strides sy = strides_of(out), sa = strides_of(a), sb = strides_of(b), sc = strides_of(c);
#pragma omp parallel for collapse(2) schedule(static)
  for (std::int64_t n = 0; n < rows.images; ++n)
    for (std::int64_t g = 0; g < rows.groups; ++g)
      for (std::int64_t p = 0; p < rows.pixels; ++p) {
        const std::int64_t channel = g * rows.lanes;
        apply(((n * rows.groups + g) * rows.pixels + p) * rows.lanes, rows.lanes, out.as<float>() + sy(n, channel, p),
              a.as<float>() + sa(n, channel, p), b.as<float>() + sb(n, channel, p), c.as<float>() + sc(n, channel, p));
      }
}

using MapFn = void (*)(const void* functor, const View&, Write, const ConstView*, int);

template <std::size_t... I>
constexpr std::array<MapFn, sizeof...(I)> map_table(std::index_sequence<I...>) {
  return {[](const void* functor, const View& out, Write write, const ConstView* in, int inputs) {
    map_elements(*static_cast<const std::tuple_element_t<I, MapFunctors>*>(functor), out, write, in, inputs);
  }...};
}

template <class To, class From>
void copy_elements(const View& y, Write write, const ConstView& x) {
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
      for (std::int64_t p = 0; p < y.shape.pixels(); ++p, to += sy.pixel, from += sx.pixel) {
        if (write == Write::add)
          for (std::int64_t l = 0; l < count; ++l) to[l] += To(from[l]);
        else
          for (std::int64_t l = 0; l < count; ++l) to[l] = To(from[l]);
      }
    }
}

}  // namespace

void CpuBackend::run_map(const MapCall& call) {
  static constexpr auto kTable = map_table(std::make_index_sequence<std::tuple_size_v<MapFunctors>>());
  if (call.out.dtype != DType::f32) throw Error("map: the cpu computes in f32");
  kTable[std::size_t(call.functor)](call.parameters, call.out, call.write, call.in, call.inputs);
}

void CpuBackend::copy(View y, Write write, ConstView x) {
  if (y.shape != x.shape) throw Error("copy: shapes differ: " + to_string(x.shape) + " to " + to_string(y.shape));
  const bool from_double = x.dtype == DType::f64, to_double = y.dtype == DType::f64;
  if (!from_double && !to_double && y.format == x.format && y.is_dense() && x.is_dense())
    return map(Identity{}, y, write, {x});
  if (to_double)
    from_double ? copy_elements<double, double>(y, write, x) : copy_elements<double, float>(y, write, x);
  else
    from_double ? copy_elements<float, double>(y, write, x) : copy_elements<float, float>(y, write, x);
}

bool CpuBackend::all_finite(ConstView x) {
  const Rows rows(x);
  const Strides s = strides_of(x);
  bool finite = true;
#pragma omp parallel for collapse(2) schedule(static) reduction(&& : finite)
  for (std::int64_t n = 0; n < rows.images; ++n)
    for (std::int64_t g = 0; g < rows.groups; ++g)
      for (std::int64_t p = 0; p < rows.pixels; ++p) {
        const float* v = x.as<float>() + s(n, g * rows.lanes, p);
        for (std::int64_t l = 0; l < rows.lanes; ++l) finite = finite && std::isfinite(v[l]);
      }
  return finite;
}

}  // namespace graft
