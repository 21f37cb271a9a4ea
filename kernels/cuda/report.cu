// What the host wants to know of a batch, gathered by one block so that one small copy brings it over: loss, penalty,
// right answers, and whether training goes on. A warp takes a row of probabilities at a time.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.h"

namespace graft::gpu {
namespace {

constexpr int kReportWarps = 32, kReportThreads = kReportWarps * kWarp;  // rows wait for memory: many at once

struct ReportParams {
  double* report;
  const float *loss, *penalty;  // penalty null: none
  ConstRows<float> probabilities;
  const std::int32_t* labels;
  ConstRows<float> targets;  // null: one answer per row
  std::int64_t rows, classes;
};

/// The first largest of a row, by a whole warp; every lane gets it. A NaN in front is the largest, elsewhere it is
/// passed over, as std::max_element has it.
__device__ std::int64_t first_largest(const float* row, std::int64_t classes) {
  const int lane = int(threadIdx.x) % kWarp;
  float largest = row[0];
  const bool begins_with_nan = largest != largest;
  int at = 0;
  const int count = int(classes);
#pragma unroll 8
  for (int c = lane; c < count; c += kWarp) {
    const float value = row[c];
    if (value > largest) {
      largest = value;
      at = c;
    }
  }
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const float other = __shfl_down_sync(0xffffffffu, largest, step);
    const int other_at = __shfl_down_sync(0xffffffffu, at, step);
    if (other > largest || (other == largest && other_at < at)) {
      largest = other;
      at = other_at;
    }
  }
  return begins_with_nan ? 0 : __shfl_sync(0xffffffffu, at, 0);
}

/// How many of a row's answers are right, by a whole warp; the first lane gets it.
__device__ double right_answers(const float* row, const float* targets, std::int64_t classes) {
  double right = 0;
  for (std::int64_t c = threadIdx.x % kWarp; c < classes; c += kWarp) right += (row[c] > 0.5F) == (targets[c] > 0.5F);
  for (int step = kWarp / 2; step > 0; step /= 2) right += __shfl_down_sync(0xffffffffu, right, step);
  return right;
}

__device__ __forceinline__ bool is_finite(double x) { return x - x == 0; }

__global__ void __launch_bounds__(kReportThreads) report_kernel(const ReportParams p) {
  __shared__ double correct[kReportWarps];
  const int warp = int(threadIdx.x) / kWarp;
  double mine = 0;
  for (std::int64_t n = warp; n < p.rows; n += kReportWarps) {
    const float* row = p.probabilities.at(n, 0);
    if (p.targets.data)
      mine += right_answers(row, p.targets.at(p.labels[n], 0), p.classes);
    else
      mine += first_largest(row, p.classes) == p.labels[n];
  }
  if (threadIdx.x % kWarp == 0) correct[warp] = mine;
  __syncthreads();
  if (threadIdx.x != 0) return;
  double total = 0;
  for (int w = 0; w < kReportWarps; ++w) total += correct[w];
  const double loss = double(p.loss[0]), penalty = p.penalty ? double(p.penalty[0]) : 0.0;
  p.report[kReportLoss] = loss;
  p.report[kReportPenalty] = penalty;
  p.report[kReportCorrect] = total;
  if (!is_finite(loss) || !is_finite(penalty)) p.report[kReportHalted] = 1;
}

}  // namespace

void report_batch(double* report, ConstView loss, ConstView penalty, ConstView probabilities, ConstView labels,
                  ConstView targets, cudaStream_t stream) {
  launch("report_batch", report_kernel, {.block = dim3(kReportThreads), .stream = stream},
         ReportParams{report, loss.as<float>(), penalty.as<float>(), rows_of<float>(probabilities, "report_batch"),
                      labels.as<std::int32_t>(), rows_of<float>(targets, "report_batch"), probabilities.shape.n,
                      probabilities.shape.c});
}

}  // namespace graft::gpu
