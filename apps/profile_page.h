// A profile as one HTML file that needs nothing else: no network, no script but a few lines of its own, without which
// everything can be read as well.
#pragma once

#include <string>

#include "strategies/analysis/profile.h"

namespace graft {

/// Key figures, how the step's time divides, roofline and bandwidth charts, tables by operation and by layer. Light and
/// dark by the reader's setting. Below 1 MB for networks of up to some 500 layers.
std::string profile_page(const Profile& profile);

}  // namespace graft
