// Plans of random and hand-made sequences: no two blocks overlap that live together, and little is wasted.
#include "kernels/memory_plan.h"

#include <gtest/gtest.h>

#include <random>

#include "kernels/core.h"

namespace graft {
namespace {

/// The first two blocks that live together and overlap; empty: there are none.
std::string overlap(const std::vector<BlockLife>& blocks, const MemoryPlan& plan) {
  for (std::size_t i = 0; i < blocks.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) {
      const BlockLife &a = blocks[i], &b = blocks[j];
      const bool meet = a.begin < b.end && b.begin < a.end;
      const std::int64_t at = plan.offsets[i], bt = plan.offsets[j];
      if (meet && at < bt + b.bytes && bt < at + a.bytes) return std::to_string(j) + " and " + std::to_string(i);
    }
  return {};
}

void expect_valid(const std::vector<BlockLife>& blocks, const MemoryPlan& plan) {
  ASSERT_EQ(plan.offsets.size(), blocks.size());
  EXPECT_EQ(overlap(blocks, plan), "");
  EXPECT_GE(plan.arena_bytes, plan.most_live_bytes);
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    EXPECT_EQ(plan.offsets[i] % kPlanAlignment, 0);
    EXPECT_GE(plan.offsets[i], 0);
    EXPECT_LE(plan.offsets[i] + blocks[i].bytes, plan.arena_bytes);
  }
}

TEST(MemoryPlan, SharesMemoryBetweenBlocksThatNeverMeet) {
  const std::vector<BlockLife> blocks{{1000, 0, 2}, {700, 2, 4}, {300, 1, 3}, {0, 0, 4}};
  const MemoryPlan plan = plan_memory(blocks);
  expect_valid(blocks, plan);
  EXPECT_EQ(plan.most_live_bytes, 1024 + 512);
  EXPECT_EQ(plan.arena_bytes, 1024 + 512);
}

TEST(MemoryPlan, IsEmptyForNothing) {
  const MemoryPlan plan = plan_memory({});
  EXPECT_EQ(plan.arena_bytes, 0);
  EXPECT_EQ(plan.most_live_bytes, 0);
}

TEST(MemoryPlan, RefusesLivesThatCannotBe) {
  EXPECT_THROW(plan_memory(std::vector<BlockLife>{{-1, 0, 1}}), Error);
  EXPECT_THROW(plan_memory(std::vector<BlockLife>{{8, 2, 1}}), Error);
}

TEST(MemoryPlan, ANetworksStepNeedsNoMoreThanWhatLivesTogether) {
  // Saved activations are released in the order opposite to their creation; each layer also needs memory while it runs.
  std::vector<BlockLife> blocks;
  constexpr std::int64_t kLayers = 100;
  for (std::int64_t i = 0; i < kLayers; ++i) {
    blocks.push_back({(100 - i / 2) * 4096, 2 * i, 4 * kLayers - 2 * i});
    blocks.push_back({(i % 7 + 1) * 30000, 2 * i + 1, 2 * i + 2});
    blocks.push_back({(100 - i / 2) * 4096, 4 * kLayers - 2 * i - 1, 4 * kLayers - 2 * i + 2});
  }
  const MemoryPlan plan = plan_memory(blocks);
  expect_valid(blocks, plan);
  EXPECT_LE(double(plan.arena_bytes), 1.02 * double(plan.most_live_bytes));
}

TEST(MemoryPlan, RandomLivesNeverOverlap) {
  std::mt19937_64 random(5);
  const auto below = [&](std::int64_t n) { return std::int64_t(random() % std::uint64_t(n)); };
  for (int sequence = 0; sequence < 5000; ++sequence) {
    std::vector<BlockLife> blocks(std::size_t(1 + below(40)));
    for (BlockLife& b : blocks) {
      b.bytes = below(4) == 0 ? below(64) : below(100000);
      b.begin = below(60);
      b.end = b.begin + 1 + below(below(3) == 0 ? 60 : 5);
    }
    expect_valid(blocks, plan_memory(blocks));
    if (::testing::Test::HasFailure()) FAIL() << "sequence " << sequence;
  }
}

TEST(MemoryPlan, TheCheckSeesAnOverlap) {
  const std::vector<BlockLife> blocks{{1000, 0, 2}, {700, 1, 4}};
  MemoryPlan plan = plan_memory(blocks);
  EXPECT_EQ(overlap(blocks, plan), "");
  plan.offsets = {0, 768};
  EXPECT_EQ(overlap(blocks, plan), "0 and 1");
}

}  // namespace
}  // namespace graft
