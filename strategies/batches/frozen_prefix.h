// How much of a network, from its first part on, a freeze plan leaves unchanged: what its output is for an image stays
// the same as long as the plan holds, so it may be computed once (feature_cache.h).
#pragma once

#include <string>

#include "models/network.h"
#include "strategies/freeze_plan.h"

namespace graft {

/// Leading parts (Network::parts) in which no parameter trains and every batch norm has fixed statistics. They run in
/// evaluation mode, which dropout alone can tell from training: of VGG-19's classifier when only its head trains.
struct FrozenPrefix {
  int parts = 0;
  std::string limit;  // why not more: "layer4 trains", "batch norm of stem uses batch statistics"
  /// Parts in which no parameter trains. More than `parts` when only batch norm is in the way.
  int frozen_parameters = 0;
};

/// Requires that something trains.
FrozenPrefix frozen_prefix(const Network& network, const FreezePlan& plan);

}  // namespace graft
