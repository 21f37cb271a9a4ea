// The decoders behind decode_image, one file per library. Not for use outside data/.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "data/image.h"

namespace graft::decoders {

bool is_jpeg(std::span<const std::uint8_t> bytes);
bool is_tiff(std::span<const std::uint8_t> bytes);
bool is_pnm(std::span<const std::uint8_t> bytes);
bool is_dicom(std::span<const std::uint8_t> bytes);

/// Whether this build has DCMTK; without it decode_dicom refuses every file.
bool reads_dicom();
inline constexpr const char* kNoDicom =
    "this build reads no DICOM files; install libdcmtk-dev and build again, or export the pictures as PNG";

Image decode_jpeg(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo& info);
Image decode_tiff(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo& info,
                  const std::optional<IntensityWindow>& window);
Image decode_dicom(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo& info);
Image decode_pnm(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo& info,
                 const std::optional<IntensityWindow>& window);
Image decode_with_stb(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo& info,
                      const std::optional<IntensityWindow>& window);

/// Makes bytes of the numbers of a 16-bit file: the high byte, or what the window says. Remembers the largest.
class WideSamples {
 public:
  explicit WideSamples(const std::optional<IntensityWindow>& window) : window_(window) {}
  std::uint8_t operator()(std::uint16_t value) {
    largest_ = std::max(largest_, value);
    return window_ ? (*window_)(value) : static_cast<std::uint8_t>(value >> 8);
  }
  int largest() const { return largest_; }

 private:
  std::optional<IntensityWindow> window_;
  std::uint16_t largest_ = 0;
};

/// Refuses sizes that no honest image has (over 2^28 pixels), before memory is asked for.
void check_size(std::int64_t height, std::int64_t width, std::string_view name);

}  // namespace graft::decoders
