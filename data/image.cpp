#include "data/image.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <string>

#include "data/decoders.h"
#include "data/files.h"
#include "kernels/core.h"

namespace graft {

bool decoders::is_dicom(std::span<const std::uint8_t> bytes) {
  return bytes.size() > 132 && std::string_view(reinterpret_cast<const char*>(bytes.data()) + 128, 4) == "DICM";
}

std::optional<IntensityWindow> intensity_window_of(std::string_view text) {
  const std::size_t comma = std::min(text.find(','), text.size());
  const auto number = [&](std::string_view digits) {
    std::int64_t value = -1;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc() && end == digits.data() + digits.size() ? value : -1;
  };
  const IntensityWindow window{.low = number(text.substr(0, comma)),
                               .high = comma < text.size() ? number(text.substr(comma + 1)) : -1};
  if (window.low < 0 || window.low >= window.high || window.high > 65535) return std::nullopt;
  return window;
}

std::optional<IntensityWindow> parse_intensity_window(std::string_view text, std::string_view setting) {
  if (text.empty()) return std::nullopt;
  const std::optional<IntensityWindow> window = intensity_window_of(text);
  if (!window)
    throw UsageError(
        fmt::format("{}: '{}' is no window; give the numbers that become black and white, from 0 to 65535, as 0,4095",
                    setting, text));
  return window;
}

std::string to_string(const IntensityWindow& window) { return fmt::format("{},{}", window.low, window.high); }

Image decode_image(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo* info,
                   const std::optional<IntensityWindow>& window) {
  ImageInfo local;
  ImageInfo& found = info != nullptr ? *info : local;
  if (bytes.empty()) throw Error(fmt::format("cannot decode {}: the file is empty", name));
  if (decoders::is_dicom(bytes)) return decoders::decode_dicom(bytes, name, found);  // may begin like a TIFF
  if (decoders::is_jpeg(bytes)) return decoders::decode_jpeg(bytes, name, found);
  if (decoders::is_tiff(bytes)) return decoders::decode_tiff(bytes, name, found, window);
  if (decoders::is_pnm(bytes)) return decoders::decode_pnm(bytes, name, found, window);
  return decoders::decode_with_stb(bytes, name, found, window);
}

Image decode_image(const std::filesystem::path& path, ImageInfo* info, const std::optional<IntensityWindow>& window) {
  const std::vector<std::uint8_t> bytes = read_file(path);
  return decode_image(bytes, path.string(), info, window);
}

bool has_image_extension(const std::filesystem::path& path) {
  static constexpr std::array<std::string_view, 11> kExtensions{".jpg",  ".jpeg", ".png", ".bmp", ".gif", ".tif",
                                                                ".tiff", ".tga",  ".ppm", ".pgm", ".pnm"};
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (extension == ".dcm" || extension == ".dicom") return decoders::reads_dicom();
  return std::find(kExtensions.begin(), kExtensions.end(), extension) != kExtensions.end();
}

}  // namespace graft
