#include "kernels/memory_plan.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/core.h"

namespace graft {
namespace {

using Order = std::vector<std::size_t>;

struct Placed {
  std::int64_t offset, end, begin_time, end_time;
};

/// The offset of the smallest gap of `bytes` among what lives at the same time. `placed` is ordered by offset.
std::int64_t best_gap(const std::vector<Placed>& placed, const BlockLife& block, std::int64_t bytes) {
  std::int64_t best = -1, best_size = std::numeric_limits<std::int64_t>::max(), covered = 0;
  for (const Placed& p : placed) {
    if (p.begin_time >= block.end || block.begin >= p.end_time) continue;
    const std::int64_t gap = p.offset - covered;
    if (gap >= bytes && gap < best_size) best = covered, best_size = gap;
    covered = std::max(covered, p.end);
  }
  return best >= 0 ? best : covered;
}

void place(std::span<const BlockLife> blocks, const Order& order, MemoryPlan& plan) {
  std::vector<Placed> placed;
  placed.reserve(blocks.size());
  plan.offsets.assign(blocks.size(), 0);
  plan.arena_bytes = 0;
  for (std::size_t i : order) {
    const BlockLife& b = blocks[i];
    const std::int64_t bytes = plan_aligned(b.bytes);
    if (bytes == 0) continue;
    const std::int64_t offset = best_gap(placed, b, bytes);
    plan.offsets[i] = offset;
    plan.arena_bytes = std::max(plan.arena_bytes, offset + bytes);
    const auto at = std::ranges::upper_bound(placed, offset, {}, &Placed::offset);
    placed.insert(at, {offset, offset + bytes, b.begin, b.end});
  }
}

std::int64_t most_live(std::span<const BlockLife> blocks) {
  std::vector<std::pair<std::int64_t, std::int64_t>> changes;  // at the same time releases (negative) come first
  for (const BlockLife& b : blocks) {
    if (b.begin == b.end) continue;
    changes.emplace_back(b.begin, plan_aligned(b.bytes));
    changes.emplace_back(b.end, -plan_aligned(b.bytes));
  }
  std::ranges::sort(changes);
  std::int64_t live = 0, most = 0;
  for (const auto& [time, change] : changes) most = std::max(most, live += change);
  return most;
}

}  // namespace

MemoryPlan plan_memory(std::span<const BlockLife> blocks) {
  for (const BlockLife& b : blocks)
    if (b.bytes < 0 || b.end < b.begin)
      throw Error("memory plan: a block has a negative size or ends before it begins");
  MemoryPlan best{.offsets = {}, .most_live_bytes = most_live(blocks)};
  const auto size = [&](std::size_t i) { return blocks[i].bytes; };
  const auto duration = [&](std::size_t i) { return blocks[i].end - blocks[i].begin; };
  const auto try_order = [&](auto&& key) {  // largest first
    if (!best.offsets.empty() && best.arena_bytes <= best.most_live_bytes + best.most_live_bytes / 100) return;
    Order order(blocks.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, std::ranges::greater{}, key);
    MemoryPlan plan{.offsets = {}, .most_live_bytes = best.most_live_bytes};
    place(blocks, order, plan);
    if (best.offsets.empty() || plan.arena_bytes < best.arena_bytes) best = std::move(plan);
  };
  using Key = std::pair<double, double>;
  try_order([&](std::size_t i) { return Key(size(i), duration(i)); });
  try_order([&](std::size_t i) { return Key(double(size(i)) * double(duration(i)), size(i)); });
  try_order([&](std::size_t i) { return Key(duration(i), size(i)); });
  try_order([&](std::size_t i) { return Key(-double(blocks[i].begin), size(i)); });
  return best;
}

}  // namespace graft
