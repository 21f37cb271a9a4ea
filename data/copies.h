// Images of a set that show the same: with equal pixels, or near-duplicates, which were only encoded, scaled, lit,
// mirrored, turned or enlarged differently. What that means for splits is in leakage.h.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "data/fingerprint.h"
#include "data/image.h"

namespace graft {

/// How well two images agree when one is turned, mirrored and enlarged to fit the other.
struct Likeness {
  double similarity = -1;  // correlation of their normalised bands where they overlap; 1: the same
  double zoom = 1;
  bool is_mirrored = false;
};

/// The best of all turns, both reflections, and enlargements by up to 1.38 either way, about the centre. -1 if one is
/// empty. Cost: about 10 µs.
Likeness likeness(const RingSpectrum& a, const RingSpectrum& b);

/// From this similarity on two images count as copies of each other. docs/leakage.md shows what lies on either side.
inline constexpr double kNearDuplicate = 0.84;

struct NearPair {
  std::int64_t a = 0, b = 0;  // a < b
  int distance = 0;           // bits
  double similarity = 0;
  friend bool operator==(const NearPair&, const NearPair&) = default;
};

/// All pairs at or above kNearDuplicate, except that sets of more than a few hundred images are searched by a
/// perceptual hash first: 64 bits, one for each of 8 bands of rings and 8 wave numbers, set where the image has more
/// energy than half of the set's images have. Pairs that differ in at most 15 bits, at any enlargement, are compared.
/// The bits ignore turns and reflections; being taken against the set they tell apart images that all look alike, such
/// as chest X-rays. Of an image with very many such counterparts only the nearest 64 are compared. Cost: much below n²
/// (an index over four parts of the hash: Norouzi, Punjani, Fleet 2012). In order of a, then b; `threads` changes
/// nothing.
std::vector<NearPair> near_duplicates(std::span<const RingSpectrum> images, int threads);

/// What reading an image taught, once its pixels are gone.
struct ImageTrace {
  std::string failure;  // why it cannot be read; empty: it can
  ImageInfo info;
  std::int64_t height = 0, width = 0;
  bool is_grey = false;  // all three channels equal everywhere, whatever the file says
};

struct Copies {
  std::vector<ImageTrace> traces;                // [image]
  std::vector<std::vector<std::int64_t>> equal;  // sets of two or more, ascending, in the order of their first
  std::vector<NearPair> near;                    // of images that are the first of their kind
};

/// Files of 16 bits that use less than half of their range: their high bytes alone are coarse pictures.
struct DarkImages {
  std::string
      text;  // "12 of 12 images of 16 bits have numbers up to 4095, of which the high byte alone leaves 16 levels …"
  std::string window;  // that keeps 256: "0,4095"
};
/// Nothing unless most files of 16 bits are such.
std::optional<DarkImages> find_dark_images(const Copies& copies);
/// The same as one line for those who can give --intensity-window; or, with a window, that no file goes through it.
/// Else empty.
std::string intensity_advice(const Copies& copies, const std::optional<IntensityWindow>& window);

/// Reads images 0 … count-1, each once. Unreadable ones are copies of none. The result does not depend on `threads`.
Copies find_copies(std::int64_t count, const std::function<Image(std::int64_t, ImageInfo*)>& load, int threads);

}  // namespace graft
