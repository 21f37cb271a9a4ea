// Where the blocks of one step lie in one arena, given how long each of them lives. Pure arithmetic: nothing is
// allocated here. device_memory.h records steps and follows the plans.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace graft {

/// A block that is allocated at time `begin` and released before time `end`: blocks with begin < other.end and
/// other.begin < end live together. Any unit of time will do; device_memory.h counts allocations.
struct BlockLife {
  std::int64_t bytes = 0, begin = 0, end = 0;
  friend bool operator==(const BlockLife&, const BlockLife&) = default;
};

struct MemoryPlan {
  std::vector<std::int64_t> offsets;  // of every block, in bytes, multiples of kPlanAlignment
  std::int64_t arena_bytes = 0;       // that hold all blocks
  std::int64_t most_live_bytes = 0;   // at one time: no arena can be smaller
};

inline constexpr std::int64_t kPlanAlignment = 256;  // bytes; of cudaMalloc, and what cuDNN's fastest engines want
constexpr std::int64_t plan_aligned(std::int64_t bytes) {
  return (bytes + kPlanAlignment - 1) / kPlanAlignment * kPlanAlignment;
}

/// Offsets at which no two blocks overlap that live together. Each block takes the smallest gap that fits it among the
/// blocks placed before; large blocks come first. Further orders are tried while the arena is more than 1 % above its
/// lower bound, and the best is kept. Deterministic. Cost: O(n^2), some 20 ms for the 3000 blocks of a step.
/// Errors: a block of negative size or that ends before it begins.
/// Source: Pisarchyk and Lee 2020, "Efficient memory management for deep neural net inference" (greedy by size).
MemoryPlan plan_memory(std::span<const BlockLife> blocks);

}  // namespace graft
