#include "data/augment.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <optional>

#include "data/resize.h"
#include "kernels/core.h"

namespace graft {
namespace {

/// torchvision's RandomResizedCrop.get_params: ten tries, then the largest centred crop with an allowed shape.
Box random_crop_box(Size image, const Augmentation& settings, Random& random) {
  const auto height = static_cast<double>(image.height);
  const auto width = static_cast<double>(image.width);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double area = height * width * random.uniform(settings.crop_scale_min, settings.crop_scale_max);
    const double ratio = std::exp(random.uniform(std::log(settings.crop_ratio_min), std::log(settings.crop_ratio_max)));
    const auto w = static_cast<std::int64_t>(std::nearbyint(std::sqrt(area * ratio)));
    const auto h = static_cast<std::int64_t>(std::nearbyint(std::sqrt(area / ratio)));
    if (w > 0 && w <= image.width && h > 0 && h <= image.height) {
      return {random.below(image.height - h + 1), random.below(image.width - w + 1), h, w};
    }
  }
  const double ratio = width / height;
  Box box{0, 0, image.height, image.width};
  if (ratio < settings.crop_ratio_min) {
    box.height = std::max<std::int64_t>(1, static_cast<std::int64_t>(std::nearbyint(width / settings.crop_ratio_min)));
  } else if (ratio > settings.crop_ratio_max) {
    box.width = std::max<std::int64_t>(1, static_cast<std::int64_t>(std::nearbyint(height * settings.crop_ratio_max)));
  }
  box.y = (image.height - box.height) / 2;
  box.x = (image.width - box.width) / 2;
  return box;
}

/// Pillow's Image.blend(degenerate, image, factor) for one value, in its float arithmetic.
std::uint8_t blend(int degenerate, int value, float factor) {
  const float mixed = static_cast<float>(degenerate) + factor * static_cast<float>(value - degenerate);
  if (factor >= 0.0F && factor <= 1.0F) return static_cast<std::uint8_t>(mixed);
  return mixed <= 0.0F ? std::uint8_t{0} : mixed >= 255.0F ? std::uint8_t{255} : static_cast<std::uint8_t>(mixed);
}

/// Pillow's convert("L"): ITU-R 601-2 in 16-bit fixed point.
int luma(const std::uint8_t* rgb) { return (rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16; }

/// Every value through one table: value -> blend(degenerate, value).
void blend_with(Image& image, int degenerate, float factor) {
  std::array<std::uint8_t, 256> table{};
  for (int v = 0; v < 256; ++v) table[static_cast<std::size_t>(v)] = blend(degenerate, v, factor);
  for (std::uint8_t& value : image.rgb) value = table[value];
}

struct Turn {
  double cosine = 1, sine = 0;  // of the angle at which a rotation looks up its pixels
  bool is_none() const { return cosine == 1 && sine == 0; }
};

/// Pillow rounds sine and cosine to 15 decimals; then a quarter turn is exact.
Turn turn_by(double degrees) {
  const double turn = std::fmod(std::fmod(degrees, 360.0) + 360.0, 360.0);
  if (turn == 0.0) return {};
  const auto rounded = [](double x) { return std::stod(fmt::format("{:.15f}", x)); };
  const double angle = -turn * (std::numbers::pi / 180.0);
  return {rounded(std::cos(angle)), rounded(std::sin(angle))};
}

/// The random numbers of one image. Everything is drawn in a fixed order whether used or not, the crop last: changing
/// one setting shifts no other draw.
struct Draws {
  bool flips_horizontally, flips_vertically;
  double degrees;
  float brightness, contrast, saturation;  // 1 where the setting is off
  std::optional<Box> crop;
};

Draws draw(Size image, const Augmentation& settings, const RandomPlace& at) {
  Random random(at);
  const auto factor = [&](double strength) {
    return static_cast<float>(random.uniform(std::max(0.0, 1.0 - strength), 1.0 + strength));
  };
  Draws d{};
  d.flips_horizontally = random.happens(settings.horizontal_flip);
  d.flips_vertically = random.happens(settings.vertical_flip);
  d.degrees = random.uniform(-settings.rotation_degrees, settings.rotation_degrees);
  d.brightness = factor(settings.brightness);
  d.contrast = factor(settings.contrast);
  d.saturation = factor(settings.saturation);
  if (settings.has_random_crop()) d.crop = random_crop_box(image, settings, random);
  return d;
}

}  // namespace

const std::vector<std::string>& augmentation_names() {
  static const std::vector<std::string> names{"none", "light", "standard", "strong"};
  return names;
}

Augmentation augmentation_preset(std::string_view name) {
  if (name == "none") return {};
  if (name == "light") return {.horizontal_flip = 0.5, .rotation_degrees = 10.0};
  if (name == "standard") return {.crop_scale_min = 0.6, .horizontal_flip = 0.5};
  if (name == "strong") {
    return {.crop_scale_min = 0.6,
            .horizontal_flip = 0.5,
            .vertical_flip = 0.5,
            .rotation_degrees = 15.0,
            .brightness = 0.2,
            .contrast = 0.2,
            .saturation = 0.2};
  }
  throw UsageError(
      fmt::format("augment: unknown preset '{}'; choose one of {}", name, fmt::join(augmentation_names(), ", ")));
}

void check(const Augmentation& settings) {
  const auto expect = [](bool holds, std::string_view what) {
    if (!holds) throw UsageError(fmt::format("augment: {}", what));
  };
  expect(settings.crop_scale_min > 0.0 && settings.crop_scale_min <= settings.crop_scale_max &&
             settings.crop_scale_max <= 1.0,
         "the crop scale needs 0 < min <= max <= 1");
  expect(settings.crop_ratio_min > 0.0 && settings.crop_ratio_min <= settings.crop_ratio_max,
         "the crop ratio needs 0 < min <= max");
  for (const double probability : {settings.horizontal_flip, settings.vertical_flip}) {
    expect(probability >= 0.0 && probability <= 1.0, "the probability of a flip lies in 0..1");
  }
  expect(settings.rotation_degrees >= 0.0 && settings.rotation_degrees <= 180.0, "the rotation lies in 0..180 degrees");
  for (const double strength : {settings.brightness, settings.contrast, settings.saturation}) {
    expect(strength >= 0.0, "brightness, contrast and saturation may not be negative");
  }
}

void flip_horizontally(Image& image) {
  for (std::int64_t y = 0; y < image.height; ++y) {
    std::uint8_t* row = image.row(y);
    for (std::int64_t left = 0, right = image.width - 1; left < right; ++left, --right) {
      std::swap_ranges(row + 3 * left, row + 3 * left + 3, row + 3 * right);
    }
  }
}

void flip_vertically(Image& image) {
  for (std::int64_t top = 0, bottom = image.height - 1; top < bottom; ++top, --bottom) {
    std::swap_ranges(image.row(top), image.row(top) + 3 * image.width, image.row(bottom));
  }
}

Image rotate(const Image& image, double degrees) {
  const Turn turn = turn_by(degrees);
  if (turn.is_none()) return image;
  const auto [cosine, sine] = turn;
  const double center_x = static_cast<double>(image.width) / 2.0, center_y = static_cast<double>(image.height) / 2.0;
  const double shift_x = cosine * -center_x + sine * -center_y + center_x;
  const double shift_y = -sine * -center_x + cosine * -center_y + center_y;

  const auto mix = [](double a, double b, double share) { return a + (b - a) * share; };
  Image result = Image::blank(image.height, image.width);
  for (std::int64_t y = 0; y < image.height; ++y) {
    for (std::int64_t x = 0; x < image.width; ++x) {
      const double x_out = static_cast<double>(x) + 0.5, y_out = static_cast<double>(y) + 0.5;
      double x_in = cosine * x_out + sine * y_out + shift_x;
      double y_in = -sine * x_out + cosine * y_out + shift_y;
      if (x_in < 0.0 || x_in >= static_cast<double>(image.width) || y_in < 0.0 ||
          y_in >= static_cast<double>(image.height)) {
        continue;
      }
      x_in -= 0.5;
      y_in -= 0.5;
      const auto left = static_cast<std::int64_t>(std::floor(x_in));
      const auto top = static_cast<std::int64_t>(std::floor(y_in));
      const double dx = x_in - static_cast<double>(left), dy = y_in - static_cast<double>(top);
      const std::int64_t x0 = 3 * std::clamp<std::int64_t>(left, 0, image.width - 1);
      const std::int64_t x1 = 3 * std::clamp<std::int64_t>(left + 1, 0, image.width - 1);
      const std::uint8_t* upper = image.row(std::clamp<std::int64_t>(top, 0, image.height - 1));
      const std::uint8_t* lower = top + 1 < image.height ? image.row(top + 1) : nullptr;
      for (std::int64_t c = 0; c < 3; ++c) {
        const double above = mix(upper[x0 + c], upper[x1 + c], dx);
        const double below = lower != nullptr ? mix(lower[x0 + c], lower[x1 + c], dx) : above;
        result.row(y)[3 * x + c] = static_cast<std::uint8_t>(mix(above, below, dy));
      }
    }
  }
  return result;
}

void adjust_brightness(Image& image, float factor) { blend_with(image, 0, factor); }

void adjust_contrast(Image& image, float factor) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < image.rgb.size(); i += 3) sum += luma(image.rgb.data() + i);
  const double mean = static_cast<double>(sum) / static_cast<double>(image.height * image.width);
  blend_with(image, static_cast<int>(mean + 0.5), factor);
}

void adjust_saturation(Image& image, float factor) {
  for (std::size_t i = 0; i < image.rgb.size(); i += 3) {
    std::uint8_t* pixel = image.rgb.data() + i;
    const int grey = luma(pixel);
    for (int c = 0; c < 3; ++c) pixel[c] = blend(grey, pixel[c], factor);
  }
}

RandomPlace augmentation_place(std::uint64_t seed, std::int64_t epoch, std::int64_t sample) {
  return {.seed = seed,
          .stream = RandomStream::augment,
          .epoch = static_cast<std::uint32_t>(epoch),
          .index = static_cast<std::uint64_t>(sample)};
}

Image augment(const Image& image, const Augmentation& settings, const AugmentSize& size, const RandomPlace& at) {
  const Draws d = draw({image.height, image.width}, settings, at);
  const std::int64_t side = size.crop;
  Image result = d.crop ? resize_part(image, {.from = *d.crop, .size = {side, side}, .part = {0, 0, side, side}})
                        : resize_and_crop(image, size.resize, side);
  if (d.flips_horizontally) flip_horizontally(result);
  if (d.flips_vertically) flip_vertically(result);
  if (settings.rotation_degrees > 0.0) result = rotate(result, d.degrees);
  if (settings.brightness > 0.0) adjust_brightness(result, d.brightness);
  if (settings.contrast > 0.0) adjust_contrast(result, d.contrast);
  if (settings.saturation > 0.0) adjust_saturation(result, d.saturation);
  return result;
}

ImageChange draw_change(Size image, const Augmentation& settings, const AugmentSize& size, const RandomPlace& at) {
  const Draws d = draw(image, settings, at);
  const Box from = d.crop.value_or(Box{0, 0, image.height, image.width});
  const CropPlace place =
      d.crop ? CropPlace{.resized = {size.crop, size.crop}} : crop_place(image, size.resize, size.crop);
  const Turn turn = turn_by(d.degrees);
  const auto narrow = [](std::int64_t length) { return static_cast<std::int32_t>(length); };
  return {.height = narrow(image.height),
          .width = narrow(image.width),
          .from_y = narrow(from.y),
          .from_x = narrow(from.x),
          .from_h = narrow(from.height),
          .from_w = narrow(from.width),
          .resized_h = narrow(place.resized.height),
          .resized_w = narrow(place.resized.width),
          .part_y = narrow(place.y),
          .part_x = narrow(place.x),
          .flips_horizontally = d.flips_horizontally,
          .flips_vertically = d.flips_vertically,
          .cosine = turn.cosine,
          .sine = turn.sine,
          .brightness = d.brightness,
          .contrast = d.contrast,
          .saturation = d.saturation};
}

}  // namespace graft
