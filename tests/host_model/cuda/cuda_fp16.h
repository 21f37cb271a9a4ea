// The host model's half, in the place of CUDA's own header.
#pragma once

#include "kernels/half.h"

using __half = graft::Float16;

inline float __half2float(__half x) { return x; }
inline __half __float2half_rn(float x) { return __half(x); }
