#include "data/copies.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <map>

#include "data/parallel.h"
#include "kernels/core.h"

namespace graft {
namespace {

bool is_grey(const Image& image) {
  for (std::size_t p = 0; p < image.rgb.size(); p += 3) {
    if (image.rgb[p] != image.rgb[p + 1] || image.rgb[p] != image.rgb[p + 2]) return false;
  }
  return true;
}

bool goes_through_window(const ImageTrace& trace) {
  return trace.failure.empty() && trace.info.bits == 16 && trace.info.format != "DICOM";
}

}  // namespace

std::optional<DarkImages> find_dark_images(const Copies& copies) {
  constexpr int kHalf = 32768;
  std::int64_t wide = 0, dark = 0;
  int largest = 0;  // of the dark
  for (const ImageTrace& trace : copies.traces) {
    if (!goes_through_window(trace)) continue;
    ++wide;
    if (trace.info.largest == 0 || trace.info.largest >= kHalf) continue;
    ++dark;
    largest = std::max(largest, trace.info.largest);
  }
  if (2 * dark <= wide) return std::nullopt;
  const int levels = largest / 256 + 1;
  return DarkImages{
      .text = fmt::format(
          "{} of {} images of 16 bits have numbers up to {}, of which the high byte alone leaves {} level{} of grey",
          dark, wide, largest, levels, levels == 1 ? "" : "s"),
      .window = to_string(IntensityWindow{0, std::int64_t(std::bit_ceil(unsigned(largest) + 1)) - 1})};
}

std::string intensity_advice(const Copies& copies, const std::optional<IntensityWindow>& window) {
  if (window)
    return std::ranges::any_of(copies.traces, goes_through_window)
               ? ""
               : "the intensity window is for PNG, TIFF and PNM files of 16 bits, and there are none: leave it out";
  const std::optional<DarkImages> dark = find_dark_images(copies);
  return dark ? dark->text + ": give --intensity-window " + dark->window : "";
}

Copies find_copies(std::int64_t count, const std::function<Image(std::int64_t, ImageInfo*)>& load, int threads) {
  const auto n = static_cast<std::size_t>(count);
  Copies copies;
  copies.traces.resize(n);
  std::vector<PixelDigest> digests(n);
  std::vector<RingSpectrum> spectra(n);
  parallel_for(count, threads, [&](std::int64_t number) {
    const auto i = static_cast<std::size_t>(number);
    ImageTrace& trace = copies.traces[i];
    try {
      const Image image = load(number, &trace.info);
      trace.height = image.height, trace.width = image.width;
      trace.is_grey = is_grey(image);
      digests[i] = pixel_digest(image);
      spectra[i] = RingSpectrum(image);
    } catch (const NoDecoder&) {
      throw;
    } catch (const Error& error) {
      trace.failure = error.what();
    }
  });

  std::map<PixelDigest, std::vector<std::int64_t>> by_digest;
  for (std::size_t i = 0; i < n; ++i) {
    if (!copies.traces[i].failure.empty()) continue;
    std::vector<std::int64_t>& set = by_digest[digests[i]];
    if (!set.empty()) spectra[i] = {};  // what holds for the first holds for all
    set.push_back(static_cast<std::int64_t>(i));
  }
  for (auto& [digest, set] : by_digest) {
    if (set.size() > 1) copies.equal.push_back(std::move(set));
  }
  std::sort(copies.equal.begin(), copies.equal.end());
  copies.near = near_duplicates(spectra, threads);
  return copies;
}

}  // namespace graft
