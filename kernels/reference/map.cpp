// Element-wise formulas and copies on the reference device.
#include <cmath>
#include <utility>

#include "kernels/half.h"
#include "kernels/reference/reference.h"

namespace graft {
namespace {

/// The element's index that a functor sees: its place in a dense tensor of the same shape and format.
std::int64_t dense_index(const ConstView& v, std::int64_t n, std::int64_t channel, std::int64_t pixel) {
  ConstView dense = v;
  dense.pitch = v.shape.c;
  return strides_of(dense)(n, channel, pixel);
}

template <class F>
void map_elements(const F& f, const View& out, Write write, const ConstView* in, int inputs, int threads) {
  const ConstView& a = in[0];
  const ConstView& b = inputs > 1 ? in[1] : in[0];
  const ConstView& c = inputs > 2 ? in[2] : in[0];
  const ChannelGroups groups{out, a, b, c};
#pragma omp parallel for collapse(2) num_threads(threads)
  for (std::int64_t n = 0; n < out.shape.n; ++n)
    for (std::int64_t i = 0; i < groups.size(); ++i)
      for (std::int64_t p = 0; p < out.shape.pixels(); ++p) {
        const ChannelGroup g = groups[i];
        const std::int64_t index = dense_index(out, n, g.first, p);
        const double *pa = at(a, n, g, p), *pb = at(b, n, g, p), *pc = at(c, n, g, p);
        double* y = at(out, n, g, p);
        for (std::int64_t l = 0; l < g.count; ++l) {
          const double v = f(index + l, pa[l], pb[l], pc[l]);
          y[l] = write == Write::add ? y[l] + v : v;
        }
      }
}

using MapFn = void (*)(const void* functor, const View&, Write, const ConstView*, int inputs, int threads);

template <std::size_t... I>
constexpr std::array<MapFn, sizeof...(I)> map_table(std::index_sequence<I...>) {
  return {[](const void* functor, const View& out, Write write, const ConstView* in, int inputs, int threads) {
    map_elements(*static_cast<const std::tuple_element_t<I, MapFunctors>*>(functor), out, write, in, inputs, threads);
  }...};
}

template <class T>
constexpr bool kIsHalf = sizeof(T) == 2;

/// `to` or the sum of both, in To's own arithmetic; in double where that is 16 bits.
template <class To, class From>
To written(To old, From from, Write write) {
  if constexpr (kIsHalf<To>)
    return To(write == Write::add ? double(old) + double(from) : double(from));
  else
    return write == Write::add ? old + To(from) : To(from);
}

template <class To, class From>
void copy_elements(const View& y, Write write, const ConstView& x, int threads) {
  const ChannelGroups groups{y, x};
#pragma omp parallel for collapse(2) num_threads(threads)
  for (std::int64_t n = 0; n < y.shape.n; ++n)
    for (std::int64_t i = 0; i < groups.size(); ++i) {
      const ChannelGroup g = groups[i];
      for (std::int64_t p = 0; p < y.shape.pixels(); ++p) {
        const From* from = at<From>(x, n, g, p);
        To* to = at<To>(y, n, g, p);
        for (std::int64_t l = 0; l < g.count; ++l) to[l] = written(to[l], from[l], write);
      }
    }
}

template <class T>
bool finite(const ConstView& x) {
  const ChannelGroups groups{x};
  for (std::int64_t n = 0; n < x.shape.n; ++n)
    for (std::int64_t i = 0; i < groups.size(); ++i)
      for (std::int64_t p = 0; p < x.shape.pixels(); ++p) {
        const ChannelGroup g = groups[i];
        const T* v = at<T>(x, n, g, p);
        for (std::int64_t l = 0; l < g.count; ++l)
          if (!std::isfinite(double(v[l]))) return false;
      }
  return true;
}

}  // namespace

void ReferenceBackend::run_map(const MapCall& call) {
  static constexpr auto kTable = map_table(std::make_index_sequence<std::tuple_size_v<MapFunctors>>());
  if (call.out.dtype != DType::f64) throw Error("map: the reference device computes in f64");
  kTable[std::size_t(call.functor)](call.parameters, call.out, call.write, call.in, call.inputs, threads_);
}

void ReferenceBackend::copy(View y, Write write, ConstView x) {
  if (y.shape != x.shape) throw Error("copy: shapes differ: " + to_string(x.shape) + " to " + to_string(y.shape));
  with_float_type(y.dtype, [&](auto to) {
    with_float_type(x.dtype, [&](auto from) { copy_elements<decltype(to), decltype(from)>(y, write, x, threads_); });
  });
}

bool ReferenceBackend::all_finite(ConstView x) {
  return with_float_type(x.dtype, [&](auto t) { return finite<decltype(t)>(x); });
}

}  // namespace graft
