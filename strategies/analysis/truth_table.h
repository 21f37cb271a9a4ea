// What a plan makes of each block of the network, as lines for people: how much of it trains, how its batch norm
// behaves, at which rate, with which decay and penalty. `graft train` shows it at the start and whenever it changes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "strategies/strategy.h"

namespace graft {

struct TruthTableInput {
  const ParameterSet& parameters;
  const std::vector<std::string>& block_names;
  const EpochPlan& plan;
  double lr = 0, weight_decay = 0;  // before the plan's factors
};

/// A heading and a line per block. Rates that differ within a block are shown as "smallest..largest". Two columns are
/// there only if needed: "32 of 3392" frozen output channels of the tensors that train, and penalties, "l2 0.1 to
/// start".
std::string truth_table(const TruthTableInput& input);

/// Every block's rates in one line: "stem 1e-05..0.0002, layer1 0.0001".
std::string block_rates(const TruthTableInput& input);

/// The lines of `table` that `before` does not have, below the heading: what a stage changes. All of it if `before` is
/// empty.
std::string changed_lines(std::string_view table, std::string_view before);

}  // namespace graft
