// The one symbol that the CUDA module exports.
#include "kernels/cuda/module.h"

#include "kernels/build_info.h"
#include "kernels/cuda/cuda_backend.h"

namespace graft {
namespace {

std::unique_ptr<Backend> create(int index, const BackendOptions& options) {
  return std::make_unique<CudaBackend>(index, options.precision);
}

std::string conv_plan(const std::string& device_properties, const ConvSpec& spec, const std::string& kind) {
  ConvKey key{.spec = spec};
  if (kind == "data_grad")
    key.pass = ConvPass::data_grad;
  else if (kind == "weight_grad")
    key.pass = ConvPass::weight_grad;
  else if (kind == "forward+bias")
    key.has_bias = true;
  else if (kind != "forward")
    throw Error("conv_plan: unknown kind '" + kind + "'");
  return conv_plan_without_device(device_properties, key);
}

}  // namespace
}  // namespace graft

extern "C" __attribute__((visibility("default"))) const graft::CudaModule* graft_cuda_module() {
  using namespace graft;
  static const std::string version(build_info().version);
  static const CudaModule module{.version = version.c_str(),
                                 .unavailable_reason = gpu_unavailable_reason,
                                 .create = create,
                                 .conv_plan = conv_plan};
  return &module;
}
