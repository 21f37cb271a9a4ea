// Finds and opens the CUDA module when a GPU is asked for, so that the program starts fast and runs where the driver,
// cuDNN or the module is missing.
#include <dlfcn.h>

#include <fmt/format.h>

#include "kernels/build_info.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/module.h"
#include "kernels/modules.h"

namespace graft {
namespace {

/// Why the driver cannot serve, empty when it can. Asked before the module is opened, which costs much more.
std::string driver_reason() {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!driver) return "no NVIDIA driver is installed (libcuda.so.1 was not found)";
  const auto init = reinterpret_cast<int (*)(unsigned)>(dlsym(driver, "cuInit"));
  const auto device_count = reinterpret_cast<int (*)(int*)>(dlsym(driver, "cuDeviceGetCount"));
  if (!init || !device_count) return "libcuda.so.1 is not the NVIDIA driver (it has no cuInit)";
  constexpr int kNoDevice = 100;  // CUDA_ERROR_NO_DEVICE
  int count = 0;
  int result = init(0);
  if (result == 0) result = device_count(&count);
  if (result == kNoDevice || (result == 0 && count == 0)) return "the NVIDIA driver finds no GPU";
  if (result != 0) return fmt::format("the NVIDIA driver does not start (CUDA error {}); try nvidia-smi", result);
  return {};
}

OpenedModule<CudaModule> open_cuda() {
  const ModuleSpec spec{.name = "CUDA",
                        .variable = "GRAFT_CUDA_MODULE",
                        .file = build_info().cuda_module_file,
                        .function = kCudaModuleFunction,
                        .libraries = "the library"};
  if (FoundModule found = find_module(spec); found.path.empty()) return {nullptr, std::move(found.reason)};
  if (std::string reason = driver_reason(); !reason.empty()) return {nullptr, std::move(reason)};
  return open_module<CudaModule>(spec);
}

const OpenedModule<CudaModule>& opened() {
  static const OpenedModule<CudaModule> result = open_cuda();
  return result;
}

}  // namespace

std::string cuda_unavailable_reason() {
  const OpenedModule<CudaModule>& o = opened();
  return o.table ? o.table->unavailable_reason(0) : o.reason;
}

std::unique_ptr<Backend> make_cuda_backend(int index, const BackendOptions& options) {
  const OpenedModule<CudaModule>& o = opened();
  const std::string reason = o.table ? o.table->unavailable_reason(index) : o.reason;
  if (!reason.empty()) throw Error(fmt::format("cuda:{}: {}; use --device cpu", index, reason));
  return o.table->create(index, options);
}

}  // namespace graft
