// What is kept of an image to find its copies in a set: an exact digest of its pixels, and a small description of what
// it shows that turning, mirroring and enlarging the image change in a simple way. Comparing them is in copies.h.
#pragma once

#include <array>
#include <complex>
#include <cstddef>
#include <cstdint>

#include "data/image.h"

namespace graft {

/// The image on rings around its centre, as Fourier coefficients along each ring. The radii of the rings grow by a
/// constant factor, so that
///   turning the image by φ multiplies coefficient k of every ring by exp(-ikφ), mirroring conjugates it,
///   enlarging it moves the rings outwards,
/// and none of these changes the absolute values on a ring. What lies outside the largest circle in the image does not
/// count. Source: the log-polar transform of image registration (Reddy, Chatterji 1996).
class RingSpectrum {
 public:
  static constexpr std::int64_t kRings = 32, kWaves = 21, kAngles = 64;  // kWaves: from 0 to 20 per turn
  static constexpr std::size_t kPaddedWaves = 24;                        // in whole vectors for the compiler
  static constexpr double kGrowth = 1.0847;                              // radius of a ring over that of the one inside

  /// No structure: nothing is like it.
  RingSpectrum() = default;
  /// Brightness, contrast and colour are taken out first: of the grey image, scaled to 112 x 112, the band of
  /// structures of 3 to 12 pixels stays, divided by its own local strength. An image that is even, or has fewer than 48
  /// pixels on a side (28 are too few to tell chest X-rays apart), has no structure.
  explicit RingSpectrum(const Image& image);

  bool is_empty() const { return is_empty_; }
  std::complex<float> at(std::int64_t ring, std::int64_t wave) const {
    const std::size_t i = static_cast<std::size_t>(2 * (ring * kWaves + wave));
    return {static_cast<float>(values_[i]), static_cast<float>(values_[i + 1])};
  }

 private:
  bool is_empty_ = true;
  std::array<std::int8_t, 2 * kRings * kWaves> values_{};  // (ring, wave, re/im), the largest is 127
};

/// Equal exactly when size and pixels are (up to chance, 2^-128).
struct PixelDigest {
  std::uint64_t low = 0, high = 0;
  friend auto operator<=>(const PixelDigest&, const PixelDigest&) = default;
};
/// Not a cryptographic hash: it is for images that nobody forged. Source: MurmurHash3 (Appleby, public domain).
PixelDigest pixel_digest(const Image& image);

}  // namespace graft
