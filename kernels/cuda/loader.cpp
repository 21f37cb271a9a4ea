// Finds and opens the CUDA module when a GPU is asked for, so that the program starts fast and runs where the driver,
// cuDNN or the module is missing. The module stays open until the process ends: backends come from it.
#include <dlfcn.h>

#include <filesystem>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kernels/build_info.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/module.h"
#include "kernels/modules.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModuleVariable = "GRAFT_CUDA_MODULE";

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

struct Opened {
  const CudaModule* module = nullptr;
  std::string reason;  // why there is none
};

Opened open_module() {
  fs::path path;
  std::vector<std::string> looked;
  for (const fs::path& candidate : module_paths(kModuleVariable, build_info().cuda_module_file)) {
    std::error_code error;
    if (fs::exists(candidate, error)) {
      path = candidate;
      break;
    }
    looked.push_back(candidate.string());
  }
  if (path.empty())
    return {nullptr, fmt::format("the CUDA module was not found at {}; set {} to its path", fmt::join(looked, ", "),
                                 kModuleVariable)};
  if (std::string reason = driver_reason(); !reason.empty()) return {nullptr, std::move(reason)};

  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle)  // dlerror names the missing library: "libcudnn.so.9: cannot open shared object file: …"
    return {nullptr, fmt::format("{} cannot be loaded: {}; install that library or add its folder to LD_LIBRARY_PATH",
                                 path.string(), dlerror())};
  const auto function = reinterpret_cast<CudaModuleFunction>(dlsym(handle, kCudaModuleFunction));
  if (!function) return {nullptr, fmt::format("{} is not graft's CUDA module", path.string())};
  const CudaModule* module = function();
  if (module->version != build_info().version)
    return {nullptr, fmt::format("{} belongs to graft {}, this program is {}; install both from one build",
                                 path.string(), module->version, build_info().version)};
  return {module, {}};
}

const Opened& opened() {
  static const Opened result = open_module();
  return result;
}

}  // namespace

std::string cuda_unavailable_reason() {
  const Opened& o = opened();
  return o.module ? o.module->unavailable_reason(0) : o.reason;
}

std::unique_ptr<Backend> make_cuda_backend(int index, const BackendOptions& options) {
  const Opened& o = opened();
  const std::string reason = o.module ? o.module->unavailable_reason(index) : o.reason;
  if (!reason.empty()) throw Error(fmt::format("cuda:{}: {}; use --device cpu", index, reason));
  return o.module->create(index, options);
}

}  // namespace graft
