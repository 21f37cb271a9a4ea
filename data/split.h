// Choosing held-out samples: stratified by class, seeded, groups kept whole.
#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset.h"

namespace graft {

struct HoldOutSpec {
  double fraction = 0.2;
  Split into = Split::val;  // taken from the samples that say train
  std::uint64_t seed = 0;
  std::int64_t class_count = 0;
  LabelSets label_sets = {};
};

/// Moves close to `fraction` of each class's training samples to `into`: each class gives round(fraction * n), at least
/// one if it has two, and keeps at least one; of several labels each counts, and images without any are like one class
/// more. Groups move whole, so with groups the shares are as near as they allow.
/// Deterministic in (samples, spec): each group draws a number from Philox, and groups are tried in that order; one
/// moves if that brings the held-out counts nearer to their targets (sum of squares) and empties no class. Errors:
/// fraction outside 0..1 (1 excluded).
void hold_out(std::vector<Sample>& samples, const HoldOutSpec& spec);

/// Where a sample counts: its classes, or `class_count`, one behind them, where it has none.
std::vector<std::size_t> counted_classes(const Sample& sample, const LabelSets& sets, std::int64_t class_count);
/// How many places that are.
std::size_t counted_class_places(const LabelSets& sets, std::int64_t class_count);

/// The samples with other groups: images that are copies of each other share one, and so do all that they share one
/// with. Whatever keeps groups whole then keeps copies together.
std::vector<Sample> with_copies_grouped(std::vector<Sample> samples, const Copies& copies);

}  // namespace graft
