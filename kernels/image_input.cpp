// images_to_input by plain loops: for the devices whose memory is the host's. Compiled without contraction.
#include <algorithm>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/half.h"
#include "kernels/image_input.h"

namespace graft {
namespace {

/// The lines that make outputs 0 .. count-1 along one axis.
class Lines {
 public:
  Lines(int from, int resized, int part, int count) : lines_(std::size_t(count)) {
    std::vector<std::size_t> begins;
    for (int i = 0; i < count; ++i) {
      Line& line = lines_[std::size_t(i)];
      begins.push_back(weights_.size());
      if (part + i < 0 || part + i >= resized) {
        line = {0, 0, nullptr};
      } else if (from == resized) {
        line = {part + i, 1, nullptr};
        weights_.push_back(1 << kFilterBits);
      } else {
        const Taps t = taps_of(from, resized, part + i);
        line = {t.first, t.count, nullptr};
        for (int k = 0; k < t.count; ++k) weights_.push_back(tap_weight(t, k));
      }
    }
    for (std::size_t i = 0; i < lines_.size(); ++i) lines_[i].weights = weights_.data() + begins[i];
  }
  const Line& operator[](int i) const { return lines_[std::size_t(i)]; }

 private:
  std::vector<Line> lines_;
  std::vector<std::int32_t> weights_;
};

struct HostImage {
  std::vector<Rgb> pixels;
  int width;
  Rgb at(int y, int x) const { return pixels[std::size_t(y) * std::size_t(width) + std::size_t(x)]; }
};

HostImage resized_part(std::span<const ConstView> pixels, const ImageChange& c, int height, int width) {
  const Lines rows(c.from_h, c.resized_h, c.part_y, height), columns(c.from_w, c.resized_w, c.part_x, width);
  const std::int64_t pitch = std::int64_t(c.width) * 3;
  const std::uint8_t* from =
      pixels[std::size_t(c.block)].as<std::uint8_t>() + c.first_byte + c.from_y * pitch + std::int64_t(c.from_x) * 3;
  HostImage image{{}, width};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) image.pixels.push_back(filtered(from, pitch, rows[y], columns[x]));
  return image;
}

template <class T>
void write_image(const View& x, std::int64_t n, const HostImage& image, const ImageChange& change,
                 const PixelScaling& scaling) {
  const int height = int(x.shape.h), width = int(x.shape.w);
  const Strides strides = strides_of(x);
  HostImage changed{{}, width};
  std::int64_t luma_sum = 0;
  for (int i = 0; i < height; ++i)
    for (int j = 0; j < width; ++j) {
      changed.pixels.push_back(before_contrast(image, change, height, width, i, j));
      luma_sum += luma(changed.pixels.back());
    }
  for (std::int64_t p = 0; p < x.shape.pixels(); ++p) {
    Rgb& rgb = changed.pixels[std::size_t(p)];
    change_colours(rgb, change, luma_sum, x.shape.pixels());
    for (std::int64_t c = 0; c < x.shape.c; ++c)
      x.as<T>()[strides(n, c, p)] = T(c < 3 ? scaled(rgb, scaling, int(c)) : 0.0f);
  }
}

[[noreturn]] void refuse(std::size_t image, const std::string& why) {
  throw Error("images_to_input: image " + std::to_string(image) + ": " + why);
}

}  // namespace

void check_images_to_input(const View& x, std::span<const ConstView> pixels, std::span<const ImageChange> changes) {
  if (x.shape.n != std::int64_t(changes.size()) || x.shape.c < 3)
    throw Error("images_to_input: " + std::to_string(changes.size()) + " images need [n,3 or more,h,w], got " +
                to_string(x.shape));
  if (std::ssize(pixels) > kMostPixelBlocks)
    throw Error("images_to_input: pixels lie in " + std::to_string(pixels.size()) + " blocks; at most " +
                std::to_string(kMostPixelBlocks) + " are possible");
  for (const ConstView& block : pixels)
    if (block.dtype != DType::u8) throw Error("images_to_input: pixels are bytes (u8)");
  for (std::size_t i = 0; i < changes.size(); ++i) {
    const ImageChange& c = changes[i];
    const bool is_inside = c.from_h > 0 && c.from_w > 0 && c.from_y >= 0 && c.from_x >= 0 &&
                           c.from_y + c.from_h <= c.height && c.from_x + c.from_w <= c.width;
    if (!is_inside) refuse(i, "the part that is resized does not lie in the image");
    if (c.block < 0 || c.block >= std::ssize(pixels)) refuse(i, "its block of memory is not there");
    const std::int64_t bytes = pixels[std::size_t(c.block)].shape.size();
    if (c.first_byte < 0 || c.first_byte + std::int64_t(c.height) * c.width * 3 > bytes)
      refuse(i, "it does not lie in the " + std::to_string(bytes) + " bytes given");
    if (c.resized_h < 1 || c.resized_w < 1) refuse(i, "it is resized to nothing");
    if (taps_needed(c.from_h, c.resized_h) > kMostTaps || taps_needed(c.from_w, c.resized_w) > kMostTaps)
      refuse(i, "it shrinks more than 31-fold; store it smaller");
  }
}

void images_to_input_on_host(View x, std::span<const ConstView> pixels, std::span<const ImageChange> changes,
                             const PixelScaling& scaling) {
  check_images_to_input(x, pixels, changes);
  with_float_type(x.dtype, [&](auto type) {
    for (std::size_t n = 0; n < changes.size(); ++n) {
      const HostImage image = resized_part(pixels, changes[n], int(x.shape.h), int(x.shape.w));
      write_image<decltype(type)>(x, std::int64_t(n), image, changes[n], scaling);
    }
  });
}

}  // namespace graft
