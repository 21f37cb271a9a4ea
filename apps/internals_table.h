// A run's internals for people and for spreadsheets. The numbers and their file are data/internals.h's.
#pragma once

#include <string>
#include <string_view>

#include "data/internals.h"

namespace graft {

/// One row per series: medians of gradient norm, relative gradient norm and update ratio over the records, the course
/// of the relative gradient norm as a sparkline, and weight norm, distance and drift at the last record.
std::string internals_table(const Internals& internals, const std::vector<InternalsSeries>& series);

/// One line per record and series; what a series does not have is empty.
std::string internals_csv(const Internals& internals, const std::vector<InternalsSeries>& series);

/// Eight heights of bars, `columns` of them or one per value if there are fewer; on a logarithmic scale from the
/// smallest to the largest column. A column is the geometric mean of its positive values and blank without any.
std::string sparkline(std::span<const double> values, std::int64_t columns);

}  // namespace graft
