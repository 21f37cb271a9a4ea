// Sums over the pixels of each channel, in two stages of fixed shape: every thread adds a few hundred values in float,
// blocks and the second stage add in double. Two sums are taken together; what they mean is the finisher's affair.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.h"

namespace graft::gpu {
namespace {

constexpr int kReduceRows = 4;    // loaded together, so that enough bytes are under way
constexpr int kReduceBlocks = 3;  // on a multiprocessor, likewise

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
  for (unsigned count = blockDim.y; count > 1;) {
    const unsigned half = (count + 1) / 2;
    __syncthreads();
    if (threadIdx.y < count - half)
      for (int l = 0; l < 2 * W; ++l) sums[l][thread] += sums[l][thread + half * blockDim.x];
    count = half;
  }
  if (threadIdx.y != 0 || !at.is_active) return;
  double* to = partials + std::int64_t(t.block()) * 2 * t.channels + at.channel;
  for (int l = 0; l < W; ++l) {
    to[l] = sums[l][thread];
    to[t.channels + l] = sums[W + l][thread];
  }
}

/// Where there is a first sum alone.
template <int W>
__device__ void store_sum(const RowTiling& t, const ThreadRows& at, const float (&sum)[W], double* partials) {
  double a[W], b[W] = {};
  for (int l = 0; l < W; ++l) a[l] = double(sum[l]);
  store_partials<W>(t, at, a, b, partials);
}

template <class T, int W>
__global__ void __launch_bounds__(kThreads, kReduceBlocks)
    channel_sum_kernel(const RowTiling t, const ConstRows<T> dy, double* partials) {
  const ThreadRows at = sweeping_rows<W>(t);
  float sum[W] = {};
  if (at.is_active)
    for (std::int64_t first = at.begin; first < at.end; first += kReduceRows * at.step) {
      Waiting<T, W> v[kReduceRows] = {};
#pragma unroll
      for (int k = 0; k < kReduceRows; ++k)
        if (first + k * at.step < at.end) v[k] = load_waiting<W>(dy.at(row_of(t, first + k * at.step), at.channel));
#pragma unroll
      for (int k = 0; k < kReduceRows; ++k) {
        const Pack<W> wide = widened(v[k]);
        for (int l = 0; l < W; ++l) sum[l] += wide.v[l];
      }
    }
  store_sum(t, at, sum, partials);
}

/// Writes g = dy where y > 0, else 0, and sums it.
template <class T, int W>
__global__ void __launch_bounds__(kThreads, kReduceBlocks)
    relu_grad_sum_kernel(const RowTiling t, const Rows<T> g, const ConstRows<T> dy, const ConstRows<T> y,
                         double* partials) {
  const ThreadRows at = sweeping_rows<W>(t);
  float sum[W] = {};
  if (at.is_active)
    for (std::int64_t first = at.begin; first < at.end; first += kReduceRows * at.step) {
      Waiting<T, W> in[kReduceRows] = {}, out[kReduceRows] = {};
#pragma unroll
      for (int k = 0; k < kReduceRows; ++k)
        if (first + k * at.step < at.end) {  // g may be dy's memory: a row is read before it is written
          in[k] = load_waiting<W>(dy.at(row_of(t, first + k * at.step), at.channel));
          out[k] = load_waiting<W>(y.at(row_of(t, first + k * at.step), at.channel));
        }
#pragma unroll
      for (int k = 0; k < kReduceRows; ++k)
        if (first + k * at.step < at.end) {
          Pack<W> v = widened(in[k]);
          pass_gate(v, positive_bits(widened(out[k])));
          store<W>(g.at(row_of(t, first + k * at.step), at.channel), v);
          for (int l = 0; l < W; ++l) sum[l] += v.v[l];
        }
    }
  store_sum(t, at, sum, partials);
}

/// Sums of x and x^2. A thread sums differences from the mean of its first rows, so nothing cancels in float (Chan,
/// Golub, LeVeque 1983, "shifted data"); the squares about zero appear in double only.
template <class T, int W>
__global__ void __launch_bounds__(kThreads, kReduceBlocks)
    statistics_kernel(const RowTiling t, const ConstRows<T> x, double* partials) {
  const ThreadRows at = sweeping_rows<W>(t);
  float shift[W] = {}, sum[W] = {}, squares[W] = {};
  int count = 0;
  if (at.is_active) {
    const T* from = x.at(row_of(t, at.begin), at.channel);  // an address from a row's number takes longer than its sums
    const std::int64_t step = at.step * x.pitch;
    for (std::int64_t first = at.begin; first < at.end; first += kReduceRows * at.step, from -= kReduceRows * step) {
      Waiting<T, W> v[kReduceRows] = {};
      int n = 0;
#pragma unroll
      for (int k = 0; k < kReduceRows; ++k)
        if (first + k * at.step < at.end) {
          v[k] = load_waiting<W>(from - k * step);
          n = k + 1;
        }
      if (count == 0) {
        const float part = 1.0f / float(n);
#pragma unroll
        for (int k = 0; k < kReduceRows; ++k) {
          const Pack<W> wide = widened(v[k]);
          for (int l = 0; l < W; ++l) shift[l] += wide.v[l] * part;
        }
      }
#pragma unroll
      for (int k = 0; k < kReduceRows; ++k) {
        if (k >= n) break;
        const Pack<W> wide = widened(v[k]);
        for (int l = 0; l < W; ++l) {
          const float d = wide.v[l] - shift[l];
          sum[l] += d;
          squares[l] += d * d;
        }
      }
      count += n;
    }
  }
  double a[W], b[W];
  for (int l = 0; l < W; ++l) {
    const double s = double(shift[l]);
    a[l] = double(sum[l]) + double(count) * s;
    b[l] = double(squares[l]) + s * (2 * double(sum[l]) + double(count) * s);
  }
  store_partials<W>(t, at, a, b, partials);
}

/// Sums of g and g * (x - mean), where g is dy behind the gate; the finisher divides by the deviation.
template <class T, int W>
__global__ void __launch_bounds__(kThreads, kReduceBlocks)
    grad_sums_kernel(const RowTiling t, const ConstRows<T> dy, const ReluGate<T> gate, const ConstRows<T> x,
                     const ConstRows<float> stats, double* partials) {
  const ThreadRows at = sweeping_rows<W>(t);
  float mean[W] = {}, sum[W] = {}, dot[W] = {};
  if (at.is_active) {
    Pack<W> means[1];
    load_constants<W>({stats.at(0, at.channel)}, means);
    for (int l = 0; l < W; ++l) mean[l] = means[0].v[l];
    for (std::int64_t first = at.begin; first < at.end; first += kReduceRows * at.step) {
      Waiting<T, W> g[kReduceRows] = {}, in[kReduceRows] = {};
      unsigned bits[kReduceRows] = {};
#pragma unroll
      for (int k = 0; k < kReduceRows; ++k)
        if (first + k * at.step < at.end) {
          const std::int64_t r = row_of(t, first + k * at.step);
          g[k] = load_waiting<W>(dy.at(r, at.channel));
          in[k] = load_waiting<W>(x.at(r, at.channel));
          bits[k] = gate_bits<W>(gate, r, at.channel);
        }
#pragma unroll
      for (int k = 0; k < kReduceRows; ++k) {
        Pack<W> wide = widened(g[k]);
        const Pack<W> v = widened(in[k]);
        pass_gate(wide, bits[k]);  // zero beyond the last row
        for (int l = 0; l < W; ++l) {
          sum[l] += wide.v[l];
          dot[l] += wide.v[l] * (v.v[l] - mean[l]);
        }
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
/// One of a norm's gradients, in a row; null: not wanted.
struct GradRow {
  float* out = nullptr;
  bool adds = false;
  __device__ void take(std::int64_t c, float value) const {
    if (out) out[c] = adds ? out[c] + value : value;
  }
};
struct NormSums {
  Rows<float> out;
  GradRow dgamma, dbeta, weighted[2];
  const float* gamma;
  ConstRows<float> stats;
  float epsilon;
  __device__ void operator()(std::int64_t c, double a, double b) const {
    const float sums[2] = {float(a), float(b * double(inverse_deviation(*stats.at(1, c), epsilon)))};
    dbeta.take(c, sums[0]);
    dgamma.take(c, sums[1]);
    for (int i = 0; i < 2; ++i) {
      *out.at(i, c) = sums[i];
      if (weighted[i].out) weighted[i].take(c, gamma[c] * sums[i]);
    }
  }
};
struct MeanAndVariance {
  Rows<float> out;
  double count;
  Rows<float> running;  // null: none
  double momentum, unbiased;
  __device__ void operator()(std::int64_t c, double a, double b) const {
    const double mean = a / count, variance = b / count - mean * mean;
    const float stats[2] = {float(mean), float(variance < 0 ? 0.0 : variance)};  // a NaN stays
    for (int i = 0; i < 2; ++i) {
      *out.at(i, c) = stats[i];
      if (running.data) move_running(running.at(i, c), double(stats[i]) * (i == 1 ? unbiased : 1.0), momentum);
    }
  }
};

constexpr int kFinishChannels = 4, kFinishParts = kThreads / kFinishChannels;
constexpr int kFinishRows = 8;  // partial sums that a thread loads together

/// Second stage: few channels per block, so that many threads share the partial sums of each.
template <class Finish>
__global__ void __launch_bounds__(kThreads)
    finish_kernel(const double* partials, const std::int64_t parts, const std::int64_t channels, const Finish finish) {
  __shared__ double sums[2][kFinishParts][kFinishChannels];
  const std::int64_t c = std::int64_t(blockIdx.x) * kFinishChannels + threadIdx.x;
  double a = 0, b = 0;
  if (c < channels) {
    const double* from = partials + threadIdx.y * 2 * channels + c;
    const std::int64_t step = kFinishParts * 2 * channels;
    int left = threadIdx.y < parts ? int((parts - threadIdx.y + kFinishParts - 1) / kFinishParts) : 0;
    for (; left > 0; left -= kFinishRows, from += kFinishRows * step) {
      double pair[kFinishRows][2] = {};
#pragma unroll
      for (int k = 0; k < kFinishRows; ++k)
        if (k < left) {
          pair[k][0] = from[k * step];
          pair[k][1] = from[k * step + channels];
        }
#pragma unroll
      for (int k = 0; k < kFinishRows; ++k) {
        a += pair[k][0];
        b += pair[k][1];
      }
    }
  }
  sums[0][threadIdx.y][threadIdx.x] = a;
  sums[1][threadIdx.y][threadIdx.x] = b;
  for (unsigned half = kFinishParts / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half)
      for (auto& sum : sums) sum[threadIdx.y][threadIdx.x] += sum[threadIdx.y + half][threadIdx.x];
  }
  if (threadIdx.y == 0 && c < channels) finish(c, sums[0][0][threadIdx.x], sums[1][0][threadIdx.x]);
}

template <class Finish>
void launch_finish(const char* what, const PartialSums& from, const Finish& finish, cudaStream_t stream) {
  launch(what, finish_kernel<Finish>,
         {.grid = dim3(unsigned((from.channels + kFinishChannels - 1) / kFinishChannels)),
          .block = dim3(kFinishChannels, kFinishParts),
          .stream = stream},
         from.sums, from.parts, from.channels, finish);
}
PartialSums partial_sums(const double* scratch, const RowTiling& t) { return {scratch, t.blocks, t.channels}; }

/// dw from parts of it, in their order.
constexpr int kSplitThreads = 64;  // weights are few beside a GPU's threads
__global__ void __launch_bounds__(kSplitThreads)
    add_splits_kernel(const float* parts, const std::int64_t size, const unsigned splits, float* dw, const bool adds) {
  const std::int64_t i = (std::int64_t(blockIdx.x) * kSplitThreads + threadIdx.x) * 4;
  if (i >= size) return;
  Pack<4> sum = {};
  constexpr unsigned kTogether = 8;
  for (unsigned s = 0; s < splits; s += kTogether) {
    Pack<4> part[kTogether] = {};
#pragma unroll
    for (unsigned k = 0; k < kTogether; ++k)
      if (s + k < splits) part[k] = load<4>(parts + (s + k) * size + i);
#pragma unroll
    for (unsigned k = 0; k < kTogether; ++k)
      for (int l = 0; l < 4; ++l) sum.v[l] += part[k].v[l];
  }
  write<4>(dw + i, sum, adds);
}

}  // namespace

void finish_statistics(const char* op, View stats, const RunningStep& step, const PartialSums& from,
                       std::int64_t elements, cudaStream_t stream) {
  launch_finish(op, from,
                MeanAndVariance{.out = rows_of<float>(stats, op),
                                .count = double(elements),
                                .running = rows_of<float>(step.running, op),
                                .momentum = step.momentum,
                                .unbiased = unbiased_factor(elements)},
                stream);
}

void finish_norm_sums(const char* op, View sums, const NormalizeParameterGrads& to, const NormalizeArgs& args,
                      const PartialSums& from, cudaStream_t stream) {
  const auto weighted = [&](int i) {
    return to.weighted.data ? GradRow{row(to.weighted, i).as<float>(), to.weighted_write == Write::add} : GradRow{};
  };
  launch_finish(op, from,
                NormSums{.out = rows_of<float>(sums, op),
                         .dgamma = {to.dgamma.as<float>(), to.gamma_write == Write::add},
                         .dbeta = {to.dbeta.as<float>(), to.beta_write == Write::add},
                         .weighted = {weighted(0), weighted(1)},
                         .gamma = args.gamma.as<float>(),
                         .stats = rows_of<float>(args.stats, op),
                         .epsilon = float(args.epsilon)},
                stream);
}

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
    launch_finish(kOp, partial_sums(scratch, t), SumAndAdd{db.as<float>(), write == Write::add}, stream);
  });
}

void relu_grad_and_sum(View g, View db, Write write, ConstView dy, ConstView y, double* scratch, cudaStream_t stream) {
  constexpr const char* kOp = "relu_grad_and_sum";
  with_packs(kOp, dy, {g, y}, [&]<class T, int W>() {
    const RowTiling t = tile_sum(dy.shape, W);
    launch(kOp, relu_grad_sum_kernel<T, W>, t.config(stream), t, rows_of<T>(g, kOp), rows_of<T>(dy, kOp),
           rows_of<T>(y, kOp), scratch);
    launch_finish(kOp, partial_sums(scratch, t), SumAndAdd{db.as<float>(), write == Write::add}, stream);
  });
}

void batch_statistics(View stats, const RunningStep& step, ConstView x, double* scratch, cudaStream_t stream) {
  constexpr const char* kOp = "batch_statistics";
  with_packs(kOp, x, {}, [&]<class T, int W>() {
    const RowTiling t = tile_sum(x.shape, W);
    launch(kOp, statistics_kernel<T, W>, t.config(stream), t, rows_of<T>(x, kOp), scratch);
    finish_statistics(kOp, stats, step, partial_sums(scratch, t), t.rows, stream);
  });
}

void normalize_grad_sums(View sums, const NormalizeParameterGrads& to, ConstView dy, ConstView y, ConstView x,
                         const NormalizeArgs& args, double* scratch, cudaStream_t stream) {
  constexpr const char* kOp = "normalize_grad_sums";
  if (!needs_output(args)) y = {};
  with_packs(kOp, dy, {y, x}, [&]<class T, int W>() {
    const RowTiling t = tile_sum(x.shape, W);
    launch(kOp, grad_sums_kernel<T, W>, t.config(stream), t, rows_of<T>(dy, kOp), relu_gate<T>(args, y, x.shape, kOp),
           rows_of<T>(x, kOp), rows_of<float>(args.stats, kOp), scratch);
    finish_norm_sums(kOp, sums, to, args, partial_sums(scratch, t), stream);
  });
}

void add_splits(const char* op, View dw, Write write, const float* parts, unsigned splits, cudaStream_t stream) {
  const std::int64_t size = dw.shape.size();
  launch(op, add_splits_kernel,
         {.grid = dim3(unsigned((size / 4 + kSplitThreads - 1) / kSplitThreads)),
          .block = dim3(kSplitThreads),
          .stream = stream},
         parts, size, splits, dw.as<float>(), write == Write::add);
}

}  // namespace graft::gpu
