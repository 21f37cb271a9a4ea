#include "tests/cudnn_support/h100.h"

#include <dlfcn.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "kernels/build_info.h"

namespace graft {

const CudaModule* open_cudnn(std::string& why_not) {
  const BuildInfo& build = build_info();
  // By the name inside it, the stub then answers for libcuda.so.1.
  if (!dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL) && !dlopen(GRAFT_CUDA_STUB, RTLD_NOW | RTLD_GLOBAL)) {
    why_not = std::string("there is neither a driver nor the toolkit's stub of it: ") + dlerror();
    return nullptr;
  }
  const auto path = std::filesystem::path(build.module_dir) / build.cuda_module_file;
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  const auto function =
      handle ? reinterpret_cast<CudaModuleFunction>(dlsym(handle, kCudaModuleFunction)) : CudaModuleFunction{};
  if (!function) {
    why_not = std::string("the CUDA module cannot be opened: ") + dlerror();
    return nullptr;
  }
  return function();
}

std::string h100_properties() {
  std::ifstream file(GRAFT_SOURCE_DIR "/tests/kernels/fixtures/h100_device_properties.json");
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace graft
