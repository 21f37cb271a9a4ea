// The allocator on a source that counts, runs out when told to, and hands out memory whose contents are checked.
#include "kernels/device_memory.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "kernels/out_of_memory.h"

namespace graft {
namespace {

class CountingSource final : public MemorySource {
 public:
  std::int64_t limit = std::int64_t{1} << 40, taken = 0;
  bool is_captured = false;
  std::map<void*, std::int64_t> blocks;

  ~CountingSource() override { EXPECT_TRUE(blocks.empty()) << blocks.size() << " blocks never went back"; }
  void* get(std::int64_t bytes) override {
    if (taken + bytes > limit) return nullptr;
    void* block = std::aligned_alloc(256, std::size_t(plan_aligned(std::max<std::int64_t>(bytes, 1))));
    blocks[block] = bytes;
    taken += bytes;
    return block;
  }
  void give_back(void* block) noexcept override {
    taken -= blocks.at(block);
    blocks.erase(block);
    std::free(block);
  }
  void wait() override { EXPECT_FALSE(is_captured); }
  bool can_wait() const override { return !is_captured; }
  std::string name() const override { return "test"; }
  std::string left() const override { return memory_text(limit - taken) + " are left"; }
};

/// Steps that are lists of sizes: positive allocates, negative -k releases the k-th allocation of the step.
std::vector<void*> run(DeviceMemory& memory, const std::vector<std::int64_t>& step) {
  std::vector<void*> blocks;
  for (std::int64_t s : step) {
    if (s > 0)
      blocks.push_back(memory.allocate(s));
    else
      memory.release(blocks[std::size_t(-s - 1)]);
  }
  return blocks;
}

const std::vector<std::int64_t> kStep{1000, 5000, -1, 3000, 700, -2, 2000, -3, -4, -5};

struct StepResult {
  std::uint64_t addresses = 0;
  std::vector<void*> blocks;
  bool followed = false;
};
StepResult step(DeviceMemory& memory, const std::vector<std::int64_t>& sizes, std::int64_t kind = 0) {
  StepResult r;
  r.addresses = memory.begin_step(kind);
  r.blocks = run(memory, sizes);
  r.followed = memory.end_step();
  return r;
}

TEST(DeviceMemory, EqualStepsGetEqualAddresses) {
  CountingSource source;
  DeviceMemory memory(source);
  const StepResult first = step(memory, kStep);
  EXPECT_EQ(first.addresses, 0u);
  EXPECT_FALSE(first.followed);
  const StepResult second = step(memory, kStep);
  EXPECT_NE(second.addresses, 0u);
  EXPECT_TRUE(second.followed);
  void* between = memory.allocate(5000);  // what others allocate does not matter
  for (int i = 0; i < 3; ++i) {
    const StepResult later = step(memory, kStep);
    EXPECT_EQ(later.addresses, second.addresses);
    EXPECT_EQ(later.blocks, second.blocks);
    EXPECT_TRUE(later.followed);
  }
  memory.release(between);
  EXPECT_EQ(memory.use().live_bytes, 0);
  EXPECT_EQ(memory.use().arena_bytes, memory.plan(0)->arena_bytes);
  EXPECT_EQ(memory.plan(0)->most_live_bytes, memory.plan(0)->arena_bytes);
}

TEST(DeviceMemory, TheArenaTakesThePlaceOfWhatTheFirstStepKept) {
  CountingSource source;
  DeviceMemory memory(source);
  step(memory, kStep);
  const std::int64_t unplanned = memory.use().reserved_bytes;
  step(memory, kStep);
  EXPECT_EQ(memory.use().reserved_bytes, memory.use().arena_bytes);
  EXPECT_LT(memory.use().reserved_bytes, unplanned);
  EXPECT_EQ(source.taken, memory.use().reserved_bytes);
}

TEST(DeviceMemory, AReplayedStepAllocatesNothingAndKeepsItsAddresses) {
  CountingSource source;
  DeviceMemory memory(source);
  step(memory, kStep);
  const StepResult planned = step(memory, kStep);
  const StepResult replayed = step(memory, {});
  EXPECT_EQ(replayed.addresses, planned.addresses);
  EXPECT_TRUE(replayed.followed);
  EXPECT_EQ(step(memory, kStep).blocks, planned.blocks);
}

TEST(DeviceMemory, ThePeakCountsAnewAndAReplayedStepAsItsAllocations) {
  CountingSource source;
  DeviceMemory memory(source);
  void* kept = memory.allocate(3000);
  memory.release(memory.allocate(1 << 20));  // as a search for algorithms may
  step(memory, kStep);
  EXPECT_GT(memory.use().peak_bytes, 1 << 20);
  memory.reset_peak();
  EXPECT_EQ(memory.use().peak_bytes, memory.use().live_bytes);
  step(memory, kStep);
  const std::int64_t called = memory.use().peak_bytes;
  EXPECT_EQ(called, 3072 + memory.plan(0)->most_live_bytes);
  memory.reset_peak();
  step(memory, {});
  EXPECT_EQ(memory.use().peak_bytes, called);
  memory.release(kept);
}

TEST(DeviceMemory, WhatOutlivesTheStepLiesElsewhere) {
  CountingSource source;
  DeviceMemory memory(source);
  const std::vector<std::int64_t> leaves_the_second{1000, 5000, -1, 700, -3};
  void* kept[3];
  for (void*& k : kept) k = step(memory, leaves_the_second).blocks[1];
  std::memset(kept[0], 1, 5000), std::memset(kept[1], 2, 5000), std::memset(kept[2], 3, 5000);
  const StepResult later = step(memory, leaves_the_second);
  EXPECT_TRUE(later.followed);
  std::memset(later.blocks[1], 4, 5000);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(static_cast<char*>(kept[i])[4999], i + 1);
  memory.release(later.blocks[1]);
  for (void* k : kept) memory.release(k);
}

TEST(DeviceMemory, ABlockThatNowOutlivesItsStepIsNeverHandedOutTwice) {
  CountingSource source;
  DeviceMemory memory(source);
  const std::vector<std::int64_t> all{1000, 5000, -1, -2}, keeps{1000, 5000, -1};
  step(memory, all);
  step(memory, all);
  void* kept = step(memory, keeps).blocks[1];  // in the arena, against the plan
  std::memset(kept, 7, 5000);
  for (int i = 0; i < 3; ++i) {
    const StepResult r = step(memory, all);
    EXPECT_EQ(r.addresses, 0u);  // the arena is occupied
    for (void* block : r.blocks) EXPECT_NE(block, kept);
  }
  EXPECT_EQ(static_cast<char*>(kept)[4999], 7);
  memory.release(kept);
  EXPECT_TRUE(step(memory, all).followed);
}

TEST(DeviceMemory, AStepThatDiffersIsServedAndPlannedAnew) {
  CountingSource source;
  DeviceMemory memory(source);
  step(memory, kStep);
  const std::uint64_t before = step(memory, kStep).addresses;
  const std::vector<std::int64_t> larger{1000, 6000, -1, 9000, -2, -3};
  const StepResult differs = step(memory, larger);
  EXPECT_EQ(differs.addresses, before);
  EXPECT_FALSE(differs.followed);
  const StepResult again = step(memory, larger);
  EXPECT_TRUE(again.followed);
  EXPECT_NE(again.addresses, before);
  const std::vector<std::int64_t> shorter{1000, 6000, -1, -2};
  EXPECT_FALSE(step(memory, shorter).followed);  // a part of the plan is not the plan
  EXPECT_TRUE(step(memory, shorter).followed);
}

TEST(DeviceMemory, KindsHaveTheirOwnPlansInOneArena) {
  CountingSource source;
  DeviceMemory memory(source);
  const std::vector<std::int64_t> small{100, 500, -1, 300, -2, -3};
  for (int i = 0; i < 2; ++i) step(memory, kStep, 96), step(memory, small, 11);
  const StepResult large1 = step(memory, kStep, 96), small1 = step(memory, small, 11);
  for (int i = 0; i < 3; ++i) {
    const StepResult l = step(memory, kStep, 96), s = step(memory, small, 11);
    EXPECT_TRUE(l.followed && s.followed);
    EXPECT_EQ(l.addresses, large1.addresses);
    EXPECT_EQ(s.addresses, small1.addresses);
    EXPECT_EQ(l.blocks, large1.blocks);
    EXPECT_EQ(s.blocks, small1.blocks);
  }
  EXPECT_NE(large1.addresses, small1.addresses);
  EXPECT_EQ(memory.use().arena_bytes, memory.plan(96)->arena_bytes);
}

TEST(DeviceMemory, ALargerKindMovesTheArenaAndSaysSo) {
  CountingSource source;
  DeviceMemory memory(source);
  const std::vector<std::int64_t> small{100, 500, -1, -2};
  step(memory, small, 1);
  const std::uint64_t before = step(memory, small, 1).addresses;
  step(memory, kStep, 2), step(memory, kStep, 2);
  const StepResult after = step(memory, small, 1);
  EXPECT_NE(after.addresses, 0u);
  EXPECT_NE(after.addresses, before);
  EXPECT_TRUE(after.followed);
}

TEST(DeviceMemory, AnIdleArenaGivesWayWhenThereIsNoMore) {
  CountingSource source;
  DeviceMemory memory(source);
  step(memory, kStep);
  const std::uint64_t before = step(memory, kStep).addresses;
  source.limit = source.taken + 100;
  void* block = memory.allocate(4000);  // an evaluation between steps
  EXPECT_EQ(memory.use().arena_bytes, 0);
  memory.release(block);
  const StepResult after = step(memory, kStep);
  EXPECT_TRUE(after.followed);
  EXPECT_NE(after.addresses, before);
}

TEST(DeviceMemory, AStepThatLeavesItsPlanMayUseWhatIsFreeInTheArena) {
  CountingSource source;
  DeviceMemory memory(source);
  const std::vector<std::int64_t> plan{4096, 4096, 4096, -1, -2, -3};
  step(memory, plan), step(memory, plan);
  source.limit = source.taken;
  const StepResult r = step(memory, {4096, 8000, -1, -2});
  EXPECT_FALSE(r.followed);
  EXPECT_TRUE(r.blocks[1] != r.blocks[0]);
  EXPECT_TRUE(step(memory, {4096, 8000, -1, -2}).followed);
}

TEST(DeviceMemory, SaysWhatWasNeededAndWhatToDoWhenThereIsNoMore) {
  CountingSource source;
  DeviceMemory memory(source);
  source.limit = 3 << 20;
  void* used = memory.allocate(2 << 20);
  try {
    memory.allocate(5 << 20);
    FAIL() << "it was given";
  } catch (const OutOfMemory& e) {
    const std::string text = e.what();
    for (const char* part : {"out of memory on test", "5.0 MiB more are needed", "2.0 MiB are in use",
                             "1.0 MiB are left", "--batch", "--accumulate", "--recompute"})
      EXPECT_NE(text.find(part), std::string::npos) << part << " is not in: " << text;
    EXPECT_EQ(text.find('\n'), std::string::npos);
  }
  EXPECT_EQ(memory.use().live_bytes, 2 << 20);  // nothing is lost: what was there goes on
  memory.release(used);
  memory.release(memory.allocate(3 << 20));
}

TEST(DeviceMemory, NothingIsGivenBackWhileAStepIsCaptured) {
  CountingSource source;
  DeviceMemory memory(source);
  memory.release(memory.allocate(5000));  // kept for the next block of its size
  source.limit = source.taken + 1000, source.is_captured = true;
  EXPECT_THROW(memory.allocate(100000), OutOfMemory);
  EXPECT_EQ(source.blocks.size(), 1u);
  source.is_captured = false, source.limit = 192000;
  memory.release(memory.allocate(190000));  // for which the other must go
  EXPECT_EQ(source.blocks.size(), 1u);
}

TEST(DeviceMemory, OtherThreadsBlocksAreNotPlanned) {
  CountingSource source;
  DeviceMemory memory(source);
  const auto step_with_thread = [&] {
    memory.begin_step(0);
    void* mine = memory.allocate(1000);
    void* theirs = nullptr;
    std::thread([&] { theirs = memory.allocate(2000); }).join();
    void* last = memory.allocate(3000);
    std::thread([&] { memory.release(mine); }).join();
    memory.release(last);
    const bool followed = memory.end_step();
    memory.release(theirs);
    return followed;
  };
  EXPECT_FALSE(step_with_thread());
  EXPECT_TRUE(step_with_thread());
  EXPECT_EQ(memory.plan(0)->most_live_bytes, 1024 + 3072);
}

/// Random steps, some repeated and some disturbed. Every live block holds a pattern of its own from allocation to
/// release, so that memory handed out twice is seen.
TEST(DeviceMemory, RandomStepsNeverOverlap) {
  std::mt19937_64 random(7);
  const auto below = [&](std::int64_t n) { return std::int64_t(random() % std::uint64_t(n)); };
  std::int64_t followed = 0, steps = 0;
  for (int sequence = 0; sequence < 1000; ++sequence) {
    CountingSource source;
    DeviceMemory memory(source);
    struct Block {
      unsigned char* data;
      std::int64_t bytes;
      unsigned char pattern;
    };
    std::vector<Block> survivors;
    unsigned char next_pattern = 1;
    const auto allocate = [&](std::int64_t bytes) {
      auto* data = static_cast<unsigned char*>(memory.allocate(bytes));
      std::memset(data, next_pattern, std::size_t(bytes));
      return Block{data, bytes, next_pattern++};
    };
    const auto release = [&](const Block& b) {
      const bool is_whole = std::all_of(b.data, b.data + b.bytes, [&](unsigned char c) { return c == b.pattern; });
      ASSERT_TRUE(is_whole) << "sequence " << sequence;
      memory.release(b.data);
    };
    // A program: allocations with the moment of their release; far beyond the end: they survive.
    struct Allocation {
      std::int64_t bytes, until;
    };
    std::vector<Allocation> program(std::size_t(2 + below(12)));
    for (std::size_t i = 0; i < program.size(); ++i)
      program[i] = {below(3000), std::int64_t(i) + 1 + below(below(6) == 0 ? 40 : 5)};
    for (int repeat = 0; repeat < 6; ++repeat) {
      if (below(4) == 0) {  // a disturbance
        Allocation& a = program[std::size_t(below(std::ssize(program)))];
        below(2) ? a.bytes = below(3000) : a.until += 1 + below(20);
      }
      source.limit = below(8) == 0 ? source.taken + 9000 : std::int64_t{1} << 40;
      memory.begin_step(below(6) == 0);
      std::vector<std::pair<std::int64_t, Block>> live;
      try {
        for (std::size_t i = 0; i < program.size(); ++i) {
          std::erase_if(live, [&](const auto& entry) {
            if (entry.first > std::int64_t(i)) return false;
            release(entry.second);
            return true;
          });
          live.emplace_back(program[i].until, allocate(program[i].bytes));
        }
      } catch (const OutOfMemory&) {
      }
      for (const auto& [until, block] : live)
        until > std::ssize(program) + 10 ? survivors.push_back(block) : release(block);
      ++steps;
      followed += memory.end_step();
      while (survivors.size() > 3) release(survivors.front()), survivors.erase(survivors.begin());
    }
    for (const Block& b : survivors) release(b);
    ASSERT_EQ(memory.use().live_bytes, 0);
    ASSERT_GE(source.taken, memory.use().arena_bytes);
    ASSERT_EQ(source.taken, memory.use().reserved_bytes);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(followed, steps / 5);  // plans were at work, not only their absence
  EXPECT_LT(followed, steps * 4 / 5);
}

}  // namespace
}  // namespace graft
