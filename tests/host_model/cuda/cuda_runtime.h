// The host model in the place of CUDA's own header: found first on the include path of the files that run on it. The
// device's language, and what kernels/cuda/ calls of the runtime; work is done when its call returns.
#pragma once

#include <cstddef>
#include <functional>
#include <tuple>
#include <type_traits>

#include "tests/host_model/device_language.h"
#include "tests/host_model/tensor_core.h"

enum cudaError_t { cudaSuccess = 0, cudaErrorMemoryAllocation = 2, cudaErrorInvalidConfiguration = 9 };

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorInvalidConfiguration ? "invalid configuration argument"
         : error == cudaErrorMemoryAllocation   ? "out of memory"
                                                : "no error";
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }

// There is one stream, and it is always idle.
using cudaStream_t = struct CUstream_st*;
using cudaEvent_t = struct CUevent_st*;
inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaFreeHost(void*) { return cudaSuccess; }

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes = 0;  // not offered: kernels use fixed sizes
  cudaStream_t stream = nullptr;
};

/// Runs the kernel to its end.
/// Errors: graft::host_model::Fault.
template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...), A&&... arguments) {
  static_assert((std::is_trivially_copyable_v<P> && ...), "a kernel's parameters are copied as bytes");
  static_assert((sizeof(P) + ... + 0) <= 4096, "a kernel's parameters take 4 KiB at most");
  const graft::host_model::Grid grid{config->gridDim, config->blockDim, reinterpret_cast<const void*>(kernel)};
  if (!graft::host_model::is_valid(grid) || config->dynamicSmemBytes != 0) return cudaErrorInvalidConfiguration;
  const std::tuple<P...> values(static_cast<A&&>(arguments)...);
  graft::host_model::run(grid, [&] { std::apply(kernel, values); });  // each thread gets its own copy
  return cudaSuccess;
}
