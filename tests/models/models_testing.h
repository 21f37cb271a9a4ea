// What the tests of networks share: devices, and the formula from which tests/reference/make_network_references.py and
// these tests take the same weights, inputs, labels and projection vectors.
#pragma once

#include <array>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "models/network.h"

namespace graft {

inline Device test_device(DeviceKind kind) { return {.kind = kind}; }

/// [0, 1): splitmix64 of FNV-1a(name) + index, 53 bits.
class FormulaUniform {
 public:
  explicit FormulaUniform(std::string_view name) {
    for (char c : name) seed_ = (seed_ ^ std::uint64_t(static_cast<unsigned char>(c))) * 0x100000001B3;
  }
  double operator()(std::int64_t index) const {
    std::uint64_t z = (seed_ + std::uint64_t(index)) * 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    z ^= z >> 31;
    return double(z >> 11) * 0x1p-53;
  }

 private:
  std::uint64_t seed_ = 0xCBF29CE484222325;
};

/// centre ± radius, rounded to float so that float networks start from the same numbers.
std::vector<double> formula_values(const std::string& name, std::int64_t count, double centre, double radius);

/// The start of a parameter or running statistic, in the order of files.
std::vector<double> formula_start(const std::string& name, const Dimensions& shape);

/// Sets all parameters and running statistics to their start.
void fill_by_formula(Network& network);

/// Norm, and projections on three vectors uniform in [-1, 1) that `name` chooses.
using Summary = std::array<double, 4>;
Summary summary_of(const std::string& name, const std::vector<double>& values);

}  // namespace graft
