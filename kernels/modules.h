// Parts of graft that a program opens when they are needed, so that it starts fast and runs where their libraries are
// missing. They stay open until the process ends.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

struct ModuleSpec {
  std::string_view name;       // for people: "CUDA"
  const char* variable;        // of the environment, that says where it is
  std::string_view file;       // its name
  const char* function;        // the only one that it exports; returns its table, which begins with the version
  std::string_view libraries;  // what to install if it cannot be loaded: "DCMTK's libraries"
};

/// Where a module may be, in order: where the environment's `variable` says, and nowhere else; beside the program, in
/// ../lib/graft, where it was installed or built.
std::vector<std::filesystem::path> module_paths(const char* variable, std::string_view file);

/// The first of these that exists; else the reason says where it was looked for.
struct FoundModule {
  std::filesystem::path path;
  std::string reason;
};
FoundModule find_module(const ModuleSpec& spec);

/// What a module gives to the program; null with the reason.
template <typename Table>
struct OpenedModule {
  const Table* table = nullptr;
  std::string reason = {};
};

/// Finds a module, loads it and asks for its table; in place of one of another version there is a reason.
OpenedModule<void> open_untyped_module(const ModuleSpec& spec);

template <typename Table>
OpenedModule<Table> open_module(const ModuleSpec& spec) {
  OpenedModule<void> opened = open_untyped_module(spec);
  return {static_cast<const Table*>(opened.table), std::move(opened.reason)};
}

}  // namespace graft
