// Weights from a file are of one architecture, whatever --arch says.
#pragma once

#include <string>

#include "apps/settings_options.h"

namespace graft {

/// The weights decide the architecture, and config.toml is to name theirs. Files always name one, so they are
/// overruled, which the text that comes back says unless it was the default; a run that continues keeps what it has
/// recorded. Errors: the command line names another; weights that cannot be read.
std::string follow_weights(TrainSettings& settings, const SettingsOptions& given);

}  // namespace graft
