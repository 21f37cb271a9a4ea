// Deliberately wrong kernels, and right ones that resemble them. The line that must be reported ends in a comment with
// the kernel's name; where an order of threads decides which of two is noticed, both do.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/host_model/host_model.h"

namespace graft {

/// What a test launches; x holds 128 numbers on the model's device.
struct WrongKernel {
  std::string name;
  void (*launch)(float* x);
  host_model::FaultKind kind;  // of the fault that is expected
  std::string says;            // part of its text
};

// wrong_kernels.cu
std::vector<WrongKernel> wrong_kernels();
void launch_unwritten(float* x);             // x[t] = shared memory that nobody wrote, for t = 56
void launch_left_over(float* x);             // block 1 reads what only block 0 has written
void launch_too_many_threads(float* x);      // 1025
void launch_beyond_shared(float* x);         // these three are for the sanitizers
void launch_beyond_global(float* x);         // one element past 128
void launch_misaligned(float* x);            // a float4 at x + 1
void launch_right(float* x, int* integers);  // x: 96 numbers; integers: 4, zero

// racing_kernels.cu
std::vector<WrongKernel> racing_kernels();
/// Kernels that look like racing ones and are not: none may be reported.
std::vector<WrongKernel> ordered_kernels();

}  // namespace graft
