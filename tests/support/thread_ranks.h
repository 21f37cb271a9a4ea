// Ranks that are threads of one process, for tests of what ranks do together.
#pragma once

#include <barrier>
#include <functional>
#include <memory>
#include <vector>

#include "kernels/ranks.h"

namespace graft::testing {

/// Calls `work` with each of `count` ranks, in a thread each, and returns when all are done. A rank whose work throws
/// leaves: the others' calls go on without it, as they must not after Ranks::finish().
void with_ranks(int count, const std::function<void(Ranks&)>& work);

}  // namespace graft::testing
