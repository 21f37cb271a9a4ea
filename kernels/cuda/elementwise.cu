// Element-wise formulas, copies between formats and types, and the search for values that are not finite. The formulas
// are those of kernels/functors.h; one kernel per formula is generated from MapFunctors.
#include <array>
#include <tuple>
#include <utility>

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.h"

namespace graft::gpu {
namespace {

template <class F>
struct FlatMap {
  F f;
  std::int64_t size;
  float* out;
  bool adds;
  const float *a, *b, *c;  // equal to `a` when the functor has fewer inputs
};

template <class F, int W>
__device__ __forceinline__ Pack<W> apply(const F& f, std::int64_t index, const float* a, const float* b,
                                         const float* c) {
  const Pack<W> va = load<W>(a);
  Pack<W> vb = va, vc = va, y;
  if constexpr (F::kInputs > 1) vb = load<W>(b);
  if constexpr (F::kInputs > 2) vc = load<W>(c);
  for (int l = 0; l < W; ++l) y.v[l] = f(index + l, va.v[l], vb.v[l], vc.v[l]);
  return y;
}

/// Dense memory: W elements per thread, the tail one by one.
template <class F, int W>
__global__ void __launch_bounds__(kThreads) flat_map_kernel(const FlatMap<F> m) {
  const std::int64_t first = (std::int64_t(blockIdx.x) * kThreads + threadIdx.x) * W;
  if (first + W <= m.size) {
    write<W>(m.out + first, apply<F, W>(m.f, first, m.a + first, m.b + first, m.c + first), m.adds);
  } else {
    for (std::int64_t i = first; i < m.size; ++i)
      write<1>(m.out + i, apply<F, 1>(m.f, i, m.a + i, m.b + i, m.c + i), m.adds);
  }
}

/// Channel slices.
template <class F, int W>
__global__ void __launch_bounds__(kThreads)
    row_map_kernel(const RowTiling t, const F f, const Rows out, const bool adds, const ConstRows a, const ConstRows b,
                   const ConstRows c) {
  const ThreadRows at = thread_rows<W>(t);
  if (!at.is_active) return;
  const std::int64_t ch = at.channel;
  for (std::int64_t r = at.begin; r < at.end; r += at.step)
    write<W>(out.at(r, ch), apply<F, W>(f, r * t.channels + ch, a.at(r, ch), b.at(r, ch), c.at(r, ch)), adds);
}

dim3 flat_grid(std::int64_t threads) { return dim3(unsigned((threads + kThreads - 1) / kThreads)); }

template <class F, int W>
void launch_flat(const F& f, const MapWork& w, const ConstView& b, const ConstView& c, cudaStream_t stream) {
  const std::int64_t size = w.out.shape.size();
  launch(
      "map", flat_map_kernel<F, W>, {.grid = flat_grid((size + W - 1) / W), .block = dim3(kThreads), .stream = stream},
      FlatMap<F>{f, size, w.out.as<float>(), w.write == Write::add, w.in[0].as<float>(), b.as<float>(), c.as<float>()});
}

template <class F, int W>
void launch_rows(const F& f, const MapWork& w, const ConstView& b, const ConstView& c, cudaStream_t stream) {
  const RowTiling t = tile_pass(w.out.shape, W);
  launch("map", row_map_kernel<F, W>, t.config(stream), t, f, rows_of(w.out, "map"), w.write == Write::add,
         rows_of(w.in[0], "map"), rows_of(b, "map"), rows_of(c, "map"));
}

bool is_aligned(const ConstView& v) { return reinterpret_cast<std::uintptr_t>(v.data) % 16 == 0; }

template <class F>
void map_with(const MapWork& w, cudaStream_t stream) {
  const F& f = *static_cast<const F*>(w.parameters);
  const ConstView& a = w.in[0];
  const ConstView& b = F::kInputs > 1 ? w.in[1] : a;
  const ConstView& c = F::kInputs > 2 ? w.in[2] : a;
  if (w.out.is_dense() && a.is_dense() && b.is_dense() && c.is_dense()) {
    if (is_aligned(w.out) && is_aligned(a) && is_aligned(b) && is_aligned(c))
      launch_flat<F, 4>(f, w, b, c, stream);
    else
      launch_flat<F, 1>(f, w, b, c, stream);
  } else if (std::is_same_v<F, Identity> && common_width({w.out, a}) == 4) {  // DenseNet's copies into its buffer
    launch_rows<F, 4>(f, w, b, c, stream);
  } else {
    launch_rows<F, 1>(f, w, b, c, stream);
  }
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
  const To value = To(x[xs(n, c, pixel)]);
  To& to = y[ys(n, c, pixel)];
  to = adds ? to + value : value;
}

template <class To, class From>
void copy_as(const View& y, Write write, const ConstView& x, cudaStream_t stream) {
  launch("copy", copy_kernel<To, From>, {.grid = flat_grid(y.shape.size()), .block = dim3(kThreads), .stream = stream},
         y.shape, y.as<To>(), strides_of(y), write == Write::add, x.as<From>(), strides_of(x));
}

__global__ void __launch_bounds__(kThreads)
    not_finite_kernel(int* flag, const Shape shape, const float* x, const Strides s) {
  const std::int64_t i = std::int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= shape.n * shape.c * shape.h * shape.w) return;
  const std::int64_t pixels = shape.h * shape.w, groups = shape.c / s.block;
  const std::int64_t group = i / (s.block * pixels);
  const float v = x[s(group / groups, group % groups * s.block + i % s.block, i / s.block % pixels)];
  if (!(fabsf(v) <= 3.402823466e+38f)) atomicOr(flag, 1);  // infinities and NaN
}

__global__ void __launch_bounds__(kThreads) add_bias_kernel(const RowTiling t, const Rows y, const float* bias) {
  const ThreadRows at = thread_rows<1>(t);
  if (!at.is_active) return;
  const float b = bias[at.channel];
  for (std::int64_t r = at.begin; r < at.end; r += at.step) *y.at(r, at.channel) += b;
}

bool is_float(DType t) { return t == DType::f32 || t == DType::f64; }

}  // namespace

void map(const MapWork& work, cudaStream_t stream) {
  if (work.out.dtype != DType::f32) throw Error("map: the GPU computes in f32");
  kMapTable[std::size_t(work.functor)](work, stream);
}

void copy(View y, Write write, ConstView x, cudaStream_t stream) {
  if (y.shape != x.shape) throw Error("copy: shapes differ: " + to_string(x.shape) + " to " + to_string(y.shape));
  if (!is_float(x.dtype) || !is_float(y.dtype))
    throw Error("copy: the GPU copies f32 and f64, not " + std::string(to_string(x.dtype)) + " to " +
                std::string(to_string(y.dtype)));
  const bool from_double = x.dtype == DType::f64, to_double = y.dtype == DType::f64;
  const bool same_memory_order = x.format == y.format && ((x.is_dense() && y.is_dense()) || x.format == kNhwc);
  if (!from_double && !to_double && same_memory_order) {
    const Identity identity;
    return map_with<Identity>({.parameters = &identity, .out = y, .write = write, .in = {x, {}, {}}}, stream);
  }
  if (to_double)
    from_double ? copy_as<double, double>(y, write, x, stream) : copy_as<double, float>(y, write, x, stream);
  else
    from_double ? copy_as<float, double>(y, write, x, stream) : copy_as<float, float>(y, write, x, stream);
}

void find_not_finite(int* flag, ConstView x, cudaStream_t stream) {
  if (x.dtype != DType::f32) throw Error("all_finite: the GPU computes in f32");
  launch("all_finite", not_finite_kernel,
         {.grid = flat_grid(x.shape.size()), .block = dim3(kThreads), .stream = stream}, flag, x.shape, x.as<float>(),
         strides_of(x));
}

void add_bias(View y, ConstView bias, cudaStream_t stream) {
  const RowTiling t = tile_pass(y.shape, 1);
  launch("bias", add_bias_kernel, t.config(stream), t, rows_of(y, "bias"), bias.as<float>());
}

}  // namespace graft::gpu
