// Test cases with known truth: labels, clusters and the probabilities that models give, drawn from a population whose
// scores can be had to any accuracy by drawing many cases. Tests and bench/coverage.cpp ask whether intervals hold.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/label_sets.h"

namespace graft::testing {

struct CaseDesign {
  std::int64_t n = 120, classes = 2;
  bool is_balanced = true;
  /// Clusters of 1 to 4 cases, which share the label and 40 % of the noise's variance, as images of one patient do.
  bool is_clustered = false;
  bool is_accurate = false;  // about 0.93 of the cases right, else about 0.8
  /// Every class has its share of the n cases to the case, as in a stratified split; else each label is drawn.
  bool is_stratified = false;
  /// Any number of the classes per case, each drawn by itself.
  bool is_multi_label = false;
};

std::string to_string(const CaseDesign& design);

struct SimulatedCases {
  LabelSets label_sets;
  std::vector<std::int32_t> labels;
  std::vector<std::int64_t> clusters;              // empty without
  std::vector<std::vector<double>> probabilities;  // [model], (n, classes)
};

/// How models differ: 70 % of a case's noise is the same for all.
struct SimulatedModel {
  double skill = 1.0;           // times the separation of the classes
  double overconfidence = 1.5;  // times the logits
};

/// How many cases (clusters, with clusters) the rarest class has on average.
double expected_smallest_class(const CaseDesign& design);

/// Classes differ in difficulty: the last lies 1.7 times as far from the others as the first. Deterministic in
/// everything.
SimulatedCases simulate(const CaseDesign& design, const std::vector<SimulatedModel>& models, std::uint64_t seed,
                        std::uint64_t index);

}  // namespace graft::testing
