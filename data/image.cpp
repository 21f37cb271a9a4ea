#include "data/image.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string>

#include "data/decoders.h"
#include "data/files.h"
#include "kernels/core.h"

namespace graft {

bool decoders::is_dicom(std::span<const std::uint8_t> bytes) {
  return bytes.size() > 132 && std::string_view(reinterpret_cast<const char*>(bytes.data()) + 128, 4) == "DICM";
}

Image decode_image(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo* info) {
  ImageInfo local;
  ImageInfo& found = info != nullptr ? *info : local;
  if (bytes.empty()) throw Error(fmt::format("cannot decode {}: the file is empty", name));
  if (decoders::is_dicom(bytes)) return decoders::decode_dicom(bytes, name, found);  // may begin like a TIFF
  if (decoders::is_jpeg(bytes)) return decoders::decode_jpeg(bytes, name, found);
  if (decoders::is_tiff(bytes)) return decoders::decode_tiff(bytes, name, found);
  return decoders::decode_with_stb(bytes, name, found);
}

Image decode_image(const std::filesystem::path& path, ImageInfo* info) {
  const std::vector<std::uint8_t> bytes = read_file(path);
  return decode_image(bytes, path.string(), info);
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
