// Decoded images on their way into the network: crop and resize, flips, rotation, colour, normalisation, each image by
// numbers that were drawn on the host. The formulas stand here once for every device and give the bytes of
// data/augment.h, that is Pillow's; so nothing here may be contracted to fused multiply-adds (the build sees to it).
#pragma once

#include <cstdint>

#include "kernels/core.h"

#if defined(__CUDACC__)
#define GRAFT_PIXEL __host__ __device__ __forceinline__
#else
#define GRAFT_PIXEL inline
#endif

namespace graft {

/// What happens to one image. Lengths are pixels; the steps are taken in the order of the members.
struct ImageChange {
  std::int64_t first_byte = 0;                                  // of the decoded image, RGB rows without gaps
  std::int32_t block = 0;                                       // of memory that it lies in
  std::int32_t height = 0, width = 0;                           // of the decoded image
  std::int32_t from_y = 0, from_x = 0, from_h = 0, from_w = 0;  // this part of it
  std::int32_t resized_h = 0, resized_w = 0;                    // is resized to this size
  std::int32_t part_y = 0, part_x = 0;                          // where the result begins in it; black outside
  bool flips_horizontally = false, flips_vertically = false;    // the result
  double cosine = 1, sine = 0;                                  // of the angle that Pillow's rotation looks up
  float brightness = 1, contrast = 1, saturation = 1;           // factors; 1 changes nothing
};

/// Decoded images may lie in so many blocks of memory.
inline constexpr int kMostPixelBlocks = 16;

/// y = (byte / scale - mean) / std, each step rounded to float32.
struct PixelScaling {
  float scale = 255;
  float mean[3] = {0, 0, 0}, std[3] = {1, 1, 1};  // in the order of the network's channels
  bool is_bgr = false;                            // the network's channels are blue, green, red
};

/// The most source pixels along one axis that may make one pixel of a result: enough to shrink 31-fold.
inline constexpr int kMostTaps = 64;

struct Rgb {
  std::uint8_t v[3];
};

/// Which source pixels make pixel `i` of a resized row or column: Pillow's precompute_coeffs for the triangle filter.
struct Taps {
  int first, count;
  double center, inverse, sum;
};
GRAFT_PIXEL double triangle(double distance) {
  const double d = distance < 0 ? -distance : distance;
  return d < 1 ? 1 - d : 0;
}
/// At most so many taps are needed.
GRAFT_PIXEL std::int64_t taps_needed(std::int64_t in_size, std::int64_t out_size) {
  return in_size <= out_size ? 3 : 2 * ((in_size + out_size - 1) / out_size) + 1;
}
GRAFT_PIXEL Taps taps_of(int in_size, int out_size, int i) {
  const double scale = double(in_size) / double(out_size), support = scale < 1 ? 1 : scale;
  Taps t{.first = 0, .count = 0, .center = (double(i) + 0.5) * scale, .inverse = 1 / support, .sum = 0};
  const int low = int(t.center - support + 0.5), high = int(t.center + support + 0.5);
  t.first = low < 0 ? 0 : low;
  t.count = (high < in_size ? high : in_size) - t.first;
  for (int k = 0; k < t.count; ++k) t.sum += triangle((double(k + t.first) - t.center + 0.5) * t.inverse);
  return t;
}

constexpr int kFilterBits = 32 - 8 - 2;

/// Pillow's normalize_coeffs_8bpc: tap k's weight in fixed point.
GRAFT_PIXEL std::int32_t tap_weight(const Taps& t, int k) {
  double weight = triangle((double(k + t.first) - t.center + 0.5) * t.inverse);
  if (t.sum != 0) weight /= t.sum;
  return std::int32_t(0.5 + weight * (1 << kFilterBits));
}

/// A sum of weighted bytes, rounded to a byte.
GRAFT_PIXEL std::uint8_t clip_byte(std::int32_t sum) {
  const std::int32_t v = (sum + (1 << (kFilterBits - 1))) >> kFilterBits;
  return std::uint8_t(v < 0 ? 0 : v > 255 ? 255 : v);
}

/// The taps of one output row or column, with their weights. An axis that keeps its size has one tap.
struct Line {
  int first, count;
  const std::int32_t* weights;
};

/// One pixel of the resized image: a horizontal and then a vertical pass, each rounded to bytes. `from` is the top left
/// pixel of the part that is resized, `pitch` bytes from one row to the next.
GRAFT_PIXEL Rgb filtered(const std::uint8_t* from, std::int64_t pitch, const Line& row, const Line& column) {
  std::int32_t down[3] = {0, 0, 0};
  for (int i = 0; i < row.count; ++i) {
    const std::uint8_t* p = from + (row.first + i) * pitch + std::int64_t(column.first) * 3;
    std::int32_t across[3] = {0, 0, 0};
    for (int j = 0; j < column.count; ++j)
      for (int c = 0; c < 3; ++c) across[c] += std::int32_t(p[3 * j + c]) * column.weights[j];
    for (int c = 0; c < 3; ++c) down[c] += std::int32_t(clip_byte(across[c])) * row.weights[i];
  }
  return {{clip_byte(down[0]), clip_byte(down[1]), clip_byte(down[2])}};
}

/// Reads pixel (y, x) of a resized image, mirrored as `change` says; `Image` gives Rgb at(y, x).
template <class Image>
GRAFT_PIXEL Rgb mirrored(const Image& image, const ImageChange& change, int height, int width, int y, int x) {
  return image.at(change.flips_vertically ? height - 1 - y : y, change.flips_horizontally ? width - 1 - x : x);
}

GRAFT_PIXEL int clamped(int v, int high) { return v < 0 ? 0 : v > high ? high : v; }

/// Image.rotate(…, BILINEAR) of the mirrored image, black outside. Source: Pillow, src/libImaging/Geometry.c.
template <class Image>
GRAFT_PIXEL Rgb rotated(const Image& image, const ImageChange& change, int height, int width, int y, int x) {
  if (change.cosine == 1 && change.sine == 0) return mirrored(image, change, height, width, y, x);
  const double center_x = double(width) / 2, center_y = double(height) / 2;
  const double shift_x = change.cosine * -center_x + change.sine * -center_y + center_x;
  const double shift_y = -change.sine * -center_x + change.cosine * -center_y + center_y;
  const double x_out = double(x) + 0.5, y_out = double(y) + 0.5;
  double x_in = change.cosine * x_out + change.sine * y_out + shift_x;
  double y_in = -change.sine * x_out + change.cosine * y_out + shift_y;
  if (x_in < 0 || x_in >= double(width) || y_in < 0 || y_in >= double(height)) return {{0, 0, 0}};
  x_in -= 0.5, y_in -= 0.5;
  // Floors: both are at least -0.5.
  const int left = x_in < 0 ? -1 : int(x_in), top = y_in < 0 ? -1 : int(y_in);
  const double dx = x_in - double(left), dy = y_in - double(top);
  const int x0 = clamped(left, width - 1), x1 = clamped(left + 1, width - 1), y0 = clamped(top, height - 1);
  const Rgb a = mirrored(image, change, height, width, y0, x0), b = mirrored(image, change, height, width, y0, x1);
  const bool has_below = top + 1 < height;
  const Rgb c = has_below ? mirrored(image, change, height, width, top + 1, x0) : a,
            d = has_below ? mirrored(image, change, height, width, top + 1, x1) : b;
  Rgb result;
  for (int k = 0; k < 3; ++k) {
    const double above = double(a.v[k]) + double(b.v[k] - a.v[k]) * dx,
                 below = double(c.v[k]) + double(d.v[k] - c.v[k]) * dx;
    result.v[k] = std::uint8_t(above + (below - above) * dy);
  }
  return result;
}

/// Pillow's Image.blend(degenerate, image, factor) for one value, in its float arithmetic.
GRAFT_PIXEL std::uint8_t blended(int degenerate, int value, float factor) {
  const float mixed = float(degenerate) + factor * float(value - degenerate);
  if (factor >= 0 && factor <= 1) return std::uint8_t(mixed);
  return mixed <= 0 ? std::uint8_t(0) : mixed >= 255 ? std::uint8_t(255) : std::uint8_t(mixed);
}

/// Pillow's convert("L"): ITU-R 601-2 in 16-bit fixed point.
GRAFT_PIXEL int luma(const Rgb& p) { return (p.v[0] * 19595 + p.v[1] * 38470 + p.v[2] * 7471 + 0x8000) >> 16; }

GRAFT_PIXEL void blend_all(Rgb& p, int degenerate, float factor) {
  if (factor == 1) return;
  for (int c = 0; c < 3; ++c) p.v[c] = blended(degenerate, p.v[c], factor);
}

/// The image up to its brightness, whose mean luma the contrast is taken about.
template <class Image>
GRAFT_PIXEL Rgb before_contrast(const Image& image, const ImageChange& change, int height, int width, int y, int x) {
  Rgb p = rotated(image, change, height, width, y, x);
  blend_all(p, 0, change.brightness);
  return p;
}

/// The rest: contrast about the mean of `luma_sum` over `pixels`, saturation.
GRAFT_PIXEL void change_colours(Rgb& p, const ImageChange& change, std::int64_t luma_sum, std::int64_t pixels) {
  if (change.contrast != 1) blend_all(p, int(double(luma_sum) / double(pixels) + 0.5), change.contrast);
  blend_all(p, luma(p), change.saturation);
}

/// Channel c of the network's input.
GRAFT_PIXEL float scaled(const Rgb& p, const PixelScaling& s, int c) {
  const std::uint8_t rgb = p.v[c], bgr = p.v[2 - c];  // not by a computed index, which would put p into memory
  const float value = float(s.is_bgr ? bgr : rgb) / s.scale;
  return (value - s.mean[c]) / s.std[c];
}

}  // namespace graft
