#include "kernels/modules.h"

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

}  // namespace graft
