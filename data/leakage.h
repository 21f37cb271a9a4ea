// Whether the splits of a data set are independent of each other. A group (a patient) in two splits, the same image in
// two splits, or a copy of it that was only encoded, scaled, brightened, flipped or rotated anew lets a network be
// tested on what it has trained on. What counts as equal or nearly equal is in copies.h;
// whether a run goes on is the program's business.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset.h"

namespace graft {

enum class LeakKind : std::uint8_t { duplicates, near_duplicates, groups };
inline constexpr std::array<LeakKind, 3> kLeakKinds{LeakKind::duplicates, LeakKind::near_duplicates, LeakKind::groups};
/// "duplicates", "near-duplicates", "groups".
std::string_view to_string(LeakKind kind);

/// "duplicates,groups" as kinds, each once; spaces are passed over, an empty text names none, "all" names every kind.
/// `setting` begins the message. Errors (UsageError): an unknown name, with the known ones.
std::vector<LeakKind> parse_leak_kinds(std::string_view text, std::string_view setting);

/// Two images in different splits that show the same.
struct LeakPair {
  std::string a, b;  // Sample::path; a's split is the earlier one (train, val, test)
  Split split_a = Split::train, split_b = Split::test;
  int distance = 0;         // bits in which the perceptual hashes differ, in the orientation that fits best
  double similarity = 1.0;  // correlation of the thumbnails in that orientation
  friend bool operator==(const LeakPair&, const LeakPair&) = default;
};

/// How much leaks. `images` are held-out ones (val or test) with a counterpart in an earlier split: those whose results
/// say little.
struct LeakCount {
  std::int64_t pairs = 0;  // of groups: groups
  std::int64_t images = 0;
  friend bool operator==(const LeakCount&, const LeakCount&) = default;
};

struct LeakageReport {
  /// Longest list of pairs that a report keeps; counts are never cut.
  static constexpr std::int64_t kMaxPairs = 100'000;

  std::int64_t images = 0;                // of the whole set
  std::int64_t held_out_images = 0;       // of val and test
  std::vector<LeakPair> duplicates;       // equal decoded pixels, in listing order
  std::vector<LeakPair> near_duplicates;  // not equal, most similar first
  std::vector<std::string> groups;        // in more than one split, in byte order
  std::array<LeakCount, 3> counts{};      // [kind]

  const LeakCount& count(LeakKind kind) const { return counts[static_cast<std::size_t>(kind)]; }
  bool has(LeakKind kind) const { return count(kind).pairs > 0; }
  bool is_clean() const {
    return !has(LeakKind::duplicates) && !has(LeakKind::near_duplicates) && !has(LeakKind::groups);
  }
  friend bool operator==(const LeakageReport&, const LeakageReport&) = default;
};

/// Decodes what the set has not decoded while opening; unreadable images are passed over. The result does not depend on
/// `threads`. A pair with equal pixels is in `duplicates` only.
LeakageReport find_leaks(const Dataset& data, int threads);
/// The same for samples whose copies are known, by their place.
LeakageReport find_leaks(std::span<const Sample> samples, const Copies& copies);

/// "12 pairs of nearly equal images in different splits (9 of 150 held-out images)".
std::string count_text(const LeakageReport& report, LeakKind kind);

/// What a reader needs to judge: counts, the first `pairs` pairs or groups of each kind, one per line. Empty if the
/// report is clean or all that it holds is in `allowed`.
std::string leaks_text(const LeakageReport& report, const std::vector<LeakKind>& allowed, std::int64_t pairs);

/// kind,a,split_a,b,split_b,distance,similarity: one line per pair; of a group a alone.
std::string leaks_csv(const LeakageReport& report);

/// One JSON object, and back. Errors: text that to_json does not write.
std::string to_json(const LeakageReport& report);
LeakageReport leakage_from_json(std::string_view json);

}  // namespace graft
