// Batch norm's element-wise passes: forward with residual and ReLU, and the gradients. A thread keeps the constants of
// its channels in registers and walks over rows. The sums they need come from reduce.cu.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.h"

namespace graft::gpu {
namespace {

__device__ __forceinline__ float inverse_deviation(float variance, double epsilon) {
  return float(1.0 / sqrt(double(variance) + epsilon));
}

struct NormalizeParams {
  Rows y;
  ConstRows x, residual, stats;
  const float *gamma, *beta;
  double epsilon;
  bool has_relu;
};

template <int W>
__global__ void __launch_bounds__(kThreads) normalize_kernel(const RowTiling t, const NormalizeParams p) {
  const ThreadRows at = thread_rows<W>(t);
  if (!at.is_active) return;
  float mean[W], scale[W], beta[W];
  for (int l = 0; l < W; ++l) {
    const std::int64_t c = at.channel + l;
    mean[l] = *p.stats.at(0, c);
    scale[l] = inverse_deviation(*p.stats.at(1, c), p.epsilon) * p.gamma[c];
    beta[l] = p.beta[c];
  }
  for (std::int64_t r = at.begin; r < at.end; r += at.step) {
    Pack<W> v = load<W>(p.x.at(r, at.channel));
    for (int l = 0; l < W; ++l) v.v[l] = (v.v[l] - mean[l]) * scale[l] + beta[l];
    if (p.residual.data) {
      const Pack<W> more = load<W>(p.residual.at(r, at.channel));
      for (int l = 0; l < W; ++l) v.v[l] += more.v[l];
    }
    if (p.has_relu)
      for (int l = 0; l < W; ++l) v.v[l] = v.v[l] < 0 ? 0.0f : v.v[l];
    store<W>(p.y.at(r, at.channel), v);
  }
}

struct GradParams {
  Rows dx, dresidual;
  bool adds, residual_adds;
  ConstRows dy, y, x, stats, sums;  // y.data null: no ReLU; sums.data null: fixed statistics
  const float* gamma;
  double epsilon;
  float per_element;  // 1 / (N*H*W)
};

template <int W>
__global__ void __launch_bounds__(kThreads) normalize_grad_kernel(const RowTiling t, const GradParams p) {
  const ThreadRows at = thread_rows<W>(t);
  if (!at.is_active) return;
  float mean[W], inverse[W], scale[W], mean_g[W] = {}, mean_dot[W] = {};
  for (int l = 0; l < W; ++l) {
    const std::int64_t c = at.channel + l;
    mean[l] = *p.stats.at(0, c);
    inverse[l] = inverse_deviation(*p.stats.at(1, c), p.epsilon);
    scale[l] = inverse[l] * p.gamma[c];
    if (p.sums.data) {
      mean_g[l] = *p.sums.at(0, c) * p.per_element;
      mean_dot[l] = *p.sums.at(1, c) * p.per_element;
    }
  }
  for (std::int64_t r = at.begin; r < at.end; r += at.step) {
    // dx or dresidual may be dy's memory: everything is read before it is written.
    Pack<W> g = load<W>(p.dy.at(r, at.channel));
    if (p.y.data) {
      const Pack<W> out = load<W>(p.y.at(r, at.channel));
      for (int l = 0; l < W; ++l) g.v[l] = out.v[l] > 0 ? g.v[l] : 0.0f;
    }
    if (p.dresidual.data) write<W>(p.dresidual.at(r, at.channel), g, p.residual_adds);
    if (!p.dx.data) continue;
    if (p.sums.data) {
      const Pack<W> in = load<W>(p.x.at(r, at.channel));
      for (int l = 0; l < W; ++l) g.v[l] -= mean_g[l] + (in.v[l] - mean[l]) * inverse[l] * mean_dot[l];
    }
    for (int l = 0; l < W; ++l) g.v[l] *= scale[l];
    write<W>(p.dx.at(r, at.channel), g, p.adds);
  }
}

struct CorrectionParams {
  Rows dx;
  ConstRows x, stats, weighted;
  double epsilon;
  float per_element;
};

template <int W>
__global__ void __launch_bounds__(kThreads) correction_kernel(const RowTiling t, const CorrectionParams p) {
  const ThreadRows at = thread_rows<W>(t);
  if (!at.is_active) return;
  float mean[W], first[W], second[W];
  for (int l = 0; l < W; ++l) {
    const std::int64_t c = at.channel + l;
    const float inverse = inverse_deviation(*p.stats.at(1, c), p.epsilon);
    mean[l] = *p.stats.at(0, c);
    first[l] = *p.weighted.at(0, c) * inverse * p.per_element;
    second[l] = *p.weighted.at(1, c) * inverse * inverse * p.per_element;
  }
  for (std::int64_t r = at.begin; r < at.end; r += at.step) {
    const Pack<W> in = load<W>(p.x.at(r, at.channel));
    Pack<W> d;
    for (int l = 0; l < W; ++l) d.v[l] = -first[l] - (in.v[l] - mean[l]) * second[l];
    write<W>(p.dx.at(r, at.channel), d, true);
  }
}

__global__ void __launch_bounds__(kThreads)
    update_running_kernel(const std::int64_t channels, const Rows running, const ConstRows stats, const double momentum,
                          const double unbiased) {
  const std::int64_t c = std::int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= channels) return;
  for (int row = 0; row < 2; ++row) {
    const double now = double(*stats.at(row, c)) * (row == 1 ? unbiased : 1.0);
    float* r = running.at(row, c);
    *r = float((1 - momentum) * double(*r) + momentum * now);
  }
}

float per_element(const ConstView& x) { return 1.0f / float(x.shape.n * x.shape.pixels()); }

}  // namespace

void normalize(View y, ConstView x, const NormalizeArgs& args, ConstView residual, cudaStream_t stream) {
  constexpr const char* kOp = "normalize";
  const int width = common_width({y, x, residual});
  const RowTiling t = tile_pass(x.shape, width);
  launch(kOp, width == 4 ? normalize_kernel<4> : normalize_kernel<1>, t.config(stream), t,
         NormalizeParams{.y = rows_of(y, kOp),
                         .x = rows_of(x, kOp),
                         .residual = rows_of(residual, kOp),
                         .stats = rows_of(args.stats, kOp),
                         .gamma = args.gamma.as<float>(),
                         .beta = args.beta.as<float>(),
                         .epsilon = args.epsilon,
                         .has_relu = args.relu});
}

void normalize_grad(const NormalizeGrad& grad, const NormalizeArgs& args, cudaStream_t stream) {
  constexpr const char* kOp = "normalize_grad";
  const ConstView y = args.relu ? grad.y : ConstView{};
  const int width = common_width({grad.dx, grad.dresidual, grad.dy, y, grad.x});
  const RowTiling t = tile_pass(grad.x.shape, width);
  launch(kOp, width == 4 ? normalize_grad_kernel<4> : normalize_grad_kernel<1>, t.config(stream), t,
         GradParams{.dx = rows_of(grad.dx, kOp),
                    .dresidual = rows_of(grad.dresidual, kOp),
                    .adds = grad.write == Write::add,
                    .residual_adds = grad.residual_write == Write::add,
                    .dy = rows_of(grad.dy, kOp),
                    .y = rows_of(y, kOp),
                    .x = rows_of(grad.x, kOp),
                    .stats = rows_of(args.stats, kOp),
                    .sums = rows_of(grad.sums, kOp),
                    .gamma = args.gamma.as<float>(),
                    .epsilon = args.epsilon,
                    .per_element = per_element(grad.x)});
}

void normalize_grad_correction(View dx, ConstView x, ConstView stats, double epsilon, ConstView weighted,
                               cudaStream_t stream) {
  constexpr const char* kOp = "normalize_grad_correction";
  const int width = common_width({dx, x});
  const RowTiling t = tile_pass(x.shape, width);
  launch(kOp, width == 4 ? correction_kernel<4> : correction_kernel<1>, t.config(stream), t,
         CorrectionParams{.dx = rows_of(dx, kOp),
                          .x = rows_of(x, kOp),
                          .stats = rows_of(stats, kOp),
                          .weighted = rows_of(weighted, kOp),
                          .epsilon = epsilon,
                          .per_element = per_element(x)});
}

void update_running(View running, ConstView stats, double momentum, std::int64_t elements, cudaStream_t stream) {
  constexpr const char* kOp = "update_running";
  const double unbiased = elements > 1 ? double(elements) / double(elements - 1) : 1.0;
  launch(
      kOp, update_running_kernel,
      {.grid = dim3(unsigned((running.shape.c + kThreads - 1) / kThreads)), .block = dim3(kThreads), .stream = stream},
      running.shape.c, rows_of(running, kOp), rows_of(stats, kOp), momentum, unbiased);
}

}  // namespace graft::gpu
