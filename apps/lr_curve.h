// The curve of a learning-rate range test, for a terminal, as a picture and as a table, and what it suggests in words.
// The numbers are find_lr.h's.
#pragma once

#include <optional>
#include <string>

#include "strategies/analysis/find_lr.h"

namespace graft {

/// About 20 lines of plain ASCII, at most 79 columns wide: `.` an update's loss, `*` the smoothed loss, A and B below
/// the axis the suggestions. Empty with fewer than two points.
std::string terminal_curve(const RangeTest& test);

/// A whole SVG file without outside references. Errors: fewer than two points.
std::string svg_curve(const RangeTest& test);

/// The lower of the two suggestions, without those at the edge of the curve: a descent that is steepest at the first
/// rate looked at or at the last, a minimum that is the last, a tenth below all rates. There the average has not
/// settled, or the curve does not show what comes beyond. Nothing if none is left. `steps`: the spec's.
std::optional<double> rate_to_start_from(const RangeTest& test, std::int64_t steps);

/// The suggestions A and B, which of them stand at the edge, and which to start from; a line each.
std::string suggestions_text(const RangeTest& test, std::int64_t steps);

/// step,lr,loss,smoothed_loss with 12 significant digits.
std::string csv_curve(const RangeTest& test);

}  // namespace graft
