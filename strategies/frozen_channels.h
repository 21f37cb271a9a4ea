// The setting train.freeze_channels: output channels that stay frozen whatever a strategy plans, as texts like
//   layer1.*.weight=0-15,20; conv1.weight=3
// How a plan freezes channels is freeze_plan.h's business.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "strategies/freeze_plan.h"

namespace graft {

struct FrozenChannels {
  std::string pattern;  // of parameters' names, see matches_pattern
  std::vector<ChannelRange> channels;
};

/// Entries PATTERN=CHANNELS separated by semicolons; channels are numbers and ranges separated by commas. Empty: none.
/// Errors (UsageError): an entry that is not of this form, a range that ends before it begins.
std::vector<FrozenChannels> parse_frozen_channels(std::string_view text);

/// Freezes them in a plan. Errors (UsageError): a pattern that fits no parameter; a channel that one of its parameters
/// does not have; nothing is left to train.
void freeze_channels(FreezePlan& freeze, const ParameterSet& parameters, const std::vector<FrozenChannels>& frozen);

}  // namespace graft
