// Splits for studies: the folds of a cross-validation and subsets with a number of images per class. Both are seeded
// and keep groups whole. Of several labels per image each counts, and images without any are like one class more. The
// usual hold-out is split.h.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace graft {

struct FoldSpec {
  std::int64_t folds = 5;
  std::uint64_t seed = 0;
  std::int64_t class_count = 0;
  LabelSets label_sets = {};
};

/// For each sample the fold, from 0, in which it is tested; what the samples say about splits is not looked at. Groups
/// are dealt whole, the largest first and equals in an order drawn by the seed, each to the fold that then has the most
/// even share of every class (least sum over its classes of squared counts, each relative to the class; then the
/// smallest fold, then the first). Without groups every class is dealt evenly: folds differ by at most one image of it.
/// Errors: folds < 2; a class with fewer groups than folds; a fold that leaves a class out of testing or out of
/// training, which large groups may force.
std::vector<std::int64_t> assign_folds(const std::vector<Sample>& samples, const FoldSpec& spec,
                                       const std::vector<std::string>& class_names);

struct SubsetSpec {
  std::array<std::int64_t, 3> per_class{};  // by split: images of each class; 0: all
  std::uint64_t seed = 0;
  std::int64_t class_count = 0;
  LabelSets label_sets = {};
};

/// The samples that stay, in their order. Groups are tried in an order drawn by the seed and taken if no class then
/// exceeds its number; a class that gets none that way gets its smallest group. A larger number only adds samples where
/// there are no groups.
std::vector<Sample> subset_per_class(const std::vector<Sample>& samples, const SubsetSpec& spec);

}  // namespace graft
