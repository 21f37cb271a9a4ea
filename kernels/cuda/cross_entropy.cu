// Softmax and sigmoid cross-entropy, a block per row of logits. Rows are few and short beside the network, so all sums
// are taken in double, in a fixed order; a second launch of one block adds the rows.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.h"
#include "kernels/functors.h"

namespace graft::gpu {
namespace {

constexpr int kRowThreads = 128;

/// Combines one value per thread; every thread gets the result, and may call it again at once.
template <int Threads, class Combine>
__device__ double block_all(double v, const Combine& combine) {
  __shared__ double values[Threads];
  values[threadIdx.x] = v;
  for (int half = Threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (int(threadIdx.x) < half) values[threadIdx.x] = combine(values[threadIdx.x], values[threadIdx.x + half]);
  }
  __syncthreads();
  const double result = values[0];
  __syncthreads();
  return result;
}

struct Sum {
  __device__ double operator()(double a, double b) const { return a + b; }
};
struct Largest {  // a NaN wins
  __device__ double operator()(double a, double b) const { return a >= b || a != a ? a : b; }
};

struct SoftmaxParams {
  const std::int32_t* labels;
  const float* weights;  // per class; null: all one
  std::int64_t rows, classes;
  double smoothing;
};

__device__ __forceinline__ double weight_of(const SoftmaxParams& p, std::int64_t c) {
  return p.weights ? double(p.weights[c]) : 1.0;
}

template <class T>
__device__ __forceinline__ double logit(const ConstRows<T>& logits, std::int64_t n, std::int64_t c) {
  return double(widen(*logits.at(n, c)));
}

/// Probabilities of one row, and its weighted loss.
template <class T>
__global__ void __launch_bounds__(kRowThreads) softmax_kernel(const SoftmaxParams p, const ConstRows<T> logits,
                                                              const Rows<float> probabilities, double* row_loss) {
  const std::int64_t n = blockIdx.x;
  double largest = -INFINITY;
  for (std::int64_t c = threadIdx.x; c < p.classes; c += kRowThreads) largest = Largest{}(largest, logit(logits, n, c));
  largest = block_all<kRowThreads>(largest, Largest{});
  double sum = 0;
  for (std::int64_t c = threadIdx.x; c < p.classes; c += kRowThreads) sum += exp(logit(logits, n, c) - largest);
  const double log_sum = log(block_all<kRowThreads>(sum, Sum{})) + largest;

  const std::int64_t label = p.labels[n];
  double loss = 0;
  for (std::int64_t c = threadIdx.x; c < p.classes; c += kRowThreads) {
    const double minus_log = log_sum - logit(logits, n, c);
    *probabilities.at(n, c) = float(exp(-minus_log));
    if (c == label) loss += (1 - p.smoothing) * weight_of(p, c) * minus_log;
    if (p.smoothing > 0) loss += p.smoothing / double(p.classes) * weight_of(p, c) * minus_log;
  }
  loss = block_all<kRowThreads>(loss, Sum{});
  if (threadIdx.x == 0) row_loss[n] = loss;
}

__device__ double total_label_weight(const SoftmaxParams& p) {
  double total = 0;
  for (std::int64_t n = threadIdx.x; n < p.rows; n += kThreads) total += weight_of(p, p.labels[n]);
  return block_all<kThreads>(total, Sum{});
}

/// One block: the mean over rows.
__global__ void __launch_bounds__(kThreads) loss_kernel(const SoftmaxParams p, float* loss, const double* row_loss) {
  const double weight = total_label_weight(p);
  double total = 0;
  for (std::int64_t n = threadIdx.x; n < p.rows; n += kThreads) total += row_loss[n];
  total = block_all<kThreads>(total, Sum{});
  if (threadIdx.x == 0) loss[0] = float(total / weight);
}

/// One block: totals[0] = sum of the rows' weights, totals[1] = sum of the classes' weights.
__global__ void __launch_bounds__(kThreads) totals_kernel(const SoftmaxParams p, double* totals) {
  const double rows = total_label_weight(p);
  double classes = 0;
  for (std::int64_t c = threadIdx.x; c < p.classes; c += kThreads) classes += weight_of(p, c);
  classes = block_all<kThreads>(classes, Sum{});
  if (threadIdx.x == 0) {
    totals[0] = rows;
    totals[1] = classes;
  }
}

/// loss_n = sum_c t_c * (log_sum - x_c), so d/dx_c = p_c * sum(t) - t_c.
template <class T>
__global__ void __launch_bounds__(kThreads)
    softmax_grad_kernel(const SoftmaxParams p, const Rows<T> dlogits, const bool adds, const float* dloss,
                        const ConstRows<float> probabilities, const double* totals) {
  const std::int64_t i = std::int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= p.rows * p.classes) return;
  const std::int64_t n = i / p.classes, c = i % p.classes, label = p.labels[n];
  const double spread = p.smoothing / double(p.classes);
  const double sum_t = (1 - p.smoothing) * weight_of(p, label) + spread * totals[1];
  const double t = (c == label ? (1 - p.smoothing) * weight_of(p, c) : 0.0) + spread * weight_of(p, c);
  const double g = double(dloss[0]) / totals[0] * (double(*probabilities.at(n, c)) * sum_t - t);
  write<1>(dlogits.at(n, c), {{float(g)}}, adds);
}

SoftmaxParams params_of(const Shape& logits, const ConstView& labels, const SoftmaxSpec& spec) {
  if (labels.dtype != DType::i32) throw Error("softmax_cross_entropy: labels must be i32");
  return {.labels = labels.as<std::int32_t>(),
          .weights = spec.class_weights.as<float>(),
          .rows = logits.n,
          .classes = logits.c,
          .smoothing = spec.label_smoothing};
}

struct SigmoidParams {
  const std::int32_t* labels;
  ConstRows<float> targets;
  const float* weights;  // of what holds, per class; null: all one
  std::int64_t rows, classes;
  double smoothing;
  __device__ LogitCrossEntropy at(std::int64_t n, std::int64_t c) const {
    return logit_cross_entropy(*targets.at(labels[n], c) > 0.5F, smoothing, weights ? double(weights[c]) : 1.0);
  }
};

/// Probabilities of one row, and the sum of its losses.
template <class T>
__global__ void __launch_bounds__(kRowThreads) sigmoid_kernel(const SigmoidParams p, const ConstRows<T> logits,
                                                              const Rows<float> probabilities, double* row_loss) {
  const std::int64_t n = blockIdx.x;
  double loss = 0;
  for (std::int64_t c = threadIdx.x; c < p.classes; c += kRowThreads) {
    const double x = logit(logits, n, c);
    *probabilities.at(n, c) = float(1 / (1 + exp(-x)));
    loss += p.at(n, c).loss(x);
  }
  loss = block_all<kRowThreads>(loss, Sum{});
  if (threadIdx.x == 0) row_loss[n] = loss;
}

/// One block: the mean over rows and classes.
__global__ void __launch_bounds__(kThreads)
    sigmoid_loss_kernel(const SigmoidParams p, float* loss, const double* row_loss) {
  double total = 0;
  for (std::int64_t n = threadIdx.x; n < p.rows; n += kThreads) total += row_loss[n];
  total = block_all<kThreads>(total, Sum{});
  if (threadIdx.x == 0) loss[0] = float(total / double(p.rows * p.classes));
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    sigmoid_grad_kernel(const SigmoidParams p, const Rows<T> dlogits, const bool adds, const float* dloss,
                        const ConstRows<float> probabilities) {
  const std::int64_t i = std::int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= p.rows * p.classes) return;
  const std::int64_t n = i / p.classes, c = i % p.classes;
  const double g = double(dloss[0]) / double(p.rows * p.classes) * p.at(n, c).slope(double(*probabilities.at(n, c)));
  write<1>(dlogits.at(n, c), {{float(g)}}, adds);
}

SigmoidParams params_of(const Shape& logits, const ConstView& labels, const SigmoidSpec& spec) {
  constexpr const char* kOp = "sigmoid_cross_entropy";
  if (labels.dtype != DType::i32) throw Error("sigmoid_cross_entropy: labels must be i32");
  return {.labels = labels.as<std::int32_t>(),
          .targets = rows_of<float>(spec.targets, kOp),
          .weights = spec.positive_weights.as<float>(),
          .rows = logits.n,
          .classes = logits.c,
          .smoothing = spec.label_smoothing};
}

/// A thread for each number of a batch's logits.
LaunchConfig for_each_logit(std::int64_t count, cudaStream_t stream) {
  return {.grid = dim3(unsigned((count + kThreads - 1) / kThreads)), .block = dim3(kThreads), .stream = stream};
}

}  // namespace

std::int64_t cross_entropy_scratch_bytes(std::int64_t rows) {
  return (rows > 2 ? rows : 2) * std::int64_t(sizeof(double));
}

void softmax_cross_entropy(View loss, View probabilities, ConstView logits, ConstView labels, const SoftmaxSpec& spec,
                           double* scratch, cudaStream_t stream) {
  constexpr const char* kOp = "softmax_cross_entropy";
  const SoftmaxParams p = params_of(logits.shape, labels, spec);
  with_type(kOp, logits.dtype, [&]<class T>() {
    launch(kOp, softmax_kernel<T>, {.grid = dim3(unsigned(p.rows)), .block = dim3(kRowThreads), .stream = stream}, p,
           rows_of<T>(logits, kOp), rows_of<float>(probabilities, kOp), scratch);
  });
  launch(kOp, loss_kernel, {.block = dim3(kThreads), .stream = stream}, p, loss.as<float>(), scratch);
}

void softmax_cross_entropy_grad(View dlogits, Write write, ConstView dloss, ConstView probabilities, ConstView labels,
                                const SoftmaxSpec& spec, double* scratch, cudaStream_t stream) {
  constexpr const char* kOp = "softmax_cross_entropy_grad";
  const SoftmaxParams p = params_of(probabilities.shape, labels, spec);
  launch(kOp, totals_kernel, {.block = dim3(kThreads), .stream = stream}, p, scratch);
  with_type(kOp, dlogits.dtype, [&]<class T>() {
    launch(kOp, softmax_grad_kernel<T>, for_each_logit(p.rows * p.classes, stream), p, rows_of<T>(dlogits, kOp),
           write == Write::add, dloss.as<float>(), rows_of<float>(probabilities, kOp), scratch);
  });
}

void sigmoid_cross_entropy(View loss, View probabilities, ConstView logits, ConstView labels, const SigmoidSpec& spec,
                           double* scratch, cudaStream_t stream) {
  constexpr const char* kOp = "sigmoid_cross_entropy";
  const SigmoidParams p = params_of(logits.shape, labels, spec);
  with_type(kOp, logits.dtype, [&]<class T>() {
    launch(kOp, sigmoid_kernel<T>, {.grid = dim3(unsigned(p.rows)), .block = dim3(kRowThreads), .stream = stream}, p,
           rows_of<T>(logits, kOp), rows_of<float>(probabilities, kOp), scratch);
  });
  launch(kOp, sigmoid_loss_kernel, {.block = dim3(kThreads), .stream = stream}, p, loss.as<float>(), scratch);
}

void sigmoid_cross_entropy_grad(View dlogits, Write write, ConstView dloss, ConstView probabilities, ConstView labels,
                                const SigmoidSpec& spec, cudaStream_t stream) {
  constexpr const char* kOp = "sigmoid_cross_entropy_grad";
  const SigmoidParams p = params_of(probabilities.shape, labels, spec);
  with_type(kOp, dlogits.dtype, [&]<class T>() {
    launch(kOp, sigmoid_grad_kernel<T>, for_each_logit(p.rows * p.classes, stream), p, rows_of<T>(dlogits, kOp),
           write == Write::add, dloss.as<float>(), rows_of<float>(probabilities, kOp));
  });
}

}  // namespace graft::gpu
