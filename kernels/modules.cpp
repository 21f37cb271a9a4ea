#include "kernels/modules.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdlib>

#include "kernels/build_info.h"

namespace graft {

namespace fs = std::filesystem;

std::vector<fs::path> module_paths(const char* variable, std::string_view file) {
  if (const char* path = std::getenv(variable); path && *path) return {path};
  std::vector<fs::path> paths;
  std::error_code error;
  if (const fs::path program = fs::read_symlink("/proc/self/exe", error); !error) {
    paths.push_back(program.parent_path() / file);
    paths.push_back(program.parent_path().parent_path() / "lib" / "graft" / file);
  }
  paths.push_back(fs::path(build_info().module_install_dir) / file);
  paths.push_back(fs::path(build_info().module_dir) / file);
  return paths;
}

FoundModule find_module(const ModuleSpec& spec) {
  std::vector<std::string> looked;
  for (const fs::path& path : module_paths(spec.variable, spec.file)) {
    std::error_code error;
    if (fs::exists(path, error)) return {path, {}};
    looked.push_back(path.string());
  }
  return {{},
          fmt::format("the {} module was not found at {}; set {} to its path", spec.name, fmt::join(looked, ", "),
                      spec.variable)};
}

OpenedModule<void> open_untyped_module(const ModuleSpec& spec) {
  FoundModule found = find_module(spec);
  if (found.path.empty()) return {nullptr, std::move(found.reason)};
  const std::string path = found.path.string();
  void* const handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr)  // dlerror names the missing library: "libcudnn.so.9: cannot open shared object file: …"
    return {nullptr, fmt::format("{} cannot be loaded: {}; install {}, or add their folder to LD_LIBRARY_PATH", path,
                                 dlerror(), spec.libraries)};
  struct Versioned {
    const char* version;
  };
  const auto function = reinterpret_cast<const Versioned* (*)()>(dlsym(handle, spec.function));
  if (function == nullptr) return {nullptr, fmt::format("{} is not graft's {} module", path, spec.name)};
  const Versioned* const table = function();
  if (table->version != build_info().version)
    return {nullptr, fmt::format("{} belongs to graft {}, this program is {}; install both from one build", path,
                                 table->version, build_info().version)};
  return {table, {}};
}

}  // namespace graft
