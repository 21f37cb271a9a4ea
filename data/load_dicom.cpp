// Opens the DICOM module at the first DICOM file. It stays open until the process ends.
#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "data/decoders.h"
#include "data/dicom_module.h"
#include "kernels/build_info.h"
#include "kernels/core.h"
#include "kernels/modules.h"

namespace graft::decoders {
namespace {

constexpr const char* kModuleVariable = "GRAFT_DICOM_MODULE";

struct Opened {
  const DicomModule* module = nullptr;
  std::string reason;  // why there is none
};

Opened open_module() {
  if (!reads_dicom()) return {nullptr, kNoDicom};
  std::vector<std::string> looked;
  for (const std::filesystem::path& path : module_paths(kModuleVariable, build_info().dicom_module_file)) {
    std::error_code error;
    looked.push_back(path.string());
    if (!std::filesystem::exists(path, error)) continue;
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr)  // dlerror names the missing library
      return {nullptr,
              fmt::format("{} cannot be loaded: {}; install DCMTK's libraries, or add their folder to LD_LIBRARY_PATH",
                          path.string(), dlerror())};
    const auto function = reinterpret_cast<DicomModuleFunction>(dlsym(handle, kDicomModuleFunction));
    if (function == nullptr) return {nullptr, fmt::format("{} is not graft's DICOM module", path.string())};
    if (function()->version != build_info().version)
      return {nullptr, fmt::format("{} belongs to graft {}, this program is {}; install both from one build",
                                   path.string(), function()->version, build_info().version)};
    return {function(), {}};
  }
  return {nullptr, fmt::format("the DICOM module was not found at {}; set {} to its path", fmt::join(looked, ", "),
                               kModuleVariable)};
}

}  // namespace

bool reads_dicom() { return !build_info().dicom_module_file.empty(); }

Image decode_dicom(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo& info) {
  static const Opened opened = open_module();
  if (opened.module == nullptr) throw Error(fmt::format("cannot decode {}: {}", name, opened.reason));
  return opened.module->decode(bytes, name, info);
}

}  // namespace graft::decoders
