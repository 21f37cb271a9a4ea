// A norm with fixed statistics, folded into the weights of the convolution before it. A block takes one output channel.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.h"
#include "kernels/half.h"

namespace graft::gpu {
namespace {

struct Fold {
  void* folded;
  DType dtype;  // of `folded`
  float* shift;
  const float *w, *bias;  // bias may be null
  const float *mean, *variance, *gamma, *beta;
  double epsilon;
  std::int64_t row_size;
};

__device__ void store(const Fold& f, std::int64_t i, float value) {
  if (f.dtype == DType::f32)
    static_cast<float*>(f.folded)[i] = value;
  else
    static_cast<std::uint16_t*>(f.folded)[i] = f.dtype == DType::bf16 ? BFloat16(value).bits : Float16(value).bits;
}

__global__ void __launch_bounds__(kThreads) fold_kernel(const Fold f) {
  const std::int64_t k = blockIdx.x, begin = k * f.row_size;
  const float scale = float(1.0 / sqrt(double(f.variance[k]) + f.epsilon)) * f.gamma[k];
  for (std::int64_t i = begin + threadIdx.x; i < begin + f.row_size; i += kThreads) store(f, i, f.w[i] * scale);
  if (threadIdx.x == 0) f.shift[k] = ((f.bias ? f.bias[k] : 0.0f) - f.mean[k]) * scale + f.beta[k];
}

}  // namespace

void fold_normalize(View folded, View shift, ConstView w, ConstView bias, const NormalizeArgs& args,
                    cudaStream_t stream) {
  launch("fold_normalize", fold_kernel, {.grid = dim3(unsigned(w.shape.n)), .block = dim3(kThreads), .stream = stream},
         Fold{.folded = folded.data,
              .dtype = folded.dtype,
              .shift = shift.as<float>(),
              .w = w.as<float>(),
              .bias = bias.as<float>(),
              .mean = args.stats.as<float>(),
              .variance = args.stats.as<float>() + args.stats.pitch,
              .gamma = args.gamma.as<float>(),
              .beta = args.beta.as<float>(),
              .epsilon = args.epsilon,
              .row_size = w.shape.size() / w.shape.n});
}

}  // namespace graft::gpu
