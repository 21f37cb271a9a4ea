// What trials of plans share: time on the GPU, and how far two results are apart.
#pragma once

#include <functional>

#include "kernels/cuda/conv_plans.h"

namespace graft {

class GpuStopwatch {
 public:
  explicit GpuStopwatch(cudaStream_t stream);
  /// Seconds that what `run` launches takes: the fastest of some rounds, after one that does not count. What
  /// takes less than `long_enough` seconds is launched several times as one graph, so that the host's time is not what
  /// is compared. Errors: run's; what it launches cannot be captured.
  double seconds(const std::function<void()>& run, double long_enough = 100e-6);

 private:
  double best_of_rounds(const std::function<void()>& run);

  cudaStream_t stream_;
  gpu::Handle<cudaEvent_t, cudaEventDestroy> events_[2];
};

struct LargestDifference {
  double share = 0;               // of the largest value; NaN if one result is not finite where the other is
  bool compared_nothing = false;  // no finite number but zeros
};
/// Between two results of `size` elements; what the type that they were computed in cannot hold counts as its largest.
LargestDifference largest_difference(const PlanDevice& device, const void* a, const void* b, std::int64_t size,
                                     DType dtype, DType computed_in);
inline LargestDifference largest_difference(const PlanDevice& device, const void* a, const void* b, std::int64_t size,
                                            DType dtype) {
  return largest_difference(device, a, b, size, dtype, dtype);
}

/// A dense vector of so many elements.
View vector_view(void* data, DType dtype, std::int64_t size);

}  // namespace graft
