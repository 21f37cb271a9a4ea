// Element-wise formulas and copies on the reference device.
#include <cmath>
#include <utility>

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

template <class To, class From>
void copy_elements(const View& y, Write write, const ConstView& x, int threads) {
  const ChannelGroups groups{y, x};
#pragma omp parallel for collapse(2) num_threads(threads)
  for (std::int64_t n = 0; n < y.shape.n; ++n)
    for (std::int64_t i = 0; i < groups.size(); ++i)
      for (std::int64_t p = 0; p < y.shape.pixels(); ++p) {
        const ChannelGroup g = groups[i];
        const From* from = at<From>(x, n, g, p);
        To* to = at<To>(y, n, g, p);
        for (std::int64_t l = 0; l < g.count; ++l) to[l] = write == Write::add ? to[l] + To(from[l]) : To(from[l]);
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
          if (!std::isfinite(v[l])) return false;
      }
  return true;
}

void require_float(const char* call, DType dtype) {
  if (dtype != DType::f32 && dtype != DType::f64)
    throw Error(std::string(call) + ": the reference device takes f32 and f64, got " + std::string(to_string(dtype)));
}

}  // namespace

void ReferenceBackend::run_map(const MapCall& call) {
  static constexpr auto kTable = map_table(std::make_index_sequence<std::tuple_size_v<MapFunctors>>());
  if (call.out.dtype != DType::f64) throw Error("map: the reference device computes in f64");
  kTable[std::size_t(call.functor)](call.parameters, call.out, call.write, call.in, call.inputs, threads_);
}

void ReferenceBackend::copy(View y, Write write, ConstView x) {
  if (y.shape != x.shape) throw Error("copy: shapes differ: " + to_string(x.shape) + " to " + to_string(y.shape));
  require_float("copy", x.dtype), require_float("copy", y.dtype);
  const bool from_double = x.dtype == DType::f64, to_double = y.dtype == DType::f64;
  if (to_double && from_double)
    copy_elements<double, double>(y, write, x, threads_);
  else if (to_double)
    copy_elements<double, float>(y, write, x, threads_);
  else if (from_double)
    copy_elements<float, double>(y, write, x, threads_);
  else
    copy_elements<float, float>(y, write, x, threads_);
}

bool ReferenceBackend::all_finite(ConstView x) {
  require_float("all_finite", x.dtype);
  return x.dtype == DType::f64 ? finite<double>(x) : finite<float>(x);
}

}  // namespace graft
