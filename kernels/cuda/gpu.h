// What a kernel file may use of CUDA: the language, checked launches and nothing else. The tests also run kernels on
// the host, with a cuda_runtime.h of their own; so kernels use no <<<>>>, no extern shared memory, no inline assembly
// of their own (tensor_core.h has some), and every thread of a block reaches every barrier. All rules:
// tests/host_model/README.md.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string>

#include "kernels/core.h"

namespace graft::gpu {

/// Throws an Error that names the call, and clears the runtime's last error.
inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  throw Error(std::string("cuda: ") + what + " failed: " + cudaGetErrorString(status) +
              (status == cudaErrorMemoryAllocation ? "; use a smaller --batch or --size" : ""));
}

struct LaunchConfig {
  dim3 grid{1, 1, 1}, block{1, 1, 1};
  cudaStream_t stream = nullptr;
};

/// Starts a kernel; its parameters are converted to what it declares.
/// Errors: the launch was refused, or an earlier kernel failed.
template <class... P, class... A>
void launch(const char* what, void (*kernel)(P...), const LaunchConfig& config, A&&... args) {
  if (config.grid.x == 0 || config.grid.y == 0 || config.grid.z == 0) return;  // nothing to compute
  cudaLaunchConfig_t c{};
  c.gridDim = config.grid;
  c.blockDim = config.block;
  c.stream = config.stream;
  check(cudaLaunchKernelEx(&c, kernel, P(static_cast<A&&>(args))...), what);
}

}  // namespace graft::gpu
