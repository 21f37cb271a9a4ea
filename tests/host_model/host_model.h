// A model of a CUDA device on the host, so that the kernels of kernels/cuda/ run where there is no GPU: the same .cu
// files, compiled as C++ against cuda/cuda_runtime.h beside this file. This header is what tests see of it; README.md
// says how it works, what it finds and what it cannot show.
#pragma once

#include <cstdint>
#include <set>
#include <source_location>
#include <stdexcept>
#include <string>

namespace graft::host_model {

using Place = std::source_location;

enum class FaultKind {
  barrier,      // threads wait at different barriers, or for threads that have returned
  collective,   // a warp's lanes do not meet as their masks say
  deadlock,     // every thread that is left waits
  trap,         // __trap()
  space,        // an access to global memory at an address in shared memory
  exception,    // C++ threw inside a kernel
  race,         // race check: two threads on one byte, one of them writing, nothing between
  unwritten,    // race check: shared memory is read that no thread of the block has written
  unpublished,  // race check: another block's result is read without fences and an atomic between
};

/// A kernel did what a GPU does not define. The text names what, source file and line, kernel, block and thread.
class Fault : public std::runtime_error {
 public:
  Fault(FaultKind kind, const std::string& text) : std::runtime_error(text), kind(kind) {}
  const FaultKind kind;
};

/// In which order the threads of a block, and the blocks of a grid, run as far as barriers let them.
enum class Order { forward, reverse, random };
void set_order(Order order, std::uint64_t seed = 1);

/// Demangled names of the kernels that have been launched by this process, template arguments included.
const std::set<std::string>& launched_kernels();
/// The same for all functions of .cu files that are in the program. Kernels are among them, since launches take their
/// address; functions that were inlined everywhere are not.
const std::set<std::string>& device_functions();

/// Whether this program was linked with race_check.cpp.
bool checks_races();

}  // namespace graft::host_model
