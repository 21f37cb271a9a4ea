// What the CUDA module gives to the program that loads it: one exported function that returns this table. Program and
// module are built from one source tree; `version` makes sure that they stay together. No CUDA header is needed here.
#pragma once

#include <memory>
#include <string>

#include "kernels/backend.h"
#include "kernels/cuda/graph_spec.h"

namespace graft {

struct CudaModule {
  const char* version;  // build_info().version of the module
  /// Empty when the GPU can be used, else why not.
  std::string (*unavailable_reason)(int index);
  /// Errors: the GPU cannot be used.
  std::unique_ptr<Backend> (*create)(int index, const BackendOptions& options);
  std::string (*cudnn_version)();  // "9.19.0"
  /// What cuDNN offers for a graph on a GPU that need not be here: plans that give the same bits every time.
  ///   device_properties: what cudnn_frontend::DeviceProperties serializes, JSON.
  /// Engines that are compiled at run time are listed only if a libcuda.so.1 is loaded; the toolkit's stub will do.
  GraphSupport (*graph_support)(const std::string& device_properties, const GraphSpec& spec);
};

/// The type and the name of the exported function.
using CudaModuleFunction = const CudaModule* (*)();
inline constexpr const char* kCudaModuleFunction = "graft_cuda_module";

}  // namespace graft
