#include "data/fingerprint.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numbers>
#include <vector>

#include "data/resize.h"

namespace graft {
namespace {

constexpr std::int64_t kSide = 112;
constexpr double kOuterRadius = 54;       // of the last ring, in pixels of the 112
constexpr double kFine = 1, kCoarse = 4;  // standard deviations of the two Gaussians whose difference is the band
constexpr double kNeighbourhood = 8;      // over which the band's strength is measured
constexpr float kNoise = 2;               // grey levels; weaker structure is not brought up to full strength
constexpr std::int64_t kSmallestSide = 48;
constexpr float kEvenBelow = 0.02F;  // root mean square of the normalised band
constexpr std::int64_t kOversampling = 2;

using Plane = std::vector<float>;  // (kSide, kSide)

Plane grey_plane(const Image& image) {
  const Image small = resize(image, {.height = kSide, .width = kSide});
  Plane plane(kSide * kSide);
  for (std::size_t p = 0; p < plane.size(); ++p) {
    const std::uint8_t* rgb = small.rgb.data() + 3 * p;
    plane[p] = 0.299F * rgb[0] + 0.587F * rgb[1] + 0.114F * rgb[2];
  }
  return plane;
}

/// Smooths along columns and transposes; twice gives the two-dimensional Gaussian. Borders are mirrored.
Plane smooth_and_transpose(const Plane& plane, const std::vector<float>& half_kernel) {
  const auto radius = static_cast<std::int64_t>(half_kernel.size()) - 1;
  const auto mirrored = [](std::int64_t y) { return y < 0 ? -y - 1 : y >= kSide ? 2 * kSide - 1 - y : y; };
  Plane result(plane.size());
  std::array<float, kSide> sum;
  for (std::int64_t y = 0; y < kSide; ++y) {
    const auto row = [&](std::int64_t at) { return plane.data() + mirrored(at) * kSide; };
    for (std::int64_t x = 0; x < kSide; ++x) sum[static_cast<std::size_t>(x)] = half_kernel[0] * row(y)[x];
    for (std::int64_t d = 1; d <= radius; ++d) {
      const float *above = row(y - d), *below = row(y + d), weight = half_kernel[static_cast<std::size_t>(d)];
      for (std::int64_t x = 0; x < kSide; ++x) sum[static_cast<std::size_t>(x)] += weight * (above[x] + below[x]);
    }
    for (std::int64_t x = 0; x < kSide; ++x) {
      result[static_cast<std::size_t>(x * kSide + y)] = sum[static_cast<std::size_t>(x)];
    }
  }
  return result;
}

Plane gaussian(const Plane& plane, double sigma) {
  std::vector<float> half(static_cast<std::size_t>(std::lround(3 * sigma)) + 1);
  double total = 0;
  for (std::size_t d = 0; d < half.size(); ++d) {
    const double value = std::exp(-0.5 * std::pow(static_cast<double>(d) / sigma, 2));
    half[d] = static_cast<float>(value);
    total += d == 0 ? value : 2 * value;
  }
  for (float& value : half) value /= static_cast<float>(total);
  return smooth_and_transpose(smooth_and_transpose(plane, half), half);
}

/// The band of structures between kFine and kCoarse, of about the same strength everywhere: otherwise a single bright
/// spot would decide what an image is like.
Plane normalised_band(const Plane& grey) {
  Plane band = gaussian(grey, kFine);
  const Plane coarse = gaussian(grey, kCoarse);
  Plane energy(band.size());
  for (std::size_t p = 0; p < band.size(); ++p) {
    band[p] -= coarse[p];
    energy[p] = band[p] * band[p];
  }
  energy = gaussian(energy, kNeighbourhood);
  for (std::size_t p = 0; p < band.size(); ++p) band[p] /= std::sqrt(std::max(0.0F, energy[p])) + kNoise;
  return band;
}

/// Where the rings' points lie in the plane: the pixel at the upper left and the place between it and the next ones.
struct Place {
  std::size_t pixel;
  float x, y;
};

constexpr auto kPoints = static_cast<std::size_t>(RingSpectrum::kAngles * kOversampling);

const std::vector<Place>& places() {
  static const std::vector<Place> table = [] {
    std::vector<Place> made;
    for (std::int64_t ring = 0; ring < RingSpectrum::kRings; ++ring) {
      const double radius =
          kOuterRadius * std::pow(RingSpectrum::kGrowth, static_cast<double>(ring - RingSpectrum::kRings + 1));
      for (std::size_t a = 0; a < kPoints; ++a) {
        const double angle = 2 * std::numbers::pi * static_cast<double>(a) / static_cast<double>(kPoints);
        const double x = (kSide - 1) / 2.0 + radius * std::cos(angle), y = (kSide - 1) / 2.0 + radius * std::sin(angle);
        made.push_back({static_cast<std::size_t>(std::floor(y) * kSide + std::floor(x)),
                        static_cast<float>(x - std::floor(x)), static_cast<float>(y - std::floor(y))});
      }
    }
    return made;
  }();
  return table;
}

/// exp(-2πi k a / kPoints) as (point a, wave k).
struct Turns {
  std::array<std::array<float, RingSpectrum::kPaddedWaves>, kPoints> re{}, im{};
};

const Turns& turns() {
  static const Turns table = [] {
    Turns made;
    for (std::size_t a = 0; a < kPoints; ++a) {
      for (std::size_t k = 0; k < RingSpectrum::kPaddedWaves; ++k) {
        const double angle = -2 * std::numbers::pi * static_cast<double>(k * a % kPoints) / double(kPoints);
        made.re[a][k] = static_cast<float>(std::cos(angle)), made.im[a][k] = static_cast<float>(std::sin(angle));
      }
    }
    return made;
  }();
  return table;
}

}  // namespace

RingSpectrum::RingSpectrum(const Image& image) {
  if (std::min(image.height, image.width) < kSmallestSide) return;
  const Plane band = normalised_band(grey_plane(image));
  float squares = 0;
  for (const float value : band) squares += value * value;
  if (squares < kEvenBelow * kEvenBelow * static_cast<float>(band.size())) return;

  std::array<std::complex<float>, kRings * kWaves> spectrum{};
  const std::vector<Place>& at = places();
  for (std::size_t ring = 0; ring < kRings; ++ring) {
    std::array<float, kPaddedWaves> re{}, im{};
    for (std::size_t a = 0; a < kPoints; ++a) {
      const Place& p = at[ring * kPoints + a];
      const float* upper = band.data() + p.pixel;
      const float* lower = upper + kSide;
      const float value =
          (1 - p.y) * ((1 - p.x) * upper[0] + p.x * upper[1]) + p.y * ((1 - p.x) * lower[0] + p.x * lower[1]);
      const auto &turn_re = turns().re[a], &turn_im = turns().im[a];
      for (std::size_t k = 0; k < kPaddedWaves; ++k) re[k] += value * turn_re[k], im[k] += value * turn_im[k];
    }
    for (std::size_t k = 0; k < kWaves; ++k) spectrum[ring * kWaves + k] = {re[k], im[k]};
  }
  // The mean of all rings would be alike in all images.
  std::complex<float> mean = 0;
  for (std::size_t ring = 0; ring < kRings; ++ring) mean += spectrum[ring * kWaves] / static_cast<float>(kRings);
  for (std::size_t ring = 0; ring < kRings; ++ring) spectrum[ring * kWaves] -= mean;
  float largest = 0;
  for (const auto& value : spectrum) largest = std::max({largest, std::abs(value.real()), std::abs(value.imag())});
  if (largest == 0) return;
  is_empty_ = false;
  for (std::size_t i = 0; i < spectrum.size(); ++i) {
    values_[2 * i] = static_cast<std::int8_t>(std::lround(spectrum[i].real() / largest * 127));
    values_[2 * i + 1] = static_cast<std::int8_t>(std::lround(spectrum[i].imag() / largest * 127));
  }
}

PixelDigest pixel_digest(const Image& image) {
  constexpr std::uint64_t kFirst = 0x87c37b91114253d5U, kSecond = 0x4cf5ad432745937fU;
  std::uint64_t low = static_cast<std::uint64_t>(image.height), high = static_cast<std::uint64_t>(image.width);
  const auto mix_low = [&](std::uint64_t k) { low ^= std::rotl(k * kFirst, 31) * kSecond; };
  const auto mix_high = [&](std::uint64_t k) { high ^= std::rotl(k * kSecond, 33) * kFirst; };
  const std::size_t whole = image.rgb.size() / 16 * 16;
  const auto word = [&](std::size_t at) {
    std::uint64_t value = 0;
    std::memcpy(&value, image.rgb.data() + at, 8);
    return value;
  };
  for (std::size_t at = 0; at < whole; at += 16) {
    mix_low(word(at));
    low = (std::rotl(low, 27) + high) * 5 + 0x52dce729U;
    mix_high(word(at + 8));
    high = (std::rotl(high, 31) + low) * 5 + 0x38495ab5U;
  }
  std::array<std::uint8_t, 16> rest{};
  std::copy(image.rgb.begin() + static_cast<std::ptrdiff_t>(whole), image.rgb.end(), rest.begin());
  std::array<std::uint64_t, 2> last{};
  std::memcpy(last.data(), rest.data(), 16);
  mix_high(last[1]);
  mix_low(last[0]);

  const auto finish = [](std::uint64_t k) {
    k = (k ^ k >> 33) * 0xff51afd7ed558ccdU;
    k = (k ^ k >> 33) * 0xc4ceb9fe1a85ec53U;
    return k ^ k >> 33;
  };
  low ^= image.rgb.size(), high ^= image.rgb.size();
  low += high, high += low;
  low = finish(low), high = finish(high);
  low += high, high += low;
  return {low, high};
}

}  // namespace graft
