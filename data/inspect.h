// The report behind `graft data inspect`: what a data set holds and what is wrong with it. Numbers only; printing is
// the program's business.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "data/dataset.h"
#include "data/leakage.h"

namespace graft {

/// Images with identical decoded pixels, as sample numbers in listing order (two or more).
struct DuplicateSet {
  std::vector<std::int64_t> samples;
  bool crosses_splits = false;  // leaks from training into a held-out split
  bool crosses_classes = false;
};

struct DataReport {
  std::vector<std::string> class_names;
  std::array<std::vector<std::int64_t>, 3> counts;                      // [split][class]
  std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> sizes;  // (width, height) -> images
  std::map<std::string, std::int64_t> modes;                            // "JPEG RGB 8-bit" -> images
  std::string intensity_advice;                                         // of files of 16 bits (copies.h)
  std::int64_t grey_images = 0;  // all three channels equal everywhere, whatever the mode says
  std::int64_t groups = 0;       // distinct, not counting empty ones
  std::vector<DuplicateSet> duplicates;
  std::int64_t near_pairs = 0;  // of near-duplicates, in the same split or not
  LeakageReport leaks;
  std::vector<BadImage> unreadable;
};

/// Decodes every image of an opened set that has not looked for copies itself; open it with skip_bad, finds_copies, and
/// decodes_all = false to have each read once and unreadable ones counted. The result does not depend on `threads`.
/// `window`: with which the set was opened.
DataReport inspect(const Dataset& data, int threads, const std::optional<IntensityWindow>& window = {});

}  // namespace graft
