// What a device can do at best, measured through the same calls that networks use: the limits that a profile compares
// with. Not what the vendor's data sheet says, and not a benchmark of single layers (bench/).
#pragma once

#include <string>

#include "tensor/context.h"

namespace graft {

struct DeviceLimits {
  double flops_per_second = 0;  // the fastest large convolution or matrix product
  double bytes_per_second = 0;  // read and written by a large copy
  std::string flops_call;       // "linear [2048,2048] x [2048,2048]"
  std::string bytes_call;       // "copy of 256.0 MB"
};

/// Takes some two seconds, and memory that only the destruction of the context's backend returns: use one of its own.
/// Each figure is the median of repeated calls, each long enough for the clock; sizes grow until a call takes 20 ms or
/// memory is short. 3 x 3 convolutions are left out: algorithms that save multiplications would count as faster than
/// they compute.
DeviceLimits measure_limits(Context& context);

}  // namespace graft
