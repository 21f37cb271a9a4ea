// One model file for all tests of a folder: making it takes as long as many of the tests that start from it. ctest runs
// SharedModel.IsMade before them, in a place that it empties first (discover_tests.cmake); a program that is started by
// hand makes its own.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>

namespace graft::testing {

/// Where ctest wants the model that tests of this folder share, none when ctest does not run them.
inline std::optional<std::filesystem::path> shared_model() {
  const char* path = std::getenv("GRAFT_TEST_MODEL");
  return path && *path ? std::optional<std::filesystem::path>(path) : std::nullopt;
}

}  // namespace graft::testing
