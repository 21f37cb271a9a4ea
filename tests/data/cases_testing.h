// Simulated cases as the statistics of data/ take them.
#pragma once

#include "data/statistics.h"
#include "tests/support/simulated_cases.h"

namespace graft::testing {

/// What one of the simulated models answered. It refers to `from`.
inline Cases cases_of(const SimulatedCases& from, std::int64_t classes, std::size_t model = 0) {
  return {from.probabilities[model], from.labels, from.clusters, classes, &from.label_sets};
}

}  // namespace graft::testing
