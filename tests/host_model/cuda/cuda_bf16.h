// The host model's bfloat16, in the place of CUDA's own header.
#pragma once

#include "kernels/half.h"

using __nv_bfloat16 = graft::BFloat16;

inline float __bfloat162float(__nv_bfloat16 x) { return x; }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return __nv_bfloat16(x); }
