// environment.json with what the device chose.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "strategies/run_directory.h"

namespace graft {
namespace {

TEST(Environment, TakesUpThePlansOfTheDevice) {
  const std::string before =
      environment_json({.device_description = "cuda:0", .command_line = "graft train", .seed = 3});
  const std::string once = with_plans(before, {"conv a: eng1", "conv \xff b: eng2"});
  const auto j = nlohmann::json::parse(once);
  EXPECT_EQ(j["plans"].size(), 2u);
  EXPECT_EQ(j["plans"][0], "conv a: eng1");
  EXPECT_EQ(j["seed"], 3);
  EXPECT_EQ(j["device"], "cuda:0");
  const auto again = nlohmann::json::parse(with_plans(once, {"conv c: eng3"}));  // a resumed run
  EXPECT_EQ(again["plans"], (nlohmann::json{"conv c: eng3"}));
}

TEST(Environment, LeavesAFileThatIsNoJsonAlone) {
  for (const char* text : {"", "{\"a\": ", "[1]"}) EXPECT_EQ(with_plans(text, {"conv"}), text);
}

}  // namespace
}  // namespace graft
