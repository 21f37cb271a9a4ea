// The published weight files that this project names in its documentation, known by the hash of their contents.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace graft {

/// The published file with this SHA-256 (its beginning is part of torchvision's file names) or, for HDF5 files, with
/// the MD5 of `bytes` that Keras applications publish. Empty when the file is none of them.
std::string published_name(std::span<const std::uint8_t> bytes, const std::string& sha256);

}  // namespace graft
