// Images in memory and how files become them. Whatever the file holds, an Image is 8-bit RGB, the form that the
// pre-trained networks saw. Resizing is in resize.h, augmentation in augment.h; nothing here knows normalisation.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core.h"

namespace graft {

/// The program lacks what files of a kind need: no damage of the image at hand, and the same for all of them.
class NoDecoder : public Error {
 public:
  using Error::Error;
};

/// Height x width x 3 bytes, rows from the top, red green blue.
struct Image {
  std::int64_t height = 0, width = 0;
  std::vector<std::uint8_t> rgb;  // (height, width, 3)

  static Image blank(std::int64_t height, std::int64_t width, std::uint8_t value = 0) {
    return {height, width, std::vector<std::uint8_t>(static_cast<std::size_t>(height * width * 3), value)};
  }
  const std::uint8_t* row(std::int64_t y) const { return rgb.data() + y * width * 3; }
  std::uint8_t* row(std::int64_t y) { return rgb.data() + y * width * 3; }
  std::int64_t bytes() const { return static_cast<std::int64_t>(rgb.size()); }
  friend bool operator==(const Image&, const Image&) = default;
};

/// Numbers of a 16-bit file that become black and white (where a TIFF says that zero is white: white and black). Those
/// between keep their distances, rounded; others are cut off.
struct IntensityWindow {
  std::int64_t low = 0, high = 65535;

  std::uint8_t operator()(std::int64_t value) const {
    if (value <= low) return 0;
    if (value >= high) return 255;
    return static_cast<std::uint8_t>(((value - low) * 510 / (high - low) + 1) / 2);
  }
  friend bool operator==(const IntensityWindow&, const IntensityWindow&) = default;
};

/// Of "0,4095": two whole numbers, 0 <= low < high <= 65535. Nothing of any other text.
std::optional<IntensityWindow> intensity_window_of(std::string_view text);
/// The same of what a user gave; an empty text is no window. Errors (UsageError, begun by `setting`): another text.
std::optional<IntensityWindow> parse_intensity_window(std::string_view text, std::string_view setting);
std::string to_string(const IntensityWindow& window);

/// What a file holds, before it became RGB.
struct ImageInfo {
  std::string_view format;  // "JPEG", "PNG", "TIFF", "BMP", "GIF", "PNM", "DICOM", "other"
  int channels = 3;         // 1 grey, 2 grey + alpha, 3 RGB (palettes too), 4 RGB + alpha or CMYK
  int bits = 8;             // per channel
  int largest = 0;          // number in a file of 16 bits, unless the file says which number is white
};

/// Decodes a JPEG (libjpeg-turbo), TIFF (libtiff), DICOM (DCMTK, where the build has it), PNM (binary PGM
/// and PPM) or PNG, BMP, GIF, TGA (stb_image); the contents decide, not the name. The bytes equal Pillow's
/// `Image.open(path).convert("RGB")`: grey is replicated, alpha dropped, the first page or frame taken, EXIF
/// orientation ignored. One difference: of 16-bit images the high byte is kept, where Pillow clips grey, or what
/// `window` makes of them. A PNM file says itself which number is white; without a window it is followed. A DICOM
/// picture comes as its file wants it seen: rescaled, through its first VOI table or window (or from its smallest
/// number to its largest), inverted where the file is. Errors: unknown contents, corrupt or truncated data, 16 bits in
/// a form that no window is applied to (a tiled TIFF); the message names `name`. NoDecoder: the DICOM module cannot be
/// opened.
Image decode_image(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo* info = nullptr,
                   const std::optional<IntensityWindow>& window = {});
Image decode_image(const std::filesystem::path& path, ImageInfo* info = nullptr,
                   const std::optional<IntensityWindow>& window = {});

/// Whether a file name ends in an extension that decode_image reads (.jpg .jpeg .png .bmp .gif .tif .tiff .tga .ppm
/// .pgm .pnm, in any case, and with DCMTK .dcm .dicom). Folders are filtered by it.
bool has_image_extension(const std::filesystem::path& path);

/// A PNG file, 8-bit RGB.
std::vector<std::uint8_t> encode_png(const Image& image);

/// A JPEG file; quality 1 to 100, 90 and below with colour at half the resolution. For pictures in pages, not for data.
std::vector<std::uint8_t> encode_jpeg(const Image& image, int quality);

}  // namespace graft
