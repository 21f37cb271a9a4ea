#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>

#include "data/decoders.h"
#include "kernels/core.h"

// The libraries' own code: their warnings are theirs.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wshadow=local"
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_NO_JPEG
#define STBI_NO_HDR
#define STBI_NO_PNM  // version 2.27 takes files of 16 bits for little-endian: decode_pnm.cpp reads them
#define STBI_NO_LINEAR
#define STBI_NO_STDIO
#define STBI_FAILURE_USERMSG
#include <stb/stb_image.h>
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#include <stb/stb_image_write.h>
#pragma GCC diagnostic pop

namespace graft {
namespace {

std::string_view format_of(std::span<const std::uint8_t> bytes) {
  const auto starts = [&](std::string_view magic) {
    return bytes.size() >= magic.size() &&
           std::equal(magic.begin(), magic.end(), bytes.begin(),
                      [](char a, std::uint8_t b) { return static_cast<std::uint8_t>(a) == b; });
  };
  if (starts("\x89PNG")) return "PNG";
  if (starts("BM")) return "BMP";
  if (starts("GIF8")) return "GIF";
  return "other";
}

/// A file in memory that notices when stb_image, which fills up with zeros, reads past its end.
struct Source {
  std::span<const std::uint8_t> bytes;
  std::size_t at = 0;
  bool is_short = false;

  static int read(void* self, char* target, int size) {
    auto& source = *static_cast<Source*>(self);
    const std::size_t count = std::min<std::size_t>(static_cast<std::size_t>(size), source.bytes.size() - source.at);
    // 128 is stb_image's buffer, which the end of a whole file need not fill; other sizes are wanted in full.
    source.is_short |= count == 0 || (size != 128 && count < static_cast<std::size_t>(size));
    std::copy_n(source.bytes.begin() + static_cast<std::ptrdiff_t>(source.at), count, target);
    source.at += count;
    return static_cast<int>(count);
  }
  static void skip(void* self, int size) {
    auto& source = *static_cast<Source*>(self);
    const auto target = static_cast<std::int64_t>(source.at) + size;
    source.is_short |= target > static_cast<std::int64_t>(source.bytes.size());
    source.at =
        static_cast<std::size_t>(std::clamp<std::int64_t>(target, 0, static_cast<std::int64_t>(source.bytes.size())));
  }
  static int is_at_end(void* self) {
    const auto& source = *static_cast<Source*>(self);
    return source.at == source.bytes.size() ? 1 : 0;
  }
};

}  // namespace

Image decoders::decode_with_stb(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo& info,
                                const std::optional<IntensityWindow>& window) {
  if (bytes.size() > 0x7FFFFFFF) throw Error(fmt::format("cannot decode {}: larger than 2 GB", name));
  const int size = static_cast<int>(bytes.size());
  int width = 0, height = 0, channels = 0;
  const auto fail = [&] {
    throw Error(
        fmt::format("cannot decode {}: {}; expected a JPEG, PNG, TIFF, DICOM, BMP, GIF, TGA or PNM image that is whole",
                    name, stbi_failure_reason() != nullptr ? stbi_failure_reason() : "unknown reason"));
  };
  if (stbi_info_from_memory(bytes.data(), size, &width, &height, &channels) == 0) fail();
  check_size(height, width, name);
  info = {format_of(bytes), channels, stbi_is_16_bit_from_memory(bytes.data(), size) != 0 ? 16 : 8};
  Source source{bytes};
  const stbi_io_callbacks callbacks{Source::read, Source::skip, Source::is_at_end};
  const bool is_wide = info.bits == 16;
  const std::unique_ptr<void, void (*)(void*)> pixels(
      is_wide ? static_cast<void*>(stbi_load_16_from_callbacks(&callbacks, &source, &width, &height, &channels, 3))
              : stbi_load_from_callbacks(&callbacks, &source, &width, &height, &channels, 3),
      stbi_image_free);
  if (!pixels) fail();
  // Below 32 bytes, stb_image's look at the signature may itself reach the end.
  if (source.is_short && bytes.size() >= 32) {
    throw Error(fmt::format("cannot decode {}: the {} image is truncated", name, info.format));
  }
  Image image{height, width, std::vector<std::uint8_t>(std::size_t{3} * std::size_t(height) * std::size_t(width))};
  if (is_wide) {
    WideSamples bytes_of(window);
    const auto* samples = static_cast<const std::uint16_t*>(pixels.get());
    std::transform(samples, samples + image.rgb.size(), image.rgb.begin(), std::ref(bytes_of));
    info.largest = bytes_of.largest();
  } else {
    std::copy_n(static_cast<const std::uint8_t*>(pixels.get()), image.rgb.size(), image.rgb.begin());
  }
  return image;
}

namespace {

/// stb_image_write hands over the file piece by piece.
void append_bytes(void* target, void* data, int size) {
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  auto* file = static_cast<std::vector<std::uint8_t>*>(target);
  file->insert(file->end(), bytes, bytes + size);
}

}  // namespace

std::vector<std::uint8_t> encode_png(const Image& image) {
  std::vector<std::uint8_t> file;
  if (stbi_write_png_to_func(append_bytes, &file, static_cast<int>(image.width), static_cast<int>(image.height), 3,
                             image.rgb.data(), 0) == 0) {
    throw Error(fmt::format("cannot encode a PNG of {}x{} pixels", image.width, image.height));
  }
  return file;
}

std::vector<std::uint8_t> encode_jpeg(const Image& image, int quality) {
  std::vector<std::uint8_t> file;
  if (stbi_write_jpg_to_func(append_bytes, &file, static_cast<int>(image.width), static_cast<int>(image.height), 3,
                             image.rgb.data(), quality) == 0) {
    throw Error(fmt::format("cannot encode a JPEG of {}x{} pixels", image.width, image.height));
  }
  return file;
}

}  // namespace graft
