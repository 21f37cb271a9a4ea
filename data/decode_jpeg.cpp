#include <fmt/format.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <string>
#include <utility>

// jpeglib.h needs FILE and size_t from above.
#include <jerror.h>
#include <jpeglib.h>

#include "data/decoders.h"
#include "kernels/core.h"

namespace graft::decoders {
namespace {

/// libjpeg's error manager with a way out: errors jump back to decode_jpeg.
struct ErrorManager {
  jpeg_error_mgr base;  // must come first: libjpeg hands back a pointer to it
  std::jmp_buf escape;
  char message[JMSG_LENGTH_MAX] = {};
};

[[noreturn]] void on_error(j_common_ptr info) {
  auto* manager = reinterpret_cast<ErrorManager*>(info->err);
  info->err->format_message(info, manager->message);
  std::longjmp(manager->escape, 1);
}

/// libjpeg goes on after warnings and fills in grey; a training set with grey blocks in it is worse than an error.
/// Stray bytes between markers lose no pixel and are common in files from scanners, so they pass, as with Pillow.
void on_message(j_common_ptr info, int level) {
  if (level < 0 && info->err->msg_code != JWRN_EXTRANEOUS_DATA && info->err->msg_code != JWRN_ADOBE_XFORM &&
      info->err->msg_code != JWRN_JFIF_MAJOR) {
    on_error(info);
  }
}

void ignore_text(j_common_ptr) {}

/// What decoding works on, kept outside the function that setjmp may re-enter.
struct Job {
  std::span<const std::uint8_t> bytes;
  jpeg_decompress_struct decoder{};
  ErrorManager errors{};
  Image image;
  std::vector<std::uint8_t> cmyk_row;
};

/// Pillow's CMYK to RGB: 255 - K scaled by 255 - C; Adobe files store the complements.
void cmyk_to_rgb(const std::uint8_t* cmyk, std::uint8_t* rgb, std::int64_t width, bool is_inverted) {
  for (std::int64_t x = 0; x < width; ++x) {
    const auto ink = [&](std::int64_t i) { return is_inverted ? 255 - cmyk[4 * x + i] : cmyk[4 * x + i]; };
    const int light = 255 - ink(3);
    for (std::int64_t c = 0; c < 3; ++c) {
      const int product = ink(c) * light + 128;
      rgb[3 * x + c] = static_cast<std::uint8_t>(std::max(0, light - (((product >> 8) + product) >> 8)));
    }
  }
}

/// Returns false on an error, whose text is in job.errors. Owns nothing, so the jump skips no destructor.
bool decode(Job& job) {
  jpeg_decompress_struct& decoder = job.decoder;
  decoder.err = jpeg_std_error(&job.errors.base);
  job.errors.base.error_exit = on_error;
  job.errors.base.emit_message = on_message;
  job.errors.base.output_message = ignore_text;
  if (setjmp(job.errors.escape) != 0) return false;

  jpeg_create_decompress(&decoder);
  jpeg_mem_src(&decoder, job.bytes.data(), static_cast<unsigned long>(job.bytes.size()));
  jpeg_read_header(&decoder, TRUE);
  const bool is_cmyk = decoder.num_components == 4;
  decoder.out_color_space = is_cmyk ? JCS_CMYK : JCS_RGB;
  jpeg_start_decompress(&decoder);
  const std::int64_t width = decoder.output_width;
  const bool is_inverted = decoder.saw_Adobe_marker != FALSE;
  while (decoder.output_scanline < decoder.output_height) {
    std::uint8_t* row = job.image.rgb.data() + std::int64_t{decoder.output_scanline} * width * 3;
    JSAMPROW target = is_cmyk ? job.cmyk_row.data() : row;
    jpeg_read_scanlines(&decoder, &target, 1);
    if (is_cmyk) cmyk_to_rgb(job.cmyk_row.data(), row, width, is_inverted);
  }
  jpeg_finish_decompress(&decoder);
  return true;
}

/// Reads the size alone, so that memory is allocated outside the setjmp region.
bool read_size(Job& job) {
  jpeg_decompress_struct& decoder = job.decoder;
  decoder.err = jpeg_std_error(&job.errors.base);
  job.errors.base.error_exit = on_error;
  job.errors.base.emit_message = on_message;
  job.errors.base.output_message = ignore_text;
  if (setjmp(job.errors.escape) != 0) return false;
  jpeg_create_decompress(&decoder);
  jpeg_mem_src(&decoder, job.bytes.data(), static_cast<unsigned long>(job.bytes.size()));
  jpeg_read_header(&decoder, TRUE);
  return true;
}

}  // namespace

bool is_jpeg(std::span<const std::uint8_t> bytes) {
  return bytes.size() >= 3 && bytes[0] == 0xFF && bytes[1] == 0xD8 && bytes[2] == 0xFF;
}

Image decode_jpeg(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo& info) {
  Job job{.bytes = bytes};
  const auto fail = [&] {
    const std::string message = job.errors.message;
    jpeg_destroy_decompress(&job.decoder);
    throw Error(fmt::format("cannot decode {}: {}; the JPEG is corrupt or truncated", name, message));
  };
  if (!read_size(job)) fail();
  const std::int64_t height = job.decoder.image_height;
  const std::int64_t width = job.decoder.image_width;
  info = {"JPEG", job.decoder.num_components, job.decoder.data_precision};
  jpeg_destroy_decompress(&job.decoder);
  check_size(height, width, name);
  job.image = Image::blank(height, width);
  if (info.channels == 4) job.cmyk_row.resize(static_cast<std::size_t>(width) * 4);
  if (!decode(job)) fail();
  jpeg_destroy_decompress(&job.decoder);
  return std::move(job.image);
}

}  // namespace graft::decoders
