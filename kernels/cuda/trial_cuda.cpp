#include "kernels/cuda/trial_cuda.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/scratch.h"

namespace graft {
namespace {

using gpu::check;

/// Errors: what `run` launches cannot be captured.
gpu::Handle<cudaGraphExec_t, cudaGraphExecDestroy> captured(cudaStream_t stream, int runs,
                                                            const std::function<void()>& run) {
  gpu::Handle<cudaGraph_t, cudaGraphDestroy> graph;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "capturing a plan");
  try {
    for (int i = 0; i < runs; ++i) run();
  } catch (...) {
    cudaStreamEndCapture(stream, graph.out());
    cudaGetLastError();
    throw;
  }
  check(cudaStreamEndCapture(stream, graph.out()), "capturing a plan");
  gpu::Handle<cudaGraphExec_t, cudaGraphExecDestroy> executable;
  check(cudaGraphInstantiate(executable.out(), graph.get(), 0), "capturing a plan");
  return executable;
}

}  // namespace

GpuStopwatch::GpuStopwatch(cudaStream_t stream) : stream_(stream) {
  for (auto& event : events_) check(cudaEventCreate(event.out()), "creating an event");
}

double GpuStopwatch::best_of_rounds(const std::function<void()>& run) {
  constexpr int kRounds = 3;
  double best = std::numeric_limits<double>::infinity();
  for (int round = 0; round < kRounds; ++round) {
    check(cudaEventRecord(events_[0].get(), stream_), "timing a plan");
    run();
    check(cudaEventRecord(events_[1].get(), stream_), "timing a plan");
    check(cudaEventSynchronize(events_[1].get()), "timing a plan");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, events_[0].get(), events_[1].get()), "timing a plan");
    best = std::min(best, double(milliseconds) * 1e-3);
  }
  return best;
}

double GpuStopwatch::seconds(const std::function<void()>& run, double long_enough) {
  constexpr int kMostRuns = 16;
  run();  // loads the kernels
  const double best = best_of_rounds(run);
  if (best >= long_enough) return best;
  const int runs = best > long_enough / kMostRuns ? 1 + int(long_enough / best) : kMostRuns;
  const gpu::Handle<cudaGraphExec_t, cudaGraphExecDestroy> several = captured(stream_, runs, run);
  return best_of_rounds([&] { check(cudaGraphLaunch(several.get(), stream_), "timing a plan"); }) / runs;
}

View vector_view(void* data, DType dtype, std::int64_t size) {
  return {.data = data, .dtype = dtype, .format = kNhwc, .shape = {1, size, 1, 1}, .pitch = size};
}

LargestDifference largest_difference(const PlanDevice& on, const void* a, const void* b, std::int64_t size, DType dtype,
                                     DType computed_in) {
  constexpr std::int64_t kPart = std::int64_t{16} << 20;  // elements that are compared at once
  Backend& device = on.backend;
  const std::int64_t element = size_of(dtype), part = std::min(kPart, size);
  const Scratch wide_a(device, part * 4), wide_b(device, part * 4), largest(device, 2 * sizeof(float));
  device.zero(largest.as<void>(), 2 * sizeof(float));
  for (std::int64_t begin = 0; begin < size; begin += part) {
    const std::int64_t length = std::min(part, size - begin);
    const auto widen = [&](const Scratch& to, const void* from) {
      const View wide = vector_view(to.as<void>(), DType::f32, length);
      char* source = const_cast<char*>(static_cast<const char*>(from)) + begin * element;
      device.copy(wide, Write::overwrite, vector_view(source, dtype, length));
      return wide;
    };
    const float limit = computed_in == DType::f16 ? 65504.0f : std::numeric_limits<float>::max();
    gpu::find_largest_difference(largest.as<float>(), widen(wide_a, a), widen(wide_b, b), limit, on.stream);
  }
  float found[2] = {};
  device.copy_out(found, largest.as<void>(), sizeof found);
  if (!std::isfinite(found[0])) return {.share = std::numeric_limits<double>::quiet_NaN()};
  return {.share = found[1] > 0 ? double(found[0]) / double(found[1]) : double(found[0]),
          .compared_nothing = found[1] == 0};
}

}  // namespace graft
