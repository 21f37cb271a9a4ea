// What profilers need of a GPU: time between calls by events on the stream, which waits for nothing, and the names of
// layers as NVTX ranges for Nsight Systems and Nsight Compute.
#include <string>
#include <vector>

#include <nvtx3/nvToolsExt.h>

#include "kernels/cuda/cuda_backend.h"

namespace graft {
namespace {

using gpu::check;

class CudaTimer final : public DeviceTimer {
 public:
  explicit CudaTimer(cudaStream_t stream) : stream_(stream) {}

  std::int64_t mark() override {
    if (used_ == events_.size()) check(cudaEventCreate(events_.emplace_back().out()), "creating an event");
    check(cudaEventRecord(events_[used_].get(), stream_), "recording an event");
    return std::int64_t(used_++);
  }

  std::vector<double> take() override {
    std::vector<double> seconds;
    if (used_ == 0) return seconds;
    check(cudaEventSynchronize(events_[used_ - 1].get()), "waiting for an event");
    // From one event to the next: a float of milliseconds would lose digits over a whole step.
    double sum = 0;
    for (std::size_t i = 0; i < used_; ++i) {
      float milliseconds = 0;
      if (i > 0)
        check(cudaEventElapsedTime(&milliseconds, events_[i - 1].get(), events_[i].get()), "reading an event's time");
      seconds.push_back(sum += double(milliseconds) * 1e-3);
    }
    used_ = 0;
    return seconds;
  }

 private:
  cudaStream_t stream_;
  std::vector<gpu::Handle<cudaEvent_t, cudaEventDestroy>> events_;  // kept for the next step
  std::size_t used_ = 0;
};

}  // namespace

std::unique_ptr<DeviceTimer> CudaBackend::make_timer() { return std::make_unique<CudaTimer>(stream()); }

void CudaBackend::push_range(std::string_view name) { nvtxRangePushA(std::string(name).c_str()); }
void CudaBackend::pop_range() { nvtxRangePop(); }

}  // namespace graft
