// NumPy's .npz archives: a zip (libzip: stored or deflated, zip64) of .npy arrays. Reading only, and only plain
// numbers; pickled objects are refused.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

/// One array in C order.
struct NpyArray {
  std::string dtype;  // NumPy's: "|u1", "<i8", "<f4" ...
  std::vector<std::int64_t> shape;
  std::vector<std::uint8_t> bytes;

  std::int64_t size() const;                   // elements
  std::vector<std::int64_t> integers() const;  // Errors: not an integer type
};

/// Format versions 1 to 3. Errors (naming `name`): not a .npy, Fortran order, objects, a length that contradicts the
/// shape.
NpyArray parse_npy(std::span<const std::uint8_t> file, std::string_view name);

/// Names of the arrays, without ".npy".
std::vector<std::string> npz_names(const std::filesystem::path& path);
/// Errors: not a zip, no such array, damaged entry (the zip's checksum).
NpyArray read_npz(const std::filesystem::path& path, const std::string& array);

}  // namespace graft
