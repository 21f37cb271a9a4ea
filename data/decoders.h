// The decoders behind decode_image, one file per library. Not for use outside data/.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "data/image.h"

namespace graft::decoders {

bool is_jpeg(std::span<const std::uint8_t> bytes);
bool is_tiff(std::span<const std::uint8_t> bytes);
bool is_dicom(std::span<const std::uint8_t> bytes);

/// Whether this build has DCMTK; without it decode_dicom refuses every file.
bool reads_dicom();
inline constexpr const char* kNoDicom =
    "this build reads no DICOM files; install libdcmtk-dev and build again, or export the pictures as PNG";

Image decode_jpeg(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo& info);
Image decode_tiff(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo& info);
Image decode_dicom(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo& info);
Image decode_with_stb(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo& info);

/// Refuses sizes that no honest image has (over 2^28 pixels), before memory is asked for.
void check_size(std::int64_t height, std::int64_t width, std::string_view name);

}  // namespace graft::decoders
