// cuDNN without a GPU: graft's CUDA module, and the description of an H100.
#pragma once

#include <string>

#include "kernels/cuda/module.h"

namespace graft {

/// The module, with a libcuda.so.1 loaded: the driver's, or the toolkit's stub, without which cuDNN lists no engine
/// that is compiled at run time. Null, and the reason, where one of the two cannot be opened.
const CudaModule* open_cudnn(std::string& why_not);

/// What cudnn_frontend::DeviceProperties serialized on an H100 (SXM5, 80 GB).
std::string h100_properties();

}  // namespace graft
