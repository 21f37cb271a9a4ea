// The CUDA backend of a program that was built without it: every question is answered with the reason.
#include <fmt/format.h>

#include "kernels/build_info.h"
#include "kernels/cuda/cuda_device.h"

namespace graft {

std::string cuda_unavailable_reason() { return fmt::format("built without CUDA: {}", build_info().cuda_absent_reason); }

std::unique_ptr<Backend> make_cuda_backend(int index, const BackendOptions&) {
  throw Error(fmt::format("cuda:{}: {}; use --device cpu", index, cuda_unavailable_reason()));
}

}  // namespace graft
