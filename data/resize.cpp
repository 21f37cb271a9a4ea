#include "data/resize.h"

#include <fmt/format.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/core.h"

namespace graft {
namespace {

constexpr int kPrecisionBits = 32 - 8 - 2;

/// For one direction: which source pixels make an output pixel, with which fixed-point weights.
struct TapTable {
  std::vector<std::int64_t> first;    // per output pixel
  std::vector<std::int64_t> count;    // per output pixel
  std::vector<std::int32_t> weights;  // per output pixel `stride` values, zeros after `count`
  std::int64_t stride = 0;            // even
  const std::int32_t* of(std::int64_t i) const { return weights.data() + i * stride; }
};

/// Pillow's precompute_coeffs and normalize_coeffs_8bpc for the triangle filter, for outputs begin .. begin+length-1.
TapTable make_taps(std::int64_t in_size, std::int64_t out_size, std::int64_t begin, std::int64_t length) {
  const double scale = static_cast<double>(in_size) / static_cast<double>(out_size);
  const double filter_scale = std::max(scale, 1.0);
  const double support = filter_scale;  // the triangle's support is 1
  TapTable taps;
  taps.stride = static_cast<std::int64_t>(std::ceil(support)) * 2 + 2;
  taps.first.resize(static_cast<std::size_t>(length));
  taps.count.resize(static_cast<std::size_t>(length));
  taps.weights.assign(static_cast<std::size_t>(length * taps.stride), 0);
  std::vector<double> exact(static_cast<std::size_t>(taps.stride));
  for (std::int64_t i = 0; i < length; ++i) {
    const double center = (static_cast<double>(begin + i) + 0.5) * scale;
    const double inverse = 1.0 / filter_scale;
    const auto low = std::max<std::int64_t>(static_cast<std::int64_t>(center - support + 0.5), 0);
    const auto high = std::min<std::int64_t>(static_cast<std::int64_t>(center + support + 0.5), in_size);
    double sum = 0.0;
    for (std::int64_t k = 0; k < high - low; ++k) {
      const double distance = std::abs((static_cast<double>(k + low) - center + 0.5) * inverse);
      const double weight = distance < 1.0 ? 1.0 - distance : 0.0;
      exact[static_cast<std::size_t>(k)] = weight;
      sum += weight;
    }
    for (std::int64_t k = 0; k < high - low; ++k) {
      double weight = exact[static_cast<std::size_t>(k)];
      if (sum != 0.0) weight /= sum;
      taps.weights[static_cast<std::size_t>(i * taps.stride + k)] =
          static_cast<std::int32_t>(0.5 + weight * (1 << kPrecisionBits));
    }
    taps.first[static_cast<std::size_t>(i)] = low;
    taps.count[static_cast<std::size_t>(i)] = high - low;
  }
  return taps;
}

// Integer vectors by the compiler's extension (GCC, Clang). It converts between their widths element by element, so on
// AVX2 this is written out.
using Bytes8 = std::uint8_t __attribute__((vector_size(8)));
using Ints8 = std::int32_t __attribute__((vector_size(32)));

/// The eight bytes at `p`: two RGB pixels and two bytes that are ignored.
inline Ints8 load_pixels(const std::uint8_t* p) {
#ifdef __AVX2__
  return reinterpret_cast<Ints8>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
  Bytes8 bytes;
  std::memcpy(&bytes, p, sizeof bytes);
  return __builtin_convertvector(bytes, Ints8);
#endif
}

/// The first four of numbers that are not negative, as bytes from the lowest on; those above 255 become 255.
inline std::uint32_t four_bytes(const Ints8& numbers) {
#ifdef __AVX2__
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(reinterpret_cast<__m256i>(numbers)), __m128i{});
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm_packus_epi16(words, words)));
#else
  std::uint32_t bytes = 0;
  for (int i = 0; i < 4; ++i) bytes |= static_cast<std::uint32_t>(std::min(numbers[i], 255)) << 8 * i;
  return bytes;
#endif
}

inline std::uint8_t clip8(std::int32_t sum) {
  const std::int32_t value = sum >> kPrecisionBits;
  return static_cast<std::uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

/// Weights of pairs of pixels, once for each of their numbers: per output pixel stride / 2 vectors.
std::vector<Ints8> pair_weights(const TapTable& taps) {
  std::vector<Ints8> pairs;
  pairs.reserve(taps.weights.size() / 2);
  for (std::size_t k = 0; k < taps.weights.size(); k += 2) {
    const std::int32_t a = taps.weights[k], b = taps.weights[k + 1];
    pairs.push_back(Ints8{a, a, a, b, b, b, 0, 0});
  }
  return pairs;
}

/// Bytes behind the last pixel that is needed which horizontal_row may read.
constexpr std::int64_t kReadBehind = 5;

/// One row of pixels from a row of which kReadBehind more bytes are readable.
void horizontal_row(std::uint8_t* out, const std::uint8_t* in, const TapTable& taps, const Ints8* weights) {
  constexpr std::int32_t kHalf = 1 << (kPrecisionBits - 1);
  const auto width = static_cast<std::int64_t>(taps.first.size());
  for (std::int64_t x = 0; x < width; ++x, weights += taps.stride / 2) {
    const std::uint8_t* p = in + taps.first[static_cast<std::size_t>(x)] * 3;
    const std::int64_t count = taps.count[static_cast<std::size_t>(x)];
    Ints8 sums{kHalf, kHalf, kHalf};
    for (std::int64_t k = 0; 2 * k < count; ++k) sums += load_pixels(p + 6 * k) * weights[k];
    // Weights of the triangle are not negative, so no sum is, which four_bytes needs.
    const Ints8 pixel = (sums + __builtin_shufflevector(sums, sums, 3, 4, 5, 6, 7, 6, 7, 6)) >> kPrecisionBits;
    const std::uint32_t bytes = four_bytes(pixel);  // the fourth is the next pixel's first, which is yet to be written
    std::memcpy(out + 3 * x, &bytes, x + 1 < width ? 4 : 3);
  }
}

/// One row of `bytes` values from `count` rows above each other.
void vertical_row(std::uint8_t* out, const std::uint8_t* in, std::int64_t pitch, std::int64_t bytes,
                  const std::int32_t* weights, std::int64_t count) {
  constexpr std::int32_t kHalf = 1 << (kPrecisionBits - 1);
  constexpr std::int64_t kBlock = 32;
  std::int64_t x = 0;
  for (; x + kBlock <= bytes; x += kBlock) {
    std::int32_t sums[kBlock];
    for (std::int64_t i = 0; i < kBlock; ++i) sums[i] = kHalf;
    for (std::int64_t k = 0; k < count; ++k) {
      const std::uint8_t* p = in + k * pitch + x;
      for (std::int64_t i = 0; i < kBlock; ++i) sums[i] += std::int32_t{p[i]} * weights[k];
    }
    for (std::int64_t i = 0; i < kBlock; ++i) out[x + i] = clip8(sums[i]);
  }
  for (; x < bytes; ++x) {
    std::int32_t sum = kHalf;
    for (std::int64_t k = 0; k < count; ++k) sum += std::int32_t{in[k * pitch + x]} * weights[k];
    out[x] = clip8(sum);
  }
}

void check_box(const Box& box, std::int64_t height, std::int64_t width, const char* what) {
  if (box.height < 1 || box.width < 1 || box.y < 0 || box.x < 0 || box.y + box.height > height ||
      box.x + box.width > width) {
    throw Error(fmt::format("resize: {} {}x{} at ({},{}) does not lie in {}x{}", what, box.height, box.width, box.y,
                            box.x, height, width));
  }
}

Box whole(const Image& image) { return {0, 0, image.height, image.width}; }

/// Where torchvision's centre crop begins: int(round((size - crop) / 2)), halves to even.
std::int64_t crop_begin(std::int64_t size, std::int64_t crop) {
  return static_cast<std::int64_t>(std::nearbyint(static_cast<double>(size - crop) / 2.0));
}

}  // namespace

Image crop(const Image& image, const Box& box) {
  check_box(box, image.height, image.width, "the crop");
  Image result = Image::blank(box.height, box.width);
  for (std::int64_t y = 0; y < box.height; ++y) {
    std::copy_n(image.row(box.y + y) + 3 * box.x, 3 * box.width, result.row(y));
  }
  return result;
}

Image resize_part(const Image& image, const ResizeSpec& spec) {
  const Box& from = spec.from;
  const Box& part = spec.part;
  check_box(from, image.height, image.width, "the source rectangle");
  check_box(part, spec.size.height, spec.size.width, "the wanted part");
  const bool changes_width = spec.size.width != from.width;
  const bool changes_height = spec.size.height != from.height;

  // Rows of the source that the wanted part needs, from..from+rows.
  std::int64_t first_row = part.y, rows = part.height;
  TapTable vertical;
  if (changes_height) {
    vertical = make_taps(from.height, spec.size.height, part.y, part.height);
    first_row = vertical.first.front();
    rows = vertical.first.back() + vertical.count.back() - first_row;
  }
  first_row += from.y;

  Image wide{rows, part.width, {}};
  const std::uint8_t* source = image.row(first_row) + 3 * (from.x + part.x);
  std::int64_t pitch = image.width * 3;
  if (changes_width) {
    wide = Image::blank(rows, part.width);
    const TapTable horizontal = make_taps(from.width, spec.size.width, part.x, part.width);
    const std::vector<Ints8> weights = pair_weights(horizontal);
    std::vector<std::uint8_t> copy;  // of rows that end too near the image's end
    for (std::int64_t y = 0; y < rows; ++y) {
      const std::uint8_t* in = image.row(first_row + y) + 3 * from.x;
      if (image.rgb.data() + image.bytes() - (in + 3 * from.width) < kReadBehind) {
        copy.assign(in, in + 3 * from.width);
        copy.resize(copy.size() + kReadBehind);
        in = copy.data();
      }
      horizontal_row(wide.row(y), in, horizontal, weights.data());
    }
    if (!changes_height) return wide;
    source = wide.rgb.data();
    pitch = wide.width * 3;
  } else if (!changes_height) {
    return crop(image, {first_row, from.x + part.x, part.height, part.width});
  }

  Image result = Image::blank(part.height, part.width);
  for (std::int64_t y = 0; y < part.height; ++y) {
    const auto at = static_cast<std::size_t>(y);
    vertical_row(result.row(y), source + (vertical.first[at] - vertical.first.front()) * pitch, pitch, 3 * part.width,
                 vertical.of(y), vertical.count[at]);
  }
  return result;
}

Image resize(const Image& image, Size size) {
  return resize_part(image, {.from = whole(image), .size = size, .part = {0, 0, size.height, size.width}});
}

Size shorter_side_size(Size image, std::int64_t shorter) {
  if (shorter < 1) throw Error(fmt::format("resize: the shorter side must be at least 1 pixel, got {}", shorter));
  const bool is_portrait = image.width <= image.height;
  const std::int64_t short_side = is_portrait ? image.width : image.height;
  const std::int64_t long_side = is_portrait ? image.height : image.width;
  // Python: int(size * long / short), a double division.
  const auto longer =
      static_cast<std::int64_t>(static_cast<double>(shorter * long_side) / static_cast<double>(short_side));
  return is_portrait ? Size{longer, shorter} : Size{shorter, longer};
}

Image resize_shorter_side(const Image& image, std::int64_t shorter) {
  return resize(image, shorter_side_size({image.height, image.width}, shorter));
}

CropPlace crop_place(Size image, std::int64_t shorter, std::int64_t crop_size) {
  if (crop_size < 1) throw Error(fmt::format("crop: the size must be at least 1 pixel, got {}", crop_size));
  const Size size = shorter_side_size(image, shorter);
  // torchvision pads before it crops: left and top get the smaller half.
  const auto begin = [crop_size](std::int64_t length) {
    return length > crop_size ? crop_begin(length, crop_size) : -((crop_size - length) / 2);
  };
  return {size, begin(size.height), begin(size.width)};
}

Image resize_and_crop(const Image& image, std::int64_t shorter, std::int64_t crop_size) {
  const auto [size, y, x] = crop_place({image.height, image.width}, shorter, crop_size);
  const Box part{std::max<std::int64_t>(y, 0), std::max<std::int64_t>(x, 0), std::min(size.height, crop_size),
                 std::min(size.width, crop_size)};
  Image shown = resize_part(image, {.from = whole(image), .size = size, .part = part});
  if (shown.height == crop_size && shown.width == crop_size) return shown;
  Image padded = Image::blank(crop_size, crop_size);
  for (std::int64_t row = 0; row < shown.height; ++row) {
    std::copy_n(shown.row(row), 3 * shown.width,
                padded.row(row - std::min<std::int64_t>(y, 0)) + 3 * -std::min<std::int64_t>(x, 0));
  }
  return padded;
}

Image center_crop(const Image& image, std::int64_t size) {
  return resize_and_crop(image, std::min(image.height, image.width), size);
}

}  // namespace graft
