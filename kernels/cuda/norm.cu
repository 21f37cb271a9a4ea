// Batch norm's element-wise passes: forward with residual and ReLU, and the gradients. A thread keeps the constants of
// its channels in registers and walks over rows. The sums they need come from reduce.cu.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.h"

namespace graft::gpu {
namespace {

/// Rows that are loaded together, so that enough bytes are under way: with more, registers would not do.
template <class T, int W>
constexpr int kNormalizeRows = sizeof(T) * W > 16 ? 2 : 4;
constexpr int kGradRows = 2;
constexpr int kNormalizeBlocks = 3;  // on a multiprocessor, likewise

template <class T>
struct NormalizeParams {
  Rows<T> y;
  ConstRows<T> x, residual;
  ConstRows<float> stats;
  const float *gamma, *beta;
  float epsilon;
  bool has_relu;
  MaskRows mask;  // written if it has data
};

template <class T, int W>
__global__ void __launch_bounds__(kThreads, kNormalizeBlocks)
    normalize_kernel(const RowTiling t, const NormalizeParams<T> p) {
  const ThreadRows at = thread_rows<W>(t);
  if (!at.is_active) return;
  Pack<W> constants[4];
  load_constants<W>({p.stats.at(0, at.channel), p.beta + at.channel, p.stats.at(1, at.channel), p.gamma + at.channel},
                    constants);
  const Pack<W>&mean = constants[0], &beta = constants[1];
  float scale[W];
  for (int l = 0; l < W; ++l) scale[l] = inverse_deviation(constants[2].v[l], p.epsilon) * constants[3].v[l];
  for (std::int64_t first = at.begin; first < at.end; first += kNormalizeRows<T, W> * at.step) {
    Waiting<T, W> in[kNormalizeRows<T, W>] = {}, more[kNormalizeRows<T, W>] = {};
#pragma unroll
    for (int k = 0; k < kNormalizeRows<T, W>; ++k) {
      const std::int64_t r = first + k * at.step;
      if (r >= at.end) break;
      in[k] = load_waiting<W>(p.x.at(r, at.channel));
      if (p.residual.data) more[k] = load_waiting<W>(p.residual.at(r, at.channel));
    }
#pragma unroll
    for (int k = 0; k < kNormalizeRows<T, W>; ++k) {
      const std::int64_t r = first + k * at.step;
      if (r >= at.end) break;
      Pack<W> v = widened(in[k]);
      const Pack<W> residual = widened(more[k]);
      for (int l = 0; l < W; ++l) {
        v.v[l] = (v.v[l] - mean.v[l]) * scale[l] + beta.v[l];
        if (p.residual.data) v.v[l] += residual.v[l];
        if (p.has_relu) v.v[l] = v.v[l] < 0 ? 0.0f : v.v[l];
      }
      store<W>(p.y.at(r, at.channel), v);
      if constexpr (W == 8)
        if (p.mask.data) *p.mask.at(r, at.channel) = std::uint8_t(positive_bits(v, kRoundsToZero<T>));  // of y
    }
  }
}

/// The mask from y itself, where a thread of normalize_kernel does not hold a byte's channels: a byte per thread.
template <class T>
__global__ void __launch_bounds__(kThreads)
    relu_mask_kernel(const std::int64_t bytes, const std::int64_t channels, const MaskRows mask, const ConstRows<T> y) {
  const std::int64_t i = std::int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= bytes) return;
  const std::int64_t per_row = (channels + 7) / 8, row = i / per_row, channel = i % per_row * 8;
  Pack<8> v = {};
  for (int l = 0; l < 8 && channel + l < channels; ++l) v.v[l] = widen(*y.at(row, channel + l));
  *mask.at(row, channel) = std::uint8_t(positive_bits(v));
}

template <class T>
struct GradParams {
  Rows<T> dx, dresidual;
  bool adds, residual_adds;
  ConstRows<T> dy, x;
  ReluGate<T> gate;
  ConstRows<float> stats, sums;  // sums.data null: fixed statistics
  const float* gamma;
  float epsilon;
  float per_element;  // 1 / (N*H*W)
};

template <class T, int W>
__global__ void __launch_bounds__(kThreads, kNormalizeBlocks)
    normalize_grad_kernel(const RowTiling t, const GradParams<T> p) {
  const ThreadRows at = thread_rows<W>(t);
  if (!at.is_active) return;
  float mean[W], scale[W], mean_g[W] = {}, slope[W] = {};  // slope: of the part that is linear in x
  {
    const std::int64_t c = at.channel;
    const ConstRows<float>& sums = p.sums.data ? p.sums : p.stats;  // not used if there are none
    Pack<W> constants[5];
    load_constants<W>({p.stats.at(0, c), p.stats.at(1, c), p.gamma + c, sums.at(0, c), sums.at(1, c)}, constants);
    for (int l = 0; l < W; ++l) {
      const float inverse = inverse_deviation(constants[1].v[l], p.epsilon);
      mean[l] = constants[0].v[l];
      scale[l] = inverse * constants[2].v[l];
      mean_g[l] = constants[3].v[l] * p.per_element;
      slope[l] = constants[4].v[l] * p.per_element * inverse;
    }
  }
  for (std::int64_t first = at.begin; first < at.end; first += kGradRows * at.step) {
    // dx or dresidual may be dy's memory: a row is read before it is written.
    Waiting<T, W> dy[kGradRows] = {}, in[kGradRows] = {};
    unsigned bits[kGradRows] = {};
#pragma unroll
    for (int k = 0; k < kGradRows; ++k) {
      const std::int64_t r = first + k * at.step;
      if (r >= at.end) break;
      dy[k] = load_waiting<W>(p.dy.at(r, at.channel));
      if (p.sums.data && p.dx.data) in[k] = load_waiting<W>(p.x.at(r, at.channel));
      bits[k] = gate_bits<W>(p.gate, r, at.channel);
    }
#pragma unroll
    for (int k = 0; k < kGradRows; ++k) {
      const std::int64_t r = first + k * at.step;
      if (r >= at.end) break;
      Pack<W> g = widened(dy[k]);
      pass_gate(g, bits[k]);
      if (p.dresidual.data) write<W>(p.dresidual.at(r, at.channel), g, p.residual_adds);
      if (!p.dx.data) continue;
      const Pack<W> x = widened(in[k]);
      for (int l = 0; l < W; ++l) {
        if (p.sums.data) g.v[l] -= mean_g[l] + (x.v[l] - mean[l]) * slope[l];
        g.v[l] *= scale[l];
      }
      write<W>(p.dx.at(r, at.channel), g, p.adds);
    }
  }
}

template <class T>
struct CorrectionParams {
  Rows<T> dx;
  ConstRows<T> x;
  ConstRows<float> stats, weighted;
  float epsilon;
  float per_element;
};

template <class T, int W>
__global__ void __launch_bounds__(kThreads) correction_kernel(const RowTiling t, const CorrectionParams<T> p) {
  const ThreadRows at = thread_rows<W>(t);
  if (!at.is_active) return;
  Pack<W> constants[4];
  load_constants<W>({p.stats.at(0, at.channel), p.stats.at(1, at.channel), p.weighted.at(0, at.channel),
                     p.weighted.at(1, at.channel)},
                    constants);
  float mean[W], first[W], second[W];
  for (int l = 0; l < W; ++l) {
    const float inverse = inverse_deviation(constants[1].v[l], p.epsilon);
    mean[l] = constants[0].v[l];
    first[l] = constants[2].v[l] * inverse * p.per_element;
    second[l] = constants[3].v[l] * inverse * inverse * p.per_element;
  }
  for (std::int64_t r = at.begin; r < at.end; r += at.step) {
    const Pack<W> in = load<W>(p.x.at(r, at.channel));
    Pack<W> d;
    for (int l = 0; l < W; ++l) d.v[l] = -first[l] - (in.v[l] - mean[l]) * second[l];
    write<W>(p.dx.at(r, at.channel), d, true);
  }
}

__global__ void __launch_bounds__(kThreads)
    update_running_kernel(const std::int64_t channels, const Rows<float> running, const ConstRows<float> stats,
                          const double momentum, const double unbiased) {
  const std::int64_t c = std::int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= channels) return;
  for (int row = 0; row < 2; ++row)
    move_running(running.at(row, c), double(*stats.at(row, c)) * (row == 1 ? unbiased : 1.0), momentum);
}

float per_element(const ConstView& x) { return 1.0f / float(x.shape.n * x.shape.pixels()); }

template <class T, int W>
void launch_normalize(const View& y, const ConstView& x, const NormalizeArgs& args, const ConstView& residual,
                      cudaStream_t stream) {
  constexpr const char* kOp = "normalize";
  const MaskRows mask = mask_rows(args.relu_mask, y.shape, kOp);
  const RowTiling t = tile_pass(x.shape, W);
  launch(kOp, normalize_kernel<T, W>, t.config(stream), t,
         NormalizeParams<T>{.y = rows_of<T>(y, kOp),
                            .x = rows_of<T>(x, kOp),
                            .residual = rows_of<T>(residual, kOp),
                            .stats = rows_of<float>(args.stats, kOp),
                            .gamma = args.gamma.as<float>(),
                            .beta = args.beta.as<float>(),
                            .epsilon = float(args.epsilon),
                            .has_relu = args.relu,
                            .mask = mask});
  if (W == 8 || !mask.data) return;
  const std::int64_t bytes = args.relu_mask.shape.size();
  launch(kOp, relu_mask_kernel<T>,
         {.grid = dim3(unsigned((bytes + kThreads - 1) / kThreads)), .block = dim3(kThreads), .stream = stream}, bytes,
         y.shape.c, mask, rows_of<T>(ConstView(y), kOp));
}

}  // namespace

void normalize(View y, ConstView x, const NormalizeArgs& args, ConstView residual, cudaStream_t stream) {
  with_packs("normalize", x, {y, residual}, [&]<class T, int W>() {
    if constexpr (sizeof(T) == 4)  // a byte of bits takes eight channels
      if (args.relu_mask.data && W > 1 && can_move(8, {y, x, residual}))
        return launch_normalize<T, 8>(y, x, args, residual, stream);
    launch_normalize<T, W>(y, x, args, residual, stream);
  });
}

void normalize_grad(const NormalizeGrad& grad, const NormalizeArgs& args, cudaStream_t stream) {
  constexpr const char* kOp = "normalize_grad";
  const ConstView y = needs_output(args) ? grad.y : ConstView{};
  with_packs(kOp, grad.dy, {grad.dx, grad.dresidual, y, grad.x}, [&]<class T, int W>() {
    const RowTiling t = tile_pass(grad.x.shape, W);
    launch(kOp, normalize_grad_kernel<T, W>, t.config(stream), t,
           GradParams<T>{.dx = rows_of<T>(grad.dx, kOp),
                         .dresidual = rows_of<T>(grad.dresidual, kOp),
                         .adds = grad.write == Write::add,
                         .residual_adds = grad.residual_write == Write::add,
                         .dy = rows_of<T>(grad.dy, kOp),
                         .x = rows_of<T>(grad.x, kOp),
                         .gate = relu_gate<T>(args, y, grad.x.shape, kOp),
                         .stats = rows_of<float>(args.stats, kOp),
                         .sums = rows_of<float>(grad.sums, kOp),
                         .gamma = args.gamma.as<float>(),
                         .epsilon = float(args.epsilon),
                         .per_element = per_element(grad.x)});
  });
}

void normalize_grad_correction(View dx, ConstView x, ConstView stats, double epsilon, ConstView weighted,
                               cudaStream_t stream) {
  constexpr const char* kOp = "normalize_grad_correction";
  with_packs(kOp, x, {dx}, [&]<class T, int W>() {
    const RowTiling t = tile_pass(x.shape, W);
    launch(kOp, correction_kernel<T, W>, t.config(stream), t,
           CorrectionParams<T>{.dx = rows_of<T>(dx, kOp),
                               .x = rows_of<T>(x, kOp),
                               .stats = rows_of<float>(stats, kOp),
                               .weighted = rows_of<float>(weighted, kOp),
                               .epsilon = float(epsilon),
                               .per_element = per_element(x)});
  });
}

void update_running(View running, ConstView stats, double momentum, std::int64_t elements, cudaStream_t stream) {
  constexpr const char* kOp = "update_running";
  launch(
      kOp, update_running_kernel,
      {.grid = dim3(unsigned((running.shape.c + kThreads - 1) / kThreads)), .block = dim3(kThreads), .stream = stream},
      running.shape.c, rows_of<float>(running, kOp), rows_of<float>(stats, kOp), momentum, unbiased_factor(elements));
}

}  // namespace graft::gpu
