// Chosen plans on disk: found again by graph, GPU and cuDNN version; nothing in the file is trusted.
#include "kernels/cuda/plan_cache.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

namespace graft {
namespace {

namespace fs = std::filesystem;

class PlanCacheTest : public testing::Test {
 protected:
  PlanCacheTest()
      : folder_(fs::temp_directory_path() / ("graft_plan_cache_" + std::to_string(getpid()) + "_" +
                                             testing::UnitTest::GetInstance()->current_test_info()->name())),
        file_(folder_ / "below" / "cudnn_plans.tsv") {
    fs::remove_all(folder_);
  }
  ~PlanCacheTest() override { fs::remove_all(folder_); }

  PlanCache open(const std::string& device = "H100", const std::string& cudnn = "9.19.0") const {
    return PlanCache(file_, device, cudnn);
  }
  std::string text() const {
    std::ifstream file(file_);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void write(const std::string& text) const {
    fs::create_directories(file_.parent_path());
    std::ofstream(file_) << text;
  }

  const fs::path folder_, file_;
};

PlanRecord record(const std::string& graph, const std::string& plan) {
  return {.graph = graph,
          .plan = plan,
          .workspace_bytes = 4096,
          .microseconds = 12.5,
          .source = "timed",
          .checked_against = "eng9",
          .difference = 0.25,
          .note = {}};
}

TEST_F(PlanCacheTest, FindsWhatAnEarlierProcessAdded) {
  {
    PlanCache cache = open();
    EXPECT_EQ(cache.find("conv a"), nullptr);
    cache.add(record("conv a", "eng1_k2=4"));
    EXPECT_EQ(cache.note(), "");
  }
  PlanCache cache = open();
  const PlanRecord* found = cache.find("conv a");
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->plan, "eng1_k2=4");
  EXPECT_EQ(found->workspace_bytes, 4096);
  EXPECT_DOUBLE_EQ(found->microseconds, 12.5);
  EXPECT_EQ(found->checked_against, "eng9");
  EXPECT_DOUBLE_EQ(found->difference, 0.25);
  EXPECT_EQ(found->source, "cached");
  EXPECT_EQ(cache.find("conv b"), nullptr);
  EXPECT_EQ(cache.note(), "");
}

TEST_F(PlanCacheTest, KeepsGpusAndVersionsApart) {
  open().add(record("conv a", "eng1"));
  open("A100").add(record("conv a", "eng2"));
  open("H100", "9.20.0").add(record("conv a", "eng3"));
  EXPECT_EQ(open().find("conv a")->plan, "eng1");
  EXPECT_EQ(open("A100").find("conv a")->plan, "eng2");
  EXPECT_EQ(open("H100", "9.20.0").find("conv a")->plan, "eng3");
  EXPECT_EQ(open("A100", "9.20.0").find("conv a"), nullptr);
}

TEST_F(PlanCacheTest, TwoProcessesLoseNothingOfEachOther) {
  PlanCache first = open(), second = open();
  first.add(record("conv a", "eng1"));
  second.add(record("conv b", "eng2"));
  PlanCache later = open();
  EXPECT_NE(later.find("conv a"), nullptr);
  EXPECT_NE(later.find("conv b"), nullptr);
}

TEST_F(PlanCacheTest, LeavesDamagedLinesOutAndSaysSo) {
  PlanCache cache = open();
  cache.add(record("conv a", "eng1"));
  cache.add(record("conv b", "eng2"));
  std::string damaged = text();
  damaged.insert(damaged.find("4096"), "x");  // a number that is none
  damaged +=
      "H100\t9.19.0\tconv c\teng3\t-1\t1\t\t0\n"  // a workspace that cannot be
      "H100\t9.19.0\tconv d\t\t0\t1\t\t0\n"       // no plan
      "H100\t9.19.0\tconv e\teng5\t0\t1\n"        // cut off
      "\xff\x00\x01\n";
  write(damaged);
  PlanCache reopened = open();
  EXPECT_EQ(reopened.find("conv a"), nullptr);
  ASSERT_NE(reopened.find("conv b"), nullptr);
  for (const char* graph : {"conv c", "conv d", "conv e"}) EXPECT_EQ(reopened.find(graph), nullptr) << graph;
  EXPECT_NE(reopened.note().find("5 damaged lines"), std::string::npos) << reopened.note();
  reopened.add(record("conv a", "eng6"));
  EXPECT_EQ(open().note(), "");  // written anew without them
  EXPECT_EQ(open().find("conv a")->plan, "eng6");
}

TEST_F(PlanCacheTest, ReplacesAFileThatIsNotOurs) {
  write("once upon a time\nH100\t9.19.0\tconv a\teng1\t0\t1\t\t0\n");
  PlanCache cache = open();
  EXPECT_EQ(cache.find("conv a"), nullptr);
  EXPECT_NE(cache.note().find("not a list of plans"), std::string::npos) << cache.note();
  cache.add(record("conv a", "eng2"));
  EXPECT_EQ(open().find("conv a")->plan, "eng2");
  EXPECT_EQ(open().note(), "");
}

TEST_F(PlanCacheTest, AFileCutAnywhereIsReadAsFarAsItIsWhole) {
  PlanCache cache = open();
  for (const char* graph : {"conv a", "conv b", "conv c"}) cache.add(record(graph, "eng1_k2=4_k18=0"));
  const std::string whole = text();
  for (std::size_t size = 0; size <= whole.size(); ++size) {
    write(whole.substr(0, size));
    const PlanCache cut = open();
    for (const char* graph : {"conv a", "conv b", "conv c"})
      if (const PlanRecord* found = cut.find(graph)) {
        EXPECT_EQ(found->plan, "eng1_k2=4_k18=0") << size;
      }
  }
}

TEST_F(PlanCacheTest, SaysOnceThatItCannotWrite) {
  write("");
  fs::remove_all(file_);
  fs::create_directories(file_ / "in the way");  // a folder where the file should be
  PlanCache cache = open();
  cache.add(record("conv a", "eng1"));
  EXPECT_NE(cache.note().find("cannot be written"), std::string::npos) << cache.note();
  cache.add(record("conv b", "eng2"));
  EXPECT_NE(cache.find("conv a"), nullptr);  // in memory
  EXPECT_NE(cache.find("conv b"), nullptr);
  EXPECT_EQ(std::distance(fs::directory_iterator(file_.parent_path()), {}), 1);  // no part of a file stays
}

TEST_F(PlanCacheTest, WithoutAPathItTouchesNoFile) {
  PlanCache cache({}, "H100", "9.19.0");
  cache.add(record("conv a", "eng1"));
  EXPECT_NE(cache.find("conv a"), nullptr);
  EXPECT_EQ(cache.note(), "");
}

TEST_F(PlanCacheTest, TabsInNamesCannotBreakALine) {
  PlanCache cache = open("H\t100\n");
  cache.add(record("conv\ta", "eng1"));
  EXPECT_NE(open("H\t100\n").find("conv\ta"), nullptr);
}

TEST(DefaultPlanCache, FollowsTheUsersCacheDirectory) {
  const char* before = std::getenv("XDG_CACHE_HOME");
  const std::string kept = before ? before : "";
  setenv("XDG_CACHE_HOME", "/somewhere", 1);
  EXPECT_EQ(default_plan_cache(), "/somewhere/graft/cudnn_plans.tsv");
  unsetenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  if (home && *home) {
    EXPECT_EQ(default_plan_cache(), fs::path(home) / ".cache/graft/cudnn_plans.tsv");
  }
  if (before) setenv("XDG_CACHE_HOME", kept.c_str(), 1);
}

}  // namespace
}  // namespace graft
