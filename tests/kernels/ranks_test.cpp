// What a process finds out about those that were started with it. What ranks do together: tests/strategies.
#include "kernels/ranks.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <mutex>
#include <set>
#include <string>
#include <string_view>

#include "kernels/usable_cores.h"
#include "tests/support/thread_ranks.h"

namespace graft {
namespace {

/// Sets variables of the environment, and takes all that tell of ranks away at the end.
class StartedRankTest : public ::testing::Test {
 protected:
  void SetUp() override { clear(); }
  void TearDown() override { clear(); }
  static void clear() {
    for (const char* name :
         {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "PMIX_RANK", "SLURM_STEP_NUM_TASKS"})
      unsetenv(name);
  }
  static void set(const char* rank, const char* r, const char* count, const char* n) {
    setenv(rank, r, 1);
    setenv(count, n, 1);
  }
  static void expect(int rank, int count) {
    const StartedRank started = started_rank();
    EXPECT_EQ(started.rank, rank);
    EXPECT_EQ(started.count, count);
  }
};

TEST_F(StartedRankTest, IsWhatTheLauncherSays) {
  expect(0, 1);
  set("OMPI_COMM_WORLD_RANK", "2", "OMPI_COMM_WORLD_SIZE", "4");
  expect(2, 4);
  clear();
  set("PMI_RANK", "1", "PMI_SIZE", "3");
  expect(1, 3);
  clear();
  set("PMIX_RANK", "5", "SLURM_STEP_NUM_TASKS", "6");
  expect(5, 6);
}

TEST_F(StartedRankTest, IsAloneInAJobOfManyTasksThatWereNotStartedTogether) {
  setenv("SLURM_STEP_NUM_TASKS", "8", 1);  // as a batch script sees it
  expect(0, 1);
  clear();
  set("OMPI_COMM_WORLD_RANK", "0", "OMPI_COMM_WORLD_SIZE", "1");  // within a step of many
  set("PMI_RANK", "2", "PMI_SIZE", "4");
  expect(0, 1);
}

TEST_F(StartedRankTest, IsNotHandedToProgramsThatTrainAlone) {
  set("PMI_RANK", "1", "PMI_SIZE", "3");
  setenv("GRAFT_TEST_KEPT", "x", 1);
  bool has_kept = false;
  const std::vector<char*> environment = lone_environment();
  ASSERT_EQ(environment.back(), nullptr);
  for (std::size_t i = 0; i + 1 < environment.size(); ++i) {
    EXPECT_FALSE(std::string(environment[i]).starts_with("PMI_RANK="));
    has_kept = has_kept || std::string(environment[i]) == "GRAFT_TEST_KEPT=x";
  }
  EXPECT_TRUE(has_kept);
  unsetenv("GRAFT_TEST_KEPT");
}

TEST(Ranks, AreOneWithoutALauncher) {
  Ranks& alone = lone_rank();
  EXPECT_TRUE(alone.is_first());
  EXPECT_EQ(alone.count(), 1);
  double value = 3;
  alone.sum(std::span(&value, 1));
  EXPECT_EQ(value, 3);
  EXPECT_FALSE(alone.any(false));
  EXPECT_TRUE(alone.any(true));
  EXPECT_EQ(cores_of_rank(alone), usable_cores());
}

TEST(Ranks, ShareTheCoresOfAMachine) {
  testing::with_ranks(2, [](Ranks& ranks) { EXPECT_EQ(cores_of_rank(ranks), std::max(1, usable_cores() / 2)); });
}

TEST(Ranks, GatherWhatEachHas) {
  testing::with_ranks(3, [](Ranks& ranks) {
    const std::vector<int> own(std::size_t(ranks.rank()), ranks.rank());  // none, one, two
    EXPECT_EQ(gather_values<int>(ranks, own), (std::vector{1, 2, 2}));
    const std::string_view texts[] = {"ab", "ab", "abc"};
    EXPECT_EQ(first_to_differ(ranks, std::as_bytes(std::span(texts[ranks.rank()]))), 2);
    EXPECT_EQ(first_to_differ(ranks, std::as_bytes(std::span(texts[0]))), std::nullopt);
    EXPECT_TRUE(ranks.any(ranks.rank() == 2));
    EXPECT_FALSE(ranks.any(false));
  });
}

}  // namespace
}  // namespace graft
