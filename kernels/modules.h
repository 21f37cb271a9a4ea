// Parts of graft that a program opens when they are needed, so that it starts fast and runs where their libraries are
// missing.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

namespace graft {

/// Where a module may be, in order: where the environment's `variable` says, and nowhere else; beside the program, in
/// ../lib/graft, where it was installed or built.
std::vector<std::filesystem::path> module_paths(const char* variable, std::string_view file);

}  // namespace graft
