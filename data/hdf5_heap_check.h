// A guard in front of the HDF5 library: version 1.10 walks its global heaps (where texts of variable length lie)
// without checking sizes, so that one damaged byte there makes it loop for ever or read beyond its buffer.
#pragma once

#include <cstdint>
#include <span>

namespace graft {

/// Whether every global heap that begins in `bytes` can be walked to its end. `bytes` is the beginning of a file.
/// Source: HDF5 File Format Specification 3.0, III.E "Global Heap"; H5HGcache.c for what the library skips.
bool has_sound_global_heaps(std::span<const std::uint8_t> bytes);

}  // namespace graft
