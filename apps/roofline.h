// The two charts of a profile's page, as SVG: layers with multiply-adds under the device's roofline, and layers without
// them below its bandwidth. Colours come from the page's style, by class.
#pragma once

#include <string>

#include "apps/svg.h"
#include "strategies/analysis/profile.h"

namespace graft {

/// FLOP/s over FLOPs per byte, both logarithmic, one dot per layer and pass; larger dots take more time.
std::string roofline_svg(const Profile& profile, const ChartSize& size);

/// Bytes per second over bytes, both logarithmic, for calls that multiply nothing: batch norm, pooling, the update.
std::string bandwidth_svg(const Profile& profile, const ChartSize& size);

}  // namespace graft
