// Kernels of a profiled step on the step's own time line: records of a tracer (kernels/kernel_tracer.h) are matched
// with the device calls that launched them.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kernel_tracer.h"

namespace graft {

/// One kernel, copy or fill; `begin` is in seconds from the step's begin.
struct TimedKernel {
  DeviceActivity::Kind kind = DeviceActivity::Kind::kernel;
  std::string name;
  std::uint32_t stream = 0;
  double begin = 0, seconds = 0;
  std::int64_t call = -1;  // of the step; -1: launched outside its calls
};

/// Sorted by stream, then time; those of one stream do not overlap. The clocks are brought together by the busiest
/// stream: none of its kernels begins before the mark that was set ahead of its call, and the closest begins with it.
/// `call_begins`: of the step's calls, in seconds from its begin; call i has number i + 1 in the records.
std::vector<TimedKernel> place_kernels(const ActivityRecords& records, std::span<const double> call_begins);

/// A kernel's name without its type, namespaces that say nothing, and parameters: "resize_kernel", "input_kernel<float,
/// 8>". "copy" and "fill" for the rest.
std::string kernel_label(const TimedKernel& kernel);

}  // namespace graft
