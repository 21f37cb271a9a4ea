// Runs a grid: blocks one after another, the threads of a block as fibers that take turns at barriers and collectives.
// What device code calls is below; tests use host_model.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "tests/host_model/host_model.h"
#include "tests/host_model/vector_types.h"

// Not const: the compiler would keep them across a switch to another thread.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

namespace graft::host_model {

inline constexpr unsigned kMostThreads = 1024;

struct Grid {
  dim3 blocks, threads;
  const void* kernel;  // its address
};

/// Whether a GPU would accept the launch.
bool is_valid(const Grid& grid);

/// Runs the kernel; `thread` calls it once, as threadIdx says.
/// Errors: Fault.
void run(const Grid& grid, const std::function<void()>& thread);

/// Waits for the block; the number of threads whose predicate holds.
int wait_for_block(bool predicate, Place place);

enum class Collective : std::uint8_t { sync, ballot, from_lane, from_below, from_above, from_xor };

/// What a lane brings to a collective operation of its warp.
struct CollectiveCall {
  Collective kind = Collective::sync;
  std::uint32_t mask = 0;
  std::uint64_t value = 0;
  int argument = 0, width = warpSize;  // lane or distance, lanes of a segment
  Place place;
};

/// Waits for the lanes of the mask; the value of the lane that was asked for, or the ballot.
std::uint64_t meet(const CollectiveCall& call);

[[noreturn]] void trap(Place place);

/// Fails where an access to global memory, such as a store with a choice of cache, meets a __shared__ array.
void expect_global(const void* p, Place place);

/// Ends the kernel with a Fault whose text describe() returns; the scheduler adds kernel, block and thread. The text is
/// built before the fiber is left for good, so that nothing on its stack owns memory then.
void record_fault(FaultKind kind, const std::string& text);
[[noreturn]] void leave_kernel();
template <class Describe>
[[noreturn]] void fail(FaultKind kind, const Describe& describe) {
  record_fault(kind, describe());
  leave_kernel();
}

/// Number of the thread that runs, in its block; -1 outside kernels.
int current_thread();

}  // namespace graft::host_model
