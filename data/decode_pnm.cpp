// Binary PGM and PPM (netpbm's pgm(5) and ppm(5)). The file says which number is white, and has two bytes per number
// where that is above 255, the higher first.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <optional>
#include <vector>

#include "data/decoders.h"
#include "kernels/core.h"

namespace graft::decoders {
namespace {

/// Reads numbers, separated by blanks and by comments from '#' to the end of the line.
class HeaderReader {
 public:
  static constexpr std::int64_t kMost = 1'000'000'000;  // larger numbers read as this

  explicit HeaderReader(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  std::int64_t number() {
    while (at_ < bytes_.size() && (std::isspace(bytes_[at_]) || bytes_[at_] == '#')) {
      if (bytes_[at_] == '#')
        while (at_ < bytes_.size() && bytes_[at_] != '\n' && bytes_[at_] != '\r') ++at_;
      else
        ++at_;
    }
    std::int64_t value = -1;
    for (; at_ < bytes_.size() && std::isdigit(bytes_[at_]); ++at_)
      value = std::min<std::int64_t>(10 * std::max<std::int64_t>(value, 0) + (bytes_[at_] - '0'), kMost);
    return value;
  }
  /// Whether a blank follows, which ends the header. What comes then is the picture.
  bool ends() { return at_ < bytes_.size() && std::isspace(bytes_[at_++]); }
  std::span<const std::uint8_t> rest() const { return bytes_.subspan(at_); }

 private:
  std::span<const std::uint8_t> bytes_;
  std::size_t at_ = 2;  // behind P5 or P6
};

}  // namespace

bool is_pnm(std::span<const std::uint8_t> bytes) {
  return bytes.size() > 2 && bytes[0] == 'P' && (bytes[1] == '5' || bytes[1] == '6') &&
         (std::isspace(bytes[2]) || bytes[2] == '#');
}

Image decode_pnm(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo& info,
                 const std::optional<IntensityWindow>& window) {
  HeaderReader header(bytes);
  const std::int64_t width = header.number(), height = header.number(), white = header.number();
  if (width < 1 || height < 1 || white < 1 || white > 65535 || !header.ends())
    throw Error(
        fmt::format("cannot decode {}: its PNM header has no width, height and largest number up to 65535", name));
  check_size(height, width, name);
  const int channels = bytes[1] == '5' ? 1 : 3;
  const std::size_t number_bytes = white > 255 ? 2 : 1;
  info = {"PNM", channels, white > 255 ? 16 : 8};
  const std::span<const std::uint8_t> samples = header.rest();
  const std::size_t count = std::size_t(height) * std::size_t(width) * std::size_t(channels);
  if (samples.size() < count * number_bytes)
    throw Error(fmt::format("cannot decode {}: the PNM image is truncated", name));

  Image image = Image::blank(height, width);
  std::vector<std::uint8_t> byte_of(number_bytes == 1 ? 256 : 65536);
  for (std::size_t number = 0; number < byte_of.size(); ++number)
    byte_of[number] = window && number_bytes == 2
                          ? (*window)(std::int64_t(number))
                          : std::uint8_t(std::min(255.0, std::nearbyint(double(number) / double(white) * 255)));
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t number = number_bytes == 1 ? samples[i] : std::size_t{samples[2 * i]} << 8 | samples[2 * i + 1];
    if (white == 65535) info.largest = std::max(info.largest, int(number));
    if (channels == 3)
      image.rgb[i] = byte_of[number];
    else
      std::fill_n(image.rgb.begin() + std::ptrdiff_t(3 * i), 3, byte_of[number]);
  }
  return image;
}

}  // namespace graft::decoders
