// In the place of kernel_tracer_cupti.cpp where the toolkit that built this had no CUPTI headers.
#include "kernels/cuda/cuda_backend.h"

namespace graft {

std::unique_ptr<KernelTracer> CudaBackend::make_kernel_tracer() {
  throw Error("this program was built without CUPTI's headers");
}

}  // namespace graft
