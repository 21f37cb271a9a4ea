// What the CUDA module gives to the program that loads it: one exported function that returns this table. Program and
// module are built from one source tree; `version` makes sure that they stay together. No CUDA header is needed here.
#pragma once

#include <memory>
#include <string>

#include "kernels/backend.h"

namespace graft {

struct CudaModule {
  const char* version;  // build_info().version of the module
  /// Empty when the GPU can be used, else why not.
  std::string (*unavailable_reason)(int index);
  /// Errors: the GPU cannot be used.
  std::unique_ptr<Backend> (*create)(int index, const BackendOptions& options);
  /// Name and workspace of the plan that cuDNN's heuristics choose for a convolution on a GPU that need not be here.
  ///   device_properties: what cudnn_frontend::DeviceProperties serializes, JSON.
  ///   kind: "forward", "forward+bias", "data_grad", "weight_grad".
  /// Errors: cuDNN offers no plan that computes in float32 and gives the same bits every time.
  std::string (*conv_plan)(const std::string& device_properties, const ConvSpec& spec, const std::string& kind);
};

/// The type and the name of the exported function.
using CudaModuleFunction = const CudaModule* (*)();
inline constexpr const char* kCudaModuleFunction = "graft_cuda_module";

}  // namespace graft
