// The checksum of HDF5's Fletcher-32 filter, for readers that take a dataset's bytes straight from the file
// (model_file.cpp). HDF5 computes it itself when it writes.
#pragma once

#include <cstdint>
#include <span>

namespace graft {

/// Fletcher's checksum of the bytes taken as big-endian 16-bit words; an odd last byte is the high half of a word.
/// Source: HDF5's H5checksum.c, H5_checksum_fletcher32.
std::uint32_t fletcher32(std::span<const std::uint8_t> bytes);

}  // namespace graft
