// Random changes to training images: crops, flips, rotation, colour. Each image is a pure function of its pixels, the
// settings and a RandomPlace (seed, epoch, sample), so threads and resumes change nothing. Off by default. The
// deterministic path that evaluation uses is resize_and_crop in resize.h.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/image.h"
#include "data/resize.h"
#include "kernels/image_input.h"
#include "kernels/philox.h"

namespace graft {

/// What may happen to an image, in this order: crop and resize, flips, rotation, brightness, contrast, saturation.
struct Augmentation {
  /// Share of the area that a random crop keeps; {1, 1} means resize and centre crop instead.
  double crop_scale_min = 1.0, crop_scale_max = 1.0;
  /// Width over height of a random crop, drawn evenly in its logarithm.
  double crop_ratio_min = 3.0 / 4.0, crop_ratio_max = 4.0 / 3.0;
  double horizontal_flip = 0.0, vertical_flip = 0.0;          // probabilities
  double rotation_degrees = 0.0;                              // up to this much either way, corners black
  double brightness = 0.0, contrast = 0.0, saturation = 0.0;  // factors in [max(0, 1-x), 1+x]

  bool has_random_crop() const { return crop_scale_min != 1.0 || crop_scale_max != 1.0; }
  bool is_none() const { return *this == Augmentation{}; }
  friend bool operator==(const Augmentation&, const Augmentation&) = default;
};

/// "none"; "light": flip, rotation up to 10 degrees; "standard": random crop of 60 to 100 % and flip; "strong": that
/// with both flips, rotation up to 15 degrees and colour by 20 %. Errors: any other name (UsageError that lists these).
Augmentation augmentation_preset(std::string_view name);
const std::vector<std::string>& augmentation_names();

/// Errors: probabilities outside 0..1, empty ranges, negative strengths.
void check(const Augmentation& settings);

struct AugmentSize {
  std::int64_t resize = 256;  // shorter side, used without random crop
  std::int64_t crop = 224;    // the result is crop x crop
};

/// Where a training sample's changes of an epoch (from 0) are drawn from.
RandomPlace augmentation_place(std::uint64_t seed, std::int64_t epoch, std::int64_t sample);

/// The image as training sees it in `at.epoch`.
/// Source: torchvision's RandomResizedCrop, RandomRotation (bilinear) and ColorJitter (in fixed order) on Pillow
/// images.
Image augment(const Image& image, const Augmentation& settings, const AugmentSize& size, const RandomPlace& at);

/// The same, drawn and not done: what a device that holds the decoded image is told (Backend::images_to_input).
/// `first_byte` is left to the caller.
ImageChange draw_change(Size image, const Augmentation& settings, const AugmentSize& size, const RandomPlace& at);

// The single steps, equal to Pillow's bytes.

void flip_horizontally(Image& image);
void flip_vertically(Image& image);
/// Image.rotate(degrees, BILINEAR): counter-clockwise about the centre, same size, black outside.
Image rotate(const Image& image, double degrees);
/// ImageEnhance.Brightness, Contrast and Color. 1 leaves the image as it is.
void adjust_brightness(Image& image, float factor);
void adjust_contrast(Image& image, float factor);
void adjust_saturation(Image& image, float factor);

}  // namespace graft
