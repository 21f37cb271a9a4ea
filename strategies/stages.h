// The stages of a run: stretches of epochs in which the same things train on one course of the schedule.
#pragma once

#include "strategies/strategy.h"

namespace graft {

struct Stage {
  std::int64_t first_epoch = 0, last_epoch = 0;  // from 0, both included
  double lr_factor = 1;
};

/// As the settings' strategy plans them for this network. A strategy that looks at gradients is asked without them.
/// Errors (UsageError): the run cannot be planned.
std::vector<Stage> stages_of(const TrainSettings& settings, const Network& network);

}  // namespace graft
