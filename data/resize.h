// Pillow's antialiased bilinear resize, byte for byte, with torchvision's rules for the size and the centre crop. The
// pre-trained networks were trained through exactly these pixels: other libraries differ by up to 11 levels. What is
// random (crops, flips, colour) is in augment.h.
#pragma once

#include <cstdint>

#include "data/image.h"

namespace graft {

/// A rectangle of pixels: top left corner and size.
struct Box {
  std::int64_t y = 0, x = 0, height = 0, width = 0;
  friend bool operator==(const Box&, const Box&) = default;
};

struct Size {
  std::int64_t height = 0, width = 0;
  friend bool operator==(const Size&, const Size&) = default;
};

/// Pillow's `Image.resize((width, height), BILINEAR)` on the part of `image` in `from`, and of the result only `part`:
/// pixels outside are never computed. The filter does not look outside `from` (crop first, then resize). Errors: an
/// empty rectangle, or one that leaves the image. Source: Pillow, src/libImaging/Resample.c: weights as 22-bit fixed
/// point, a horizontal and then a vertical pass, each rounded to 8 bits.
struct ResizeSpec {
  Box from;   // in the image
  Size size;  // of the whole result
  Box part;   // in the result
};
Image resize_part(const Image& image, const ResizeSpec& spec);

/// The whole image to the whole size.
Image resize(const Image& image, Size size);

/// torchvision's Resize(shorter): the longer side becomes int(shorter * longer / old_shorter), truncated.
Size shorter_side_size(Size image, std::int64_t shorter);
Image resize_shorter_side(const Image& image, std::int64_t shorter);

/// torchvision's CenterCrop: an image that is too small is padded with black first.
Image center_crop(const Image& image, std::int64_t size);

/// center_crop(resize_shorter_side(image, shorter), crop), computing only what the crop shows.
Image resize_and_crop(const Image& image, std::int64_t shorter, std::int64_t crop);

/// Where resize_and_crop's result lies: the size of the resized image and the corner in it, negative where black is
/// added. Errors: as resize_and_crop.
struct CropPlace {
  Size resized;
  std::int64_t y = 0, x = 0;
};
CropPlace crop_place(Size image, std::int64_t shorter, std::int64_t crop);

/// The pixels in the box. Errors: a box that leaves the image.
Image crop(const Image& image, const Box& box);

}  // namespace graft
