// The one symbol that the CUDA module exports.
#include "kernels/cuda/module.h"

#include "kernels/build_info.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/graph_cudnn.h"

namespace graft {
namespace {

std::unique_ptr<Backend> create(int index, const BackendOptions& options) {
  auto backend = std::make_unique<CudaBackend>(index, options.precision);
  backend->set_plan_options(options.plans);
  return backend;
}

}  // namespace
}  // namespace graft

extern "C" __attribute__((visibility("default"))) const graft::CudaModule* graft_cuda_module() {
  using namespace graft;
  static const std::string version(build_info().version);
  static const CudaModule module{.version = version.c_str(),
                                 .unavailable_reason = gpu_unavailable_reason,
                                 .create = create,
                                 .cudnn_version = CudnnLibrary::version,
                                 .graph_support = graph_support};
  return &module;
}
