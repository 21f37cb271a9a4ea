#include <fmt/format.h>
#include <tiffio.h>

#include <algorithm>
#include <cstdarg>
#include <cstring>
#include <memory>
#include <string>

#include "data/decoders.h"
#include "kernels/core.h"

namespace graft::decoders {
namespace {

/// A file in memory, as libtiff's callbacks see it.
struct Source {
  std::span<const std::uint8_t> bytes;
  std::uint64_t at = 0;
};

tmsize_t read_some(thandle_t handle, void* target, tmsize_t size) {
  auto* source = static_cast<Source*>(handle);
  if (source->at >= source->bytes.size()) return 0;
  const auto count = std::min<std::uint64_t>(static_cast<std::uint64_t>(size), source->bytes.size() - source->at);
  std::memcpy(target, source->bytes.data() + source->at, count);
  source->at += count;
  return static_cast<tmsize_t>(count);
}

tmsize_t refuse_write(thandle_t, void*, tmsize_t) { return 0; }

toff_t seek(thandle_t handle, toff_t offset, int whence) {
  auto* source = static_cast<Source*>(handle);
  if (whence == SEEK_CUR) offset += source->at;
  if (whence == SEEK_END) offset += source->bytes.size();
  return source->at = offset;
}

int close(thandle_t) { return 0; }
toff_t size_of_source(thandle_t handle) { return static_cast<Source*>(handle)->bytes.size(); }

/// libtiff's error handlers are per process; the message is per thread.
thread_local std::string last_message;

void keep_message(const char* module, const char* format, std::va_list arguments) {
  char text[512];
  std::vsnprintf(text, sizeof text, format, arguments);
  if (last_message.empty()) last_message = fmt::format("{}: {}", module != nullptr ? module : "libtiff", text);
}

void install_handlers() {
  static const bool is_done = [] {
    TIFFSetErrorHandler(keep_message);
    TIFFSetWarningHandler(nullptr);  // unknown tags of microscopes and scanners
    return true;
  }();
  static_cast<void>(is_done);
}

struct CloseTiff {
  void operator()(TIFF* file) const { TIFFClose(file); }
};

struct Layout {
  std::uint32_t width = 0, height = 0;
  std::uint16_t bits = 1, channels = 1, planar = PLANARCONFIG_CONTIG, photometric = PHOTOMETRIC_MINISBLACK,
                orientation = ORIENTATION_TOPLEFT, sample_format = SAMPLEFORMAT_UINT;
};

/// Grey and RGB scanlines of 8 or 16 bits, the common case: exact, and alpha is dropped rather than multiplied in.
Image read_scanlines(TIFF* file, const Layout& layout, std::string_view name, WideSamples& bytes_of) {
  Image image = Image::blank(layout.height, layout.width);
  std::vector<std::uint8_t> line(static_cast<std::size_t>(TIFFScanlineSize(file)));
  const std::size_t needed = std::size_t{layout.width} * layout.channels * (layout.bits / 8);
  if (line.size() < needed) throw Error(fmt::format("cannot decode {}: its TIFF rows are too short", name));
  const bool is_grey = layout.photometric != PHOTOMETRIC_RGB;
  const std::uint8_t flip = layout.photometric == PHOTOMETRIC_MINISWHITE ? 0xFF : 0;
  for (std::uint32_t y = 0; y < layout.height; ++y) {
    if (TIFFReadScanline(file, line.data(), y) != 1) {
      throw Error(fmt::format("cannot decode {}: row {}: {}; the TIFF is corrupt or truncated", name, y, last_message));
    }
    std::uint8_t* out = image.row(y);
    for (std::size_t x = 0; x < layout.width; ++x) {
      for (std::size_t c = 0; c < 3; ++c) {
        const std::size_t sample = x * layout.channels + (is_grey ? 0 : c);
        std::uint8_t value = 0;
        if (layout.bits == 8) {
          value = line[sample];
        } else {
          std::uint16_t wide = 0;  // libtiff has brought it into this machine's byte order
          std::memcpy(&wide, line.data() + 2 * sample, 2);
          value = bytes_of(wide);
        }
        out[3 * x + c] = value ^ flip;
      }
    }
  }
  return image;
}

/// Everything else (tiles, palettes, planes, YCbCr, 1 to 4 bits) through libtiff's own conversion.
Image read_rgba(TIFF* file, const Layout& layout, std::string_view name) {
  std::vector<std::uint32_t> raster(std::size_t{layout.width} * layout.height);
  // stop_on_error = 1: a truncated file is an error, not a picture with holes.
  if (TIFFReadRGBAImageOriented(file, layout.width, layout.height, raster.data(), ORIENTATION_TOPLEFT, 1) != 1) {
    throw Error(
        fmt::format("cannot decode {}: {}; the TIFF is corrupt, truncated or of an unusual kind", name, last_message));
  }
  Image image = Image::blank(layout.height, layout.width);
  for (std::size_t i = 0; i < raster.size(); ++i) {
    image.rgb[3 * i] = static_cast<std::uint8_t>(TIFFGetR(raster[i]));
    image.rgb[3 * i + 1] = static_cast<std::uint8_t>(TIFFGetG(raster[i]));
    image.rgb[3 * i + 2] = static_cast<std::uint8_t>(TIFFGetB(raster[i]));
  }
  return image;
}

}  // namespace

bool is_tiff(std::span<const std::uint8_t> bytes) {
  if (bytes.size() < 8) return false;
  const bool is_little = bytes[0] == 'I' && bytes[1] == 'I' && (bytes[2] == 42 || bytes[2] == 43) && bytes[3] == 0;
  const bool is_big = bytes[0] == 'M' && bytes[1] == 'M' && bytes[2] == 0 && (bytes[3] == 42 || bytes[3] == 43);
  return is_little || is_big;
}

Image decode_tiff(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo& info,
                  const std::optional<IntensityWindow>& window) {
  install_handlers();
  last_message.clear();
  Source source{bytes};
  const std::unique_ptr<TIFF, CloseTiff> file(
      TIFFClientOpen("image", "rm", &source, read_some, refuse_write, seek, close, size_of_source, nullptr, nullptr));
  if (!file) throw Error(fmt::format("cannot decode {}: {}; the TIFF is corrupt or truncated", name, last_message));
  Layout layout;
  TIFFGetField(file.get(), TIFFTAG_IMAGEWIDTH, &layout.width);
  TIFFGetField(file.get(), TIFFTAG_IMAGELENGTH, &layout.height);
  TIFFGetFieldDefaulted(file.get(), TIFFTAG_BITSPERSAMPLE, &layout.bits);
  TIFFGetFieldDefaulted(file.get(), TIFFTAG_SAMPLESPERPIXEL, &layout.channels);
  TIFFGetFieldDefaulted(file.get(), TIFFTAG_PLANARCONFIG, &layout.planar);
  TIFFGetFieldDefaulted(file.get(), TIFFTAG_ORIENTATION, &layout.orientation);
  TIFFGetFieldDefaulted(file.get(), TIFFTAG_SAMPLEFORMAT, &layout.sample_format);
  TIFFGetField(file.get(), TIFFTAG_PHOTOMETRIC, &layout.photometric);
  check_size(layout.height, layout.width, name);
  info = {"TIFF", layout.channels, layout.bits};

  if (layout.sample_format != SAMPLEFORMAT_UINT) {
    throw Error(
        fmt::format("cannot decode {}: TIFF samples are floating point or signed, expected unsigned 8 or 16 bits; "
                    "convert the file",
                    name));
  }
  const bool is_grey = layout.photometric == PHOTOMETRIC_MINISBLACK || layout.photometric == PHOTOMETRIC_MINISWHITE;
  const bool is_rgb = layout.photometric == PHOTOMETRIC_RGB && layout.channels >= 3;
  const bool is_plain = (layout.bits == 8 || layout.bits == 16) && layout.planar == PLANARCONFIG_CONTIG &&
                        layout.orientation == ORIENTATION_TOPLEFT && TIFFIsTiled(file.get()) == 0;
  if (is_plain && (is_grey || is_rgb)) {
    WideSamples bytes_of(window);
    Image image = read_scanlines(file.get(), layout, name, bytes_of);
    info.largest = bytes_of.largest();
    return image;
  }
  if (window && layout.bits == 16)
    throw Error(fmt::format(
        "cannot decode {}: an intensity window is for TIFF files of 16 bits that hold plain rows of grey or "
        "RGB; convert it to such a one",
        name));
  return read_rgba(file.get(), layout, name);
}

}  // namespace graft::decoders
