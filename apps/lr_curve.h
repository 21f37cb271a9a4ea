// The curve of a learning-rate range test, for a terminal, as a picture and as a table. The numbers are find_lr.h's.
#pragma once

#include <string>

#include "strategies/find_lr.h"

namespace graft {

/// About 20 lines of plain ASCII, at most 79 columns wide: `.` an update's loss, `*` the smoothed loss, A and B below
/// the axis the suggestions. Empty with fewer than two points.
std::string terminal_curve(const RangeTest& test);

/// A whole SVG file without outside references. Errors: fewer than two points.
std::string svg_curve(const RangeTest& test);

/// step,lr,loss,smoothed_loss with 12 significant digits.
std::string csv_curve(const RangeTest& test);

}  // namespace graft
