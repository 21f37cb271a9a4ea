// near_duplicates() and likeness() of copies.h.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numbers>

#include "data/copies.h"
#include "data/parallel.h"

namespace graft {
namespace {

constexpr auto kRings = static_cast<std::size_t>(RingSpectrum::kRings);
constexpr auto kWaves = static_cast<std::size_t>(RingSpectrum::kWaves);
constexpr auto kAngles = static_cast<std::size_t>(RingSpectrum::kAngles);
constexpr std::int64_t kMaxShift = 4;  // rings; 1.0847^4 = 1.38

/// A spectrum as floats, rings contiguous and waves padded with zeros, with its energy up to each ring.
struct Wide {
  std::array<std::array<float, RingSpectrum::kPaddedWaves>, kRings> re{}, im{};
  std::array<float, kRings + 1> energy_below{};

  explicit Wide(const RingSpectrum& spectrum) {
    for (std::size_t r = 0; r < kRings; ++r) {
      float energy = 0;
      for (std::size_t k = 0; k < kWaves; ++k) {
        const std::complex<float> value = spectrum.at(static_cast<std::int64_t>(r), static_cast<std::int64_t>(k));
        re[r][k] = value.real(), im[r][k] = value.imag();
        energy += (k == 0 ? 1.0F : 2.0F) * std::norm(value);
      }
      energy_below[r + 1] = energy_below[r] + energy;
    }
  }
};

struct Waves {
  std::array<std::array<float, kAngles>, kWaves> cosine, sine;  // (wave, angle), twice the value from wave 1 on
};

const Waves& waves() {
  static const Waves table = [] {
    Waves made;
    for (std::size_t k = 0; k < kWaves; ++k) {
      for (std::size_t a = 0; a < kAngles; ++a) {
        const double angle = 2 * std::numbers::pi * static_cast<double>(k * a % kAngles) / double(kAngles);
        made.cosine[k][a] = static_cast<float>((k == 0 ? 1 : 2) * std::cos(angle));
        made.sine[k][a] = static_cast<float>((k == 0 ? 1 : 2) * std::sin(angle));
      }
    }
    return made;
  }();
  return table;
}

using WaveSums = std::array<float, RingSpectrum::kPaddedWaves>;

/// The largest correlation over all turns, if it exceeds `result`'s.
void try_turns(const WaveSums& re, const WaveSums& im, float norm, const Likeness& as, Likeness& result) {
  float bound = 0;
  for (std::size_t k = 0; k < kWaves; ++k) bound += (k == 0 ? 1.0F : 2.0F) * std::sqrt(re[k] * re[k] + im[k] * im[k]);
  if (bound <= norm * result.similarity) return;
  const Waves& table = waves();
  std::array<float, kAngles> sum{};
  for (std::size_t k = 0; k < kWaves; ++k) {
    for (std::size_t a = 0; a < kAngles; ++a) sum[a] += re[k] * table.cosine[k][a] - im[k] * table.sine[k][a];
  }
  const auto best = std::max_element(sum.begin(), sum.end());
  if (*best <= norm * result.similarity) return;
  result = as;
  result.similarity = std::min(1.0F, *best / norm);
}

/// Never below `at_least` unless nothing reaches it.
Likeness compare(const Wide& a, const Wide& b, double at_least) {
  constexpr float kSmallestShare = 0.25F;  // of an image's energy that must lie where the two overlap
  Likeness result{.similarity = at_least};
  for (std::int64_t shift = -kMaxShift; shift <= kMaxShift; ++shift) {
    const auto begin = static_cast<std::size_t>(std::max<std::int64_t>(0, -shift));
    const auto end = kRings - static_cast<std::size_t>(std::max<std::int64_t>(0, shift));
    const auto moved = [&](std::size_t r) { return static_cast<std::size_t>(static_cast<std::int64_t>(r) + shift); };
    const float energy_a = a.energy_below[end] - a.energy_below[begin];
    const float energy_b = b.energy_below[moved(end)] - b.energy_below[moved(begin)];
    if (energy_a < kSmallestShare * a.energy_below[kRings] || energy_b < kSmallestShare * b.energy_below[kRings])
      continue;
    WaveSums rr{}, ii{}, ri{}, ir{};
    for (std::size_t r = begin; r < end; ++r) {
      const auto &ar = a.re[r], &ai = a.im[r], &br = b.re[moved(r)], &bi = b.im[moved(r)];
      for (std::size_t k = 0; k < RingSpectrum::kPaddedWaves; ++k) {
        rr[k] += ar[k] * br[k], ii[k] += ai[k] * bi[k], ri[k] += ar[k] * bi[k], ir[k] += ai[k] * br[k];
      }
    }
    const float norm = std::sqrt(energy_a * energy_b);
    const double zoom = std::pow(RingSpectrum::kGrowth, static_cast<double>(shift));
    WaveSums re, im;
    for (const bool is_mirrored : {false, true}) {  // conj(a) * b, or conj(a * b)
      const float sign = is_mirrored ? -1.0F : 1.0F;
      for (std::size_t k = 0; k < RingSpectrum::kPaddedWaves; ++k)
        re[k] = rr[k] + sign * ii[k], im[k] = sign * ri[k] - ir[k];
      try_turns(re, im, norm, {.zoom = zoom, .is_mirrored = is_mirrored}, result);
    }
  }
  return result;
}

// The hash.
constexpr std::size_t kBands = 8, kBandRings = 3, kHashWaves = 8, kBits = kBands * kHashWaves;
constexpr std::size_t kShifts = 2 * kMaxShift + 1;
constexpr int kMaxDistance = 15;
using BandEnergies = std::array<float, kBits>;  // logarithms, of mean 0

/// As if the image were enlarged by `shift` rings.
BandEnergies band_energies(const RingSpectrum& image, std::int64_t shift) {
  BandEnergies result;
  float mean = 0;
  for (std::size_t b = 0; b < kBands; ++b) {
    for (std::size_t w = 0; w < kHashWaves; ++w) {
      float energy = 1;  // keeps the logarithm finite; the strongest coefficient is 127
      for (std::size_t r = 0; r < kBandRings; ++r) {
        energy += std::norm(image.at(kMaxShift + shift + static_cast<std::int64_t>(b * kBandRings + r),
                                     static_cast<std::int64_t>(w) + 1));
      }
      result[b * kHashWaves + w] = std::log(energy);
      mean += result[b * kHashWaves + w] / static_cast<float>(kBits);
    }
  }
  for (float& value : result) value -= mean;
  return result;
}

std::uint64_t bits_above(const BandEnergies& energies, const BandEnergies& thresholds) {
  std::uint64_t bits = 0;
  for (std::size_t i = 0; i < kBits; ++i) bits |= std::uint64_t{energies[i] > thresholds[i]} << i;
  return bits;
}

/// Hashes of a set's images at each enlargement; column kMaxShift is the image as it is.
class Hashes {
 public:
  Hashes(std::span<const RingSpectrum> images, int threads) : hashes_(images.size()) {
    std::vector<BandEnergies> plain(images.size());
    parallel_for(size(), threads, [&](std::int64_t i) {
      plain[static_cast<std::size_t>(i)] = band_energies(images[static_cast<std::size_t>(i)], 0);
    });
    BandEnergies medians{};
    std::vector<float> column(images.size());
    for (std::size_t bit = 0; bit < kBits; ++bit) {
      for (std::size_t i = 0; i < column.size(); ++i) column[i] = plain[i][bit];
      const auto middle = column.begin() + static_cast<std::ptrdiff_t>(column.size() / 2);
      std::nth_element(column.begin(), middle, column.end());
      if (middle != column.end()) medians[bit] = *middle;
    }
    parallel_for(size(), threads, [&](std::int64_t i) {
      for (std::size_t s = 0; s < kShifts; ++s) {
        hashes_[static_cast<std::size_t>(i)][s] = bits_above(
            band_energies(images[static_cast<std::size_t>(i)], static_cast<std::int64_t>(s) - kMaxShift), medians);
      }
    });
  }

  std::int64_t size() const { return static_cast<std::int64_t>(hashes_.size()); }
  const std::array<std::uint64_t, kShifts>& of(std::int64_t i) const { return hashes_[static_cast<std::size_t>(i)]; }
  std::uint64_t plain(std::int64_t i) const { return of(i)[kMaxShift]; }

  /// Of the image as it is to the other at the enlargement that fits best, and the other way round.
  int distance(std::int64_t a, std::int64_t b) const {
    int least = static_cast<int>(kBits);
    for (std::size_t s = 0; s < kShifts; ++s) {
      least = std::min({least, std::popcount(plain(a) ^ of(b)[s]), std::popcount(of(a)[s] ^ plain(b))});
    }
    return least;
  }

 private:
  std::vector<std::array<std::uint64_t, kShifts>> hashes_;
};

/// Which images have a given 16-bit part in their plain hash, for each of the four parts.
class PartIndex {
 public:
  explicit PartIndex(const Hashes& hashes) {
    for (std::size_t p = 0; p < kParts; ++p) {
      std::vector<std::uint32_t>& begin = begin_[p];
      begin.assign(kValues + 1, 0);
      for (std::int64_t i = 0; i < hashes.size(); ++i) ++begin[part(hashes.plain(i), p) + 1];
      for (std::size_t v = 0; v < kValues; ++v) begin[v + 1] += begin[v];
      std::vector<std::uint32_t> next(begin.begin(), begin.end() - 1);
      images_[p].resize(static_cast<std::size_t>(hashes.size()));
      for (std::int64_t i = 0; i < hashes.size(); ++i) {
        images_[p][next[part(hashes.plain(i), p)]++] = static_cast<std::uint32_t>(i);
      }
    }
  }

  /// Calls use(image) for all whose part differs from the hash's in at most three bits: with four parts, all within 15
  /// bits are met at least once.
  template <class Use>
  void visit_near(std::uint64_t hash, const Use& use) const {
    static const std::vector<std::uint32_t> changes = [] {
      std::vector<std::uint32_t> made{0};
      for (std::uint32_t a = 0; a < 16; ++a) {
        made.push_back(1U << a);
        for (std::uint32_t b = 0; b < a; ++b) {
          made.push_back(1U << a | 1U << b);
          for (std::uint32_t c = 0; c < b; ++c) made.push_back(1U << a | 1U << b | 1U << c);
        }
      }
      return made;
    }();
    for (std::size_t p = 0; p < kParts; ++p) {
      for (const std::uint32_t change : changes) {
        const std::size_t value = part(hash, p) ^ change;
        for (std::uint32_t at = begin_[p][value]; at < begin_[p][value + 1]; ++at) use(images_[p][at]);
      }
    }
  }

 private:
  static constexpr std::size_t kParts = 4, kValues = 1 << 16;
  static_assert(kMaxDistance < 4 * kParts);
  static std::size_t part(std::uint64_t hash, std::size_t p) { return hash >> (16 * p) & 0xffffU; }
  std::array<std::vector<std::uint32_t>, kParts> begin_, images_;
};

/// Images worth comparing with image i: those within kMaxDistance of it at some enlargement, the nearest if there are
/// very many.
std::vector<std::int64_t> candidates(std::int64_t i, const Hashes& hashes, const PartIndex& index) {
  constexpr std::size_t kMost = 64;
  std::vector<std::pair<int, std::int64_t>> found;
  for (const std::uint64_t hash : hashes.of(i)) {
    index.visit_near(hash, [&](std::int64_t j) {
      const int distance = std::popcount(hash ^ hashes.plain(j));
      if (j != i && distance <= kMaxDistance) found.emplace_back(distance, j);
    });
  }
  std::sort(found.begin(), found.end());
  std::vector<std::int64_t> nearest;
  for (const auto& [distance, j] : found) {
    if (nearest.size() == kMost) break;
    if (std::find(nearest.begin(), nearest.end(), j) == nearest.end()) nearest.push_back(j);
  }
  return nearest;
}

}  // namespace

Likeness likeness(const RingSpectrum& a, const RingSpectrum& b) {
  if (a.is_empty() || b.is_empty()) return {};
  return compare(Wide(a), Wide(b), -1);
}

std::vector<NearPair> near_duplicates(std::span<const RingSpectrum> images, int threads) {
  constexpr std::int64_t kAllPairsUpTo = 256;  // the medians of fewer images say little, and all pairs cost little
  std::vector<std::int64_t> used;
  std::vector<RingSpectrum> spectra;
  for (std::size_t i = 0; i < images.size(); ++i) {
    if (images[i].is_empty()) continue;
    used.push_back(static_cast<std::int64_t>(i));
    spectra.push_back(images[i]);
  }
  const Hashes hashes(spectra, threads);
  const PartIndex index(hashes);
  std::vector<std::vector<NearPair>> found(spectra.size());
  parallel_for(hashes.size(), threads, [&](std::int64_t i) {
    std::vector<std::int64_t> others;
    if (hashes.size() > kAllPairsUpTo) {
      others = candidates(i, hashes, index);
    } else {
      for (std::int64_t j = 0; j < i; ++j) others.push_back(j);
    }
    const Wide wide(spectra[static_cast<std::size_t>(i)]);
    for (const std::int64_t j : others) {
      const double similarity = compare(wide, Wide(spectra[static_cast<std::size_t>(j)]), kNearDuplicate).similarity;
      if (similarity <= kNearDuplicate) continue;
      found[static_cast<std::size_t>(i)].push_back({std::min(i, j), std::max(i, j), hashes.distance(i, j), similarity});
    }
  });
  std::vector<NearPair> pairs;
  for (const auto& of_one : found) pairs.insert(pairs.end(), of_one.begin(), of_one.end());
  // A pair may have been found from either side.
  std::sort(pairs.begin(), pairs.end(), [](const NearPair& x, const NearPair& y) {
    return std::tuple(x.a, x.b, -x.similarity) < std::tuple(y.a, y.b, -y.similarity);
  });
  const auto is_same = [](const NearPair& x, const NearPair& y) { return x.a == y.a && x.b == y.b; };
  pairs.erase(std::unique(pairs.begin(), pairs.end(), is_same), pairs.end());
  for (NearPair& pair : pairs) {
    pair.a = used[static_cast<std::size_t>(pair.a)], pair.b = used[static_cast<std::size_t>(pair.b)];
  }
  return pairs;
}

}  // namespace graft
