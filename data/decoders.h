// The decoders behind decode_image, one file per library. Not for use outside data/.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "data/image.h"

namespace graft::decoders {

bool is_jpeg(std::span<const std::uint8_t> bytes);
bool is_tiff(std::span<const std::uint8_t> bytes);

Image decode_jpeg(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo& info);
Image decode_tiff(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo& info);
Image decode_with_stb(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo& info);

/// Refuses sizes that no honest image has (over 2^28 pixels), before memory is asked for.
void check_size(std::int64_t height, std::int64_t width, std::string_view name);

}  // namespace graft::decoders
