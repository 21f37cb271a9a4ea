#include "strategies/training/run_clock.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

void wait() { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }

TEST(RunClock, CountsEveryMomentForTheInnermostPart) {
  const auto begin = std::chrono::steady_clock::now();
  RunClock clock;
  for (int time = 0; time < 2; ++time) {
    const RunClock::Part training(clock, "training");
    wait();
    {
      const RunClock::Part saving(clock, "saving");
      wait();
    }
    EXPECT_GE(clock.seconds().at("training"), 0.02 * (time + 1)) << "up to now";
  }
  wait();
  const std::map<std::string, double> seconds = clock.seconds();
  const double all = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  ASSERT_EQ(seconds.size(), 3u);
  EXPECT_GE(seconds.at("training"), 0.04);
  EXPECT_GE(seconds.at("saving"), 0.04);
  EXPECT_GE(seconds.at("other"), 0.02);
  const double sum = seconds.at("training") + seconds.at("saving") + seconds.at("other");
  EXPECT_LE(sum, all);
  EXPECT_GE(seconds.at("training"), all - sum) << "nothing is left out";
}

TEST(RunClock, TellsTheSummaryOfARunWhereItsTimeWent) {
  testing::TemporaryFolder folder;
  const auto begin = std::chrono::steady_clock::now();
  const testing::Ran ran = testing::run(testing::short_run(folder / "run"));
  const double all = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const auto seconds = nlohmann::json::parse(read_text(folder / "run" / "summary.json")).at("seconds");
  EXPECT_EQ(seconds, nlohmann::json(ran.result.seconds));
  double sum = 0;
  for (const char* part :
       {"images", "model", "features", "training", "validation", "saving", "proof", "test", "other"}) {
    ASSERT_TRUE(seconds.contains(part)) << part;
    EXPECT_GT(seconds.at(part), 0) << part;
    sum += seconds.at(part).get<double>();
  }
  EXPECT_EQ(seconds.size(), 9u);
  EXPECT_LE(sum, all);
}

}  // namespace
}  // namespace graft
