// Sums over the pixels of each channel, in two stages of fixed shape: every thread adds a few hundred values in float,
// blocks and the second stage add in double. Two sums are taken together; what they mean is the finisher's affair.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.h"

namespace graft::gpu {
namespace {

template <int W>
constexpr int kBatch = W == 8 ? 4 : 8;  // rows loaded together: as many as registers allow

/// Adds the threads' pairs over the block's rows and writes them to partials [blocks][2][channels].
template <int W>
__device__ void store_partials(const RowTiling& t, const ThreadRows& at, const double (&a)[W], const double (&b)[W],
                               double* partials) {
  __shared__ double sums[2 * W][kThreads];
  const unsigned thread = threadIdx.y * blockDim.x + threadIdx.x;
  for (int l = 0; l < W; ++l) {
    sums[l][thread] = a[l];
    sums[W + l][thread] = b[l];
  }
  for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half)
      for (int l = 0; l < 2 * W; ++l) sums[l][thread] += sums[l][thread + half * blockDim.x];
  }
  if (threadIdx.y != 0 || !at.is_active) return;
  double* to = partials + std::int64_t(blockIdx.x) * 2 * t.channels + at.channel;
  for (int l = 0; l < W; ++l) {
    to[l] = sums[l][thread];
    to[t.channels + l] = sums[W + l][thread];
  }
}

template <class T, int W>
__global__ void __launch_bounds__(kThreads)
    channel_sum_kernel(const RowTiling t, const ConstRows<T> dy, double* partials) {
  const ThreadRows at = thread_rows<W>(t);
  float sum[W] = {};
  if (at.is_active)
    for (std::int64_t r = at.begin; r < at.end; r += at.step) {
      const Pack<W> v = load<W>(dy.at(r, at.channel));
      for (int l = 0; l < W; ++l) sum[l] += v.v[l];
    }
  double a[W], b[W] = {};
  for (int l = 0; l < W; ++l) a[l] = double(sum[l]);
  store_partials<W>(t, at, a, b, partials);
}

/// Sums of x and x^2. Batches of rows are taken about their own mean and merged (Chan, Golub, LeVeque 1979), so nothing
/// cancels in float; the squares about zero appear in double only.
template <class T, int W>
__global__ void __launch_bounds__(kThreads)
    statistics_kernel(const RowTiling t, const ConstRows<T> x, double* partials) {
  const ThreadRows at = thread_rows<W>(t);
  float mean[W] = {}, squares[W] = {}, count = 0;
  if (at.is_active)
    for (std::int64_t r = at.begin; r < at.end; r += kBatch<W> * at.step) {
      Pack<W> v[kBatch<W>] = {};
      float n = 0;
#pragma unroll
      for (int k = 0; k < kBatch<W>; ++k)
        if (r + k * at.step < at.end) {
          v[k] = load<W>(x.at(r + k * at.step, at.channel));
          n += 1;
        }
      const float total = count + n;
      for (int l = 0; l < W; ++l) {
        float sum = 0;
#pragma unroll
        for (int k = 0; k < kBatch<W>; ++k) sum += v[k].v[l];
        const float m = sum / n, d = m - mean[l];
        float s = 0;
#pragma unroll
        for (int k = 0; k < kBatch<W>; ++k)
          if (float(k) < n) s += (v[k].v[l] - m) * (v[k].v[l] - m);
        mean[l] += d * (n / total);
        squares[l] += s + d * d * (count * n / total);
      }
      count = total;
    }
  double a[W], b[W];
  for (int l = 0; l < W; ++l) {
    a[l] = double(mean[l]) * double(count);
    b[l] = double(squares[l]) + a[l] * double(mean[l]);
  }
  store_partials<W>(t, at, a, b, partials);
}

/// Sums of g and g * xhat, where g is dy behind the gate.
template <class T, int W>
__global__ void __launch_bounds__(kThreads)
    grad_sums_kernel(const RowTiling t, const ConstRows<T> dy, const ReluGate<T> gate, const ConstRows<T> x,
                     const ConstRows<float> stats, const double epsilon, double* partials) {
  const ThreadRows at = thread_rows<W>(t);
  float sum[W] = {}, dot[W] = {};
  if (at.is_active) {
    float mean[W], inverse[W];
    for (int l = 0; l < W; ++l) {
      mean[l] = *stats.at(0, at.channel + l);
      inverse[l] = float(1.0 / sqrt(double(*stats.at(1, at.channel + l)) + epsilon));
    }
    for (std::int64_t r = at.begin; r < at.end; r += at.step) {
      Pack<W> g = load<W>(dy.at(r, at.channel));
      const Pack<W> in = load<W>(x.at(r, at.channel));
      pass_gate(g, gate, r, at.channel);
      for (int l = 0; l < W; ++l) {
        sum[l] += g.v[l];
        dot[l] += g.v[l] * ((in.v[l] - mean[l]) * inverse[l]);
      }
    }
  }
  double a[W], b[W];
  for (int l = 0; l < W; ++l) {
    a[l] = double(sum[l]);
    b[l] = double(dot[l]);
  }
  store_partials<W>(t, at, a, b, partials);
}

/// What becomes of a channel's two sums.
struct SumAndAdd {  // first sum alone
  float* out;
  bool adds;
  __device__ void operator()(std::int64_t c, double a, double) const { out[c] = float(adds ? double(out[c]) + a : a); }
};
struct KeepBoth {
  Rows<float> out;
  __device__ void operator()(std::int64_t c, double a, double b) const {
    *out.at(0, c) = float(a);
    *out.at(1, c) = float(b);
  }
};
struct MeanAndVariance {
  Rows<float> out;
  double count;
  __device__ void operator()(std::int64_t c, double a, double b) const {
    const double mean = a / count, variance = b / count - mean * mean;
    *out.at(0, c) = float(mean);
    *out.at(1, c) = float(variance < 0 ? 0.0 : variance);  // a NaN stays
  }
};

constexpr int kFinishChannels = 16, kFinishParts = 16;

/// Second stage: 16 channels per block, 16 threads share the partial sums of each.
template <class Finish>
__global__ void __launch_bounds__(kFinishChannels* kFinishParts)
    finish_kernel(const double* partials, const std::int64_t parts, const std::int64_t channels, const Finish finish) {
  __shared__ double sums[2][kFinishParts][kFinishChannels];
  const std::int64_t c = std::int64_t(blockIdx.x) * kFinishChannels + threadIdx.x;
  double a = 0, b = 0;
  if (c < channels)
    for (std::int64_t p = threadIdx.y; p < parts; p += kFinishParts) {
      a += partials[p * 2 * channels + c];
      b += partials[p * 2 * channels + channels + c];
    }
  sums[0][threadIdx.y][threadIdx.x] = a;
  sums[1][threadIdx.y][threadIdx.x] = b;
  __syncthreads();
  if (threadIdx.y != 0 || c >= channels) return;
  for (int i = 1; i < kFinishParts; ++i) {
    a += sums[0][i][threadIdx.x];
    b += sums[1][i][threadIdx.x];
  }
  finish(c, a, b);
}

template <class Finish>
void launch_finish(const char* what, const double* partials, const RowTiling& t, const Finish& finish,
                   cudaStream_t stream) {
  launch(what, finish_kernel<Finish>,
         {.grid = dim3(unsigned((t.channels + kFinishChannels - 1) / kFinishChannels)),
          .block = dim3(kFinishChannels, kFinishParts),
          .stream = stream},
         partials, std::int64_t(t.blocks), t.channels, finish);
}

}  // namespace

std::int64_t sum_scratch_bytes(const Shape& shape) {
  std::int64_t most = 0;
  for (const int width : {1, 4, 8}) {
    const std::int64_t bytes = std::int64_t(tile_sum(shape, width).blocks) * 2 * shape.c * 8;
    if (bytes > most) most = bytes;
  }
  return most;
}

void channel_sum(View db, Write write, ConstView dy, double* scratch, cudaStream_t stream) {
  constexpr const char* kOp = "channel_sum";
  with_packs(kOp, dy, {}, [&]<class T, int W>() {
    const RowTiling t = tile_sum(dy.shape, W);
    launch(kOp, channel_sum_kernel<T, W>, t.config(stream), t, rows_of<T>(dy, kOp), scratch);
    launch_finish(kOp, scratch, t, SumAndAdd{db.as<float>(), write == Write::add}, stream);
  });
}

void batch_statistics(View stats, ConstView x, double* scratch, cudaStream_t stream) {
  constexpr const char* kOp = "batch_statistics";
  with_packs(kOp, x, {}, [&]<class T, int W>() {
    const RowTiling t = tile_sum(x.shape, W);
    launch(kOp, statistics_kernel<T, W>, t.config(stream), t, rows_of<T>(x, kOp), scratch);
    launch_finish(kOp, scratch, t, MeanAndVariance{rows_of<float>(stats, kOp), double(t.rows)}, stream);
  });
}

void normalize_grad_sums(View sums, ConstView dy, ConstView y, ConstView x, const NormalizeArgs& args, double* scratch,
                         cudaStream_t stream) {
  constexpr const char* kOp = "normalize_grad_sums";
  if (!needs_output(args)) y = {};
  with_packs(kOp, dy, {y, x}, [&]<class T, int W>() {
    const RowTiling t = tile_sum(x.shape, W);
    launch(kOp, grad_sums_kernel<T, W>, t.config(stream), t, rows_of<T>(dy, kOp), relu_gate<T>(args, y, x.shape, kOp),
           rows_of<T>(x, kOp), rows_of<float>(args.stats, kOp), args.epsilon, scratch);
    launch_finish(kOp, scratch, t, KeepBoth{rows_of<float>(sums, kOp)}, stream);
  });
}

}  // namespace graft::gpu
