// environment.json with what the device chose.
#include "strategies/training/environment.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "kernels/observed_backend.h"
#include "strategies/training/run_directory.h"
#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

TEST(Environment, TakesUpThePlansOfTheDevice) {
  const std::string before =
      environment_json({.device_description = "cuda:0", .command_line = "graft train", .seed = 3});
  EXPECT_TRUE(plans_of(before).lines.empty());
  const std::string once = with_plans(before, {"cuda:0, GPU A, 80 GiB", {"conv a: eng1", "conv \xff b: eng2"}});
  const auto j = nlohmann::json::parse(once);
  EXPECT_EQ(j["plans"].size(), 2u);
  EXPECT_EQ(j["plans"][0], "conv a: eng1");
  EXPECT_EQ(j["seed"], 3);
  EXPECT_EQ(j["device"], "cuda:0");
  EXPECT_EQ(plans_of(once).device, "cuda:0, GPU A, 80 GiB");
  EXPECT_EQ(plans_of(once).lines.size(), 2u);
}

TEST(Environment, KeepsThePlansOfConvolutionsThatAContinuedRunDidNotMeet) {
  const std::string once = with_plans("{}", {"cuda:0, GPU A", {"conv a: eng1, timed", "conv b: eng2, timed"}});
  const UsedPlans again = plans_of(with_plans(once, {"cuda:1, GPU A", {"conv b: eng3, timed", "conv c: eng4, timed"}}));
  EXPECT_EQ(again.device, "cuda:1, GPU A");
  EXPECT_EQ(again.lines,
            (std::vector<std::string>{"conv b: eng3, timed", "conv c: eng4, timed", "conv a: eng1, timed"}));
  const UsedPlans elsewhere = plans_of(with_plans(once, {"cuda:0, GPU B", {"conv c: eng4, timed"}}));
  EXPECT_EQ(elsewhere.lines, (std::vector<std::string>{"conv c: eng4, timed"}));
}

TEST(Environment, DevicesAreAlikeButForTheirNumber) {
  EXPECT_TRUE(are_alike("cuda:0, GPU A, cuDNN 9.19.0", "cuda:3, GPU A, cuDNN 9.19.0"));
  EXPECT_FALSE(are_alike("cuda:0, GPU A, cuDNN 9.19.0", "cuda:0, GPU A, cuDNN 9.20.0"));
  EXPECT_FALSE(are_alike("cuda:0, GPU A", "cpu, AVX2"));
  EXPECT_FALSE(are_alike("", "cpu, AVX2"));
  EXPECT_TRUE(plans_of(R"({"plans": [1], "plans_device": "a"})").lines.empty());
}

/// The CPU in the guise of a GPU that has plans.
class PlanningDevice final : public ObservedBackend {
 public:
  PlanningDevice(std::string description, std::vector<std::string> plans)
      : ObservedBackend(make_backend({DeviceKind::cpu}, {.threads = 2}), observer_),
        description_(std::move(description)),
        plans_(std::move(plans)) {}
  std::string description() const override { return description_; }
  std::vector<std::string> plans() const override { return plans_; }
  void prefer_plans(const std::vector<std::string>& lines) override { preferred = lines; }
  void conv(const ConvSpec& spec, View y, ConstView x, WeightView w, const ConvEpilogue& epilogue) override {
    if (!preferred_at_first_conv) preferred_at_first_conv = preferred;
    ObservedBackend::conv(spec, y, x, w, epilogue);
  }

  std::vector<std::string> preferred;
  std::optional<std::vector<std::string>> preferred_at_first_conv;

 private:
  DeviceObserver observer_;
  std::string description_;
  std::vector<std::string> plans_;
};

TEST(Environment, ARunThatContinuesGivesItsPlansToTheDevice) {
  testing::TemporaryFolder folder;
  TrainSettings s = testing::short_run(folder / "run", "full");
  s.max_steps = 1;
  using Lines = std::vector<std::string>;
  /// What the device was asked to prefer before it computed anything, and what the user was told.
  const auto continue_on = [&](const char* description, const Lines& plans) {
    auto device = std::make_unique<PlanningDevice>(description, plans);
    PlanningDevice& seen = *device;
    Context context(std::move(device));
    testing::RecordingSink sink;
    train(context, s, {.config_toml = "", .command_line = ""}, sink);
    s.resume = true, ++s.max_steps;
    return std::pair(seen.preferred_at_first_conv.value(), sink.notes);
  };
  const Lines first{"conv a: eng1, timed", "conv b: eng2, timed"};
  EXPECT_EQ(continue_on("cuda:0, GPU A", first).first, Lines{});
  EXPECT_EQ(continue_on("cuda:1, GPU A", {"conv b: eng2, recorded"}).first, first);
  const auto [preferred, notes] = continue_on("cuda:0, GPU B", {"conv a: eng5, timed"});
  EXPECT_EQ(preferred, Lines{});
  EXPECT_TRUE(testing::contains(notes, "used cuda:1, GPU A so far; on cuda:0, GPU B its results may differ")) << notes;
  EXPECT_EQ(continue_on("cuda:0, GPU B", {}).first, Lines{"conv a: eng5, timed"});
}

TEST(Environment, LeavesAFileThatIsNoJsonAlone) {
  for (const char* text : {"", "{\"a\": ", "[1]"}) EXPECT_EQ(with_plans(text, {"cuda:0", {"conv"}}), text);
}

}  // namespace
}  // namespace graft
