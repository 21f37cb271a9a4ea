// A profile's steps as a trace that ui.perfetto.dev and chrome://tracing show: ranges for steps, passes and layers, in
// them the device calls with their shapes; below, where they were traced, the kernels of each stream.
#pragma once

#include <string>

#include "strategies/analysis/profile.h"

namespace graft {

/// JSON of the trace-event format with complete events ("ph": "X", times in microseconds) that nest. At most the first
/// ten of the steps with timed calls, one after the other: the steps between them, without timed calls, are left out.
/// Source: "Trace Event Format", Chromium project.
std::string profile_trace(const Profile& profile);

}  // namespace graft
