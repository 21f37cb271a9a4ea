// Element-wise formulas, copies between formats and types, and the search for values that are not finite. The formulas
// are those of kernels/functors.h; one kernel per formula is generated from MapFunctors.
#include <array>
#include <tuple>
#include <utility>

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.h"

namespace graft::gpu {
namespace {

template <class F, class To, class From>
struct FlatMap {
  F f;
  std::int64_t size;
  To* out;
  bool adds;
  const From *a, *b, *c;  // equal to `a` when the functor has fewer inputs
};

template <class F, int W, class T>
__device__ __forceinline__ Pack<W> apply(const F& f, std::int64_t index, const T* a, const T* b, const T* c) {
  const Pack<W> va = load<W>(a);
  Pack<W> vb = va, vc = va, y;
  if constexpr (F::kInputs > 1) vb = load<W>(b);
  if constexpr (F::kInputs > 2) vc = load<W>(c);
  for (int l = 0; l < W; ++l) y.v[l] = f(index + l, va.v[l], vb.v[l], vc.v[l]);
  return y;
}

/// Dense memory: W elements per thread, the tail one by one.
template <class F, class To, class From, int W>
__global__ void __launch_bounds__(kThreads) flat_map_kernel(const FlatMap<F, To, From> m) {
  const std::int64_t first = (std::int64_t(blockIdx.x) * kThreads + threadIdx.x) * W;
  if (first + W <= m.size) {
    write<W>(m.out + first, apply<F, W>(m.f, first, m.a + first, m.b + first, m.c + first), m.adds);
  } else {
    for (std::int64_t i = first; i < m.size; ++i)
      write<1>(m.out + i, apply<F, 1>(m.f, i, m.a + i, m.b + i, m.c + i), m.adds);
  }
}

/// Channel slices, and what is not aligned.
template <class F, class T, int W>
__global__ void __launch_bounds__(kThreads)
    row_map_kernel(const RowTiling t, const F f, const Rows<T> out, const bool adds, const ConstRows<T> a,
                   const ConstRows<T> b, const ConstRows<T> c) {
  const ThreadRows at = thread_rows<W>(t);
  if (!at.is_active) return;
  const std::int64_t ch = at.channel;
  for (std::int64_t r = at.begin; r < at.end; r += at.step)
    write<W>(out.at(r, ch), apply<F, W>(f, r * t.channels + ch, a.at(r, ch), b.at(r, ch), c.at(r, ch)), adds);
}

dim3 flat_grid(std::int64_t threads) { return dim3(unsigned((threads + kThreads - 1) / kThreads)); }

template <class F, class To, class From = To>
void launch_flat(const F& f, const MapWork& w, const ConstView& b, const ConstView& c, cudaStream_t stream) {
  constexpr int W = kWide<std::conditional_t<(sizeof(To) < sizeof(From)), To, From>>;
  const std::int64_t size = w.out.shape.size();
  launch("map", flat_map_kernel<F, To, From, W>,
         {.grid = flat_grid((size + W - 1) / W), .block = dim3(kThreads), .stream = stream},
         FlatMap<F, To, From>{f, size, w.out.as<To>(), w.write == Write::add, w.in[0].as<From>(), b.as<From>(),
                              c.as<From>()});
}

template <class F, class T, int W>
void launch_rows(const F& f, const MapWork& w, const ConstView& b, const ConstView& c, cudaStream_t stream) {
  const RowTiling t = tile_pass(w.out.shape, W);
  launch("map", row_map_kernel<F, T, W>, t.config(stream), t, f, rows_of<T>(w.out, "map"), w.write == Write::add,
         rows_of<T>(w.in[0], "map"), rows_of<T>(b, "map"), rows_of<T>(c, "map"));
}

/// Dense memory as rows of one element, whatever its format.
template <class V>
V as_column(V v) {
  v.shape = {1, 1, 1, v.shape.size()};
  v.format = kNhwc;
  v.pitch = 1;
  return v;
}

template <class F, class T>
void map_type(MapWork w, cudaStream_t stream) {
  const F& f = *static_cast<const F*>(w.parameters);
  const auto b = [&] { return F::kInputs > 1 ? w.in[1] : w.in[0]; };
  const auto c = [&] { return F::kInputs > 2 ? w.in[2] : w.in[0]; };
  constexpr int W = kWide<T>;
  if (w.out.is_dense() && w.in[0].is_dense() && b().is_dense() && c().is_dense()) {
    if (is_aligned(w.out, W) && is_aligned(w.in[0], W) && is_aligned(b(), W) && is_aligned(c(), W))
      return launch_flat<F, T>(f, w, b(), c(), stream);
    w.out = as_column(w.out);
    for (ConstView& v : w.in) v = as_column(v);
  } else if constexpr (std::is_same_v<F, Identity>) {  // DenseNet's copies into its buffer
    if (can_move(W, {w.out, w.in[0]})) return launch_rows<F, T, W>(f, w, b(), c(), stream);
  }
  launch_rows<F, T, 1>(f, w, b(), c(), stream);
}

template <class F>
void map_with(const MapWork& w, cudaStream_t stream) {
  with_type("map", w.out.dtype, [&]<class T>() { map_type<F, T>(w, stream); });
}

using MapFunction = void (*)(const MapWork&, cudaStream_t);

template <std::size_t... I>
constexpr std::array<MapFunction, sizeof...(I)> map_table(std::index_sequence<I...>) {
  return {&map_with<std::tuple_element_t<I, MapFunctors>>...};
}

constexpr auto kMapTable = map_table(std::make_index_sequence<std::tuple_size_v<MapFunctors>>());

/// Elements in y's own order: channel fastest inside a block of channels, then pixels, blocks, images.
template <class To, class From>
__global__ void __launch_bounds__(kThreads)
    copy_kernel(const Shape shape, To* y, const Strides ys, const bool adds, const From* x, const Strides xs) {
  const std::int64_t i = std::int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= shape.n * shape.c * shape.h * shape.w) return;
  const std::int64_t pixels = shape.h * shape.w;
  const std::int64_t lane = i % ys.block, pixel = i / ys.block % pixels;
  const std::int64_t group = i / (ys.block * pixels), groups = shape.c / ys.block;
  const std::int64_t n = group / groups, c = group % groups * ys.block + lane;
  const Compute<To> value = Compute<To>(widen(x[xs(n, c, pixel)]));
  To& to = y[ys(n, c, pixel)];
  to = narrow<To>(adds ? widen(to) + value : value);
}

template <class To, class From>
void copy_as(const View& y, Write write, const ConstView& x, cudaStream_t stream) {
  if constexpr (sizeof(To) * sizeof(From) == 8) {  // between 16 and 32 bits, as weights and their gradients are
    if (x.format == y.format && x.is_dense() && y.is_dense() && is_aligned(x, 8) && is_aligned(y, 8)) {
      const MapWork work{.out = y, .write = write, .in = {x, {}, {}}};
      return launch_flat<Identity, To, From>({}, work, x, x, stream);
    }
  }
  launch("copy", copy_kernel<To, From>, {.grid = flat_grid(y.shape.size()), .block = dim3(kThreads), .stream = stream},
         y.shape, y.as<To>(), strides_of(y), write == Write::add, x.as<From>(), strides_of(x));
}

template <class Body>
void with_copied_type(DType dtype, const Body& body) {
  if (dtype == DType::f64) return body.template operator()<double>();
  with_type("copy", dtype, body);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    not_finite_kernel(int* flag, const Shape shape, const T* x, const Strides s) {
  const std::int64_t i = std::int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= shape.n * shape.c * shape.h * shape.w) return;
  const std::int64_t pixels = shape.h * shape.w, groups = shape.c / s.block;
  const std::int64_t group = i / (s.block * pixels);
  const float v = widen(x[s(group / groups, group % groups * s.block + i % s.block, i / s.block % pixels)]);
  if (!(fabsf(v) <= 3.402823466e+38f)) atomicOr(flag, 1);  // infinities and NaN
}

template <class T>
__global__ void __launch_bounds__(kThreads) add_bias_kernel(const RowTiling t, const Rows<T> y, const float* bias) {
  const ThreadRows at = thread_rows<1>(t);
  if (!at.is_active) return;
  const float b = bias[at.channel];
  for (std::int64_t r = at.begin; r < at.end; r += at.step) write<1>(y.at(r, at.channel), {{b}}, true);
}

}  // namespace

void map(const MapWork& work, cudaStream_t stream) { kMapTable[std::size_t(work.functor)](work, stream); }

void copy(View y, Write write, ConstView x, cudaStream_t stream) {
  if (y.shape != x.shape) throw Error("copy: shapes differ: " + to_string(x.shape) + " to " + to_string(y.shape));
  const bool same_memory_order = x.format == y.format && ((x.is_dense() && y.is_dense()) || x.format == kNhwc);
  if (x.dtype == y.dtype && x.dtype != DType::f64 && same_memory_order) {
    const Identity identity;
    return map_with<Identity>({.parameters = &identity, .out = y, .write = write, .in = {x, {}, {}}}, stream);
  }
  with_copied_type(y.dtype, [&]<class To>() {
    with_copied_type(x.dtype, [&]<class From>() { copy_as<To, From>(y, write, x, stream); });
  });
}

void find_not_finite(int* flag, ConstView x, cudaStream_t stream) {
  with_type("all_finite", x.dtype, [&]<class T>() {
    launch("all_finite", not_finite_kernel<T>,
           {.grid = flat_grid(x.shape.size()), .block = dim3(kThreads), .stream = stream}, flag, x.shape, x.as<T>(),
           strides_of(x));
  });
}

void add_bias(View y, ConstView bias, cudaStream_t stream) {
  const RowTiling t = tile_pass(y.shape, 1);
  with_type("bias", y.dtype, [&]<class T>() {
    launch("bias", add_bias_kernel<T>, t.config(stream), t, rows_of<T>(y, "bias"), bias.as<float>());
  });
}

}  // namespace graft::gpu
