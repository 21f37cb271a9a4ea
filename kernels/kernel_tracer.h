// What a device runs beneath Backend's calls: kernels, copies and fills, with their times and streams. A tracer only
// collects; what belongs to which call, and where it lies in a step, is strategies/analysis/kernel_times.h's business.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace graft {

/// One thing that the device ran.
struct DeviceActivity {
  enum class Kind : std::uint8_t { kernel, copy, fill } kind = Kind::kernel;
  std::string name;                           // of a kernel: as C++ has it, with namespaces and parameters
  std::int64_t begin_ns = 0, end_ns = 0;      // on a clock of the tracer's own
  std::uint32_t stream = 0, correlation = 0;  // with the API call that launched it
};

struct ActivityRecords {
  std::vector<DeviceActivity> activities;          // in any order
  std::map<std::uint32_t, std::uint64_t> call_of;  // correlation -> number of the call
};

class KernelTracer {
 public:
  virtual ~KernelTracer() = default;
  /// Collects from now on.
  virtual void start() = 0;
  /// What is launched until `end_call` belongs to the call of that number. Calls do not nest.
  virtual void begin_call(std::uint64_t number) = 0;
  virtual void end_call() = 0;
  /// Ends collecting and gives what was run since `start`. The device must be done with it.
  virtual ActivityRecords stop() = 0;
};

}  // namespace graft
