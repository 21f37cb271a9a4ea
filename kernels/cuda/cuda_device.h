// The door to the CUDA backend for code that knows no CUDA: kernels/device.cpp opens it when a GPU is asked for.
// loader.cpp answers where the backend was built, as a module loaded on demand; absent.cpp where it was not.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace graft {

/// The GPU with this index.
/// Errors: CUDA is not built in or cannot be used here (the text is cuda_unavailable_reason()); no GPU has this index.
std::unique_ptr<Backend> make_cuda_backend(int index, const BackendOptions& options);

}  // namespace graft
