// train.freeze_channels: how it is read, and that whole runs leave those channels alone.
#include <algorithm>

#include "strategies/frozen_channels.h"
#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

using testing::contains;
using testing::error_of;
using testing::Ran;
using testing::run;
using testing::short_run;
using testing::TemporaryFolder;

TEST(FrozenChannels, ReadsPatternsAndRangesAndNamesMistakes) {
  const std::vector<FrozenChannels> all = parse_frozen_channels(" layer1.*.weight = 0-15, 20 ;fc.bias=3");
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].pattern, "layer1.*.weight");
  ASSERT_EQ(all[0].channels.size(), 2u);
  EXPECT_EQ(all[0].channels[0].last, 15);
  EXPECT_EQ(all[0].channels[1].first, 20);
  EXPECT_EQ(all[1].channels[0].last, 3);
  EXPECT_TRUE(parse_frozen_channels("").empty());
  for (const char* bad : {"layer1", "=3", "fc.*=", "fc.*=a", "fc.*=1-", "fc.*=-1", "fc.*=1,,2", "fc.*=1;", "fc.*=1.5",
                          "fc.*=99999999999999999999"})
    EXPECT_TRUE(contains(error_of([&] { parse_frozen_channels(bad); }), "expects PATTERN=CHANNELS, such as")) << bad;
  EXPECT_TRUE(contains(error_of([] { parse_frozen_channels("fc.*=7-3"); }), "ends before it begins"));
  Context context(make_backend({DeviceKind::cpu}, {.threads = 1}));
  ParameterSet set;
  set.add("conv1.weight", {4, 3, 3, 3}, Role::conv_weight, 0);
  set.add("fc1.weight", {5, 4, 1, 1}, Role::linear_weight, 1);
  set.add("fc2.weight", {2, 5, 1, 1}, Role::linear_weight, 1);
  set.allocate(context);
  const auto message = [&](std::string_view text) {
    FreezePlan plan = FreezePlan::trainable(set);
    return error_of([&] { freeze_channels(plan, set, parse_frozen_channels(text)); });
  };
  EXPECT_TRUE(
      contains(message("fc1.*=0; layer9.*=1"), "no parameter matches 'layer9.*'; names are like 'conv1.weight'"));
  EXPECT_TRUE(contains(message("fc*.weight=0-4"), "fc*.weight: there is no channel 2 in fc2.weight"))
      << message("fc*.weight=0-4");
  EXPECT_TRUE(contains(message("conv1.*=0-3; fc1.*=0-4; fc2.*=0-1"), "nothing is left to train"));
}

constexpr const char* kFrozen =
    "features.conv0.weight=3; features.norm0.*=5-9,63; features.denseblock1.denselayer1.*=0-15,20; classifier.*=1";

/// The channels of kFrozen, by hand.
bool is_frozen(const std::string& tensor, std::int64_t channel) {
  if (contains(tensor, "running_")) return false;
  if (tensor == "features.conv0.weight") return channel == 3;
  if (contains(tensor, "features.norm0.")) return (channel >= 5 && channel <= 9) || channel == 63;
  if (contains(tensor, "features.denseblock1.denselayer1.")) return channel <= 15 || channel == 20;
  return contains(tensor, "classifier.") && channel == 1;
}

/// Runs `s` without a step and with some, and compares the weights that both leave, channel by channel.
Ran expect_frozen_channels_stay(TrainSettings s) {
  TemporaryFolder folder;
  s.freeze_channels = kFrozen, s.threads = 2, s.batch = 6, s.max_steps = 0;
  s.output = (folder / "start").string();
  run(s);
  s.output = (folder / "run").string(), s.max_steps = 3;
  Ran ran = run(s);
  const WeightTable start = read_model_file(folder / "start" / "last.h5").weights,
                    end = read_model_file(folder / "run" / "last.h5").weights;
  for (const WeightTensor& before : start.tensors()) {
    const WeightTensor& after = end.at(before.name);
    const std::int64_t channels = before.shape.at(0), row = std::ssize(before.values) / channels;
    std::int64_t moved = 0, frozen = 0;
    for (std::int64_t k = 0; k < channels; ++k) {
      const bool is_same = std::equal(before.values.begin() + k * row, before.values.begin() + (k + 1) * row,
                                      after.values.begin() + k * row);
      if (is_frozen(before.name, k)) {
        EXPECT_TRUE(is_same) << before.name << " channel " << k;
        ++frozen;
      }
      moved += !is_same;
    }
    if (frozen > 0) {
      EXPECT_GT(moved, 0) << before.name << ": its other channels train";
    }
  }
  return ran;
}

TEST(FrozenChannels, StayWithDecayAndMomentum) {
  TrainSettings s = short_run("", "full");
  s.optimizer = "sgd", s.nesterov = true, s.weight_decay = 0.1, s.clip_norm = 1;
  const Ran ran = expect_frozen_channels_stay(s);
  // conv0 1, norm0 two times 6, the layer's six tensors 17 each, the head's two 1 each.
  EXPECT_TRUE(contains(ran.sink.notes, "(with 117 channels of tensors that train; SHA-256, 1 comparison)"))
      << ran.sink.notes;
  EXPECT_TRUE(contains(ran.sink.notes, "frozen channels")) << ran.sink.notes;
  EXPECT_TRUE(contains(ran.sink.notes, " 13 of 192\n")) << ran.sink.notes;  // the stem's three tensors of 64
  const auto frozen = nlohmann::json::parse(ran.result.summary_json).at("frozen");
  EXPECT_EQ(frozen.at("tensors").get<int>(), 11);
  EXPECT_TRUE(frozen.at("unchanged").get<bool>());
}

TEST(FrozenChannels, StayUnderPenaltiesBesideTheUpdate) {
  TrainSettings s = short_run("", "l2-sp");
  s.strategy_settings = {{"tensors", std::string("all")}, {"mode", std::string("decoupled")}, {"alpha", 0.5}};
  s.optimizer = "adamw", s.weight_decay = 0.5;
  expect_frozen_channels_stay(s);
  s = short_run("", "l1-sp");
  s.strategy_settings = {{"mode", std::string("proximal")}, {"alpha", 0.1}, {"beta", 0.5}};
  expect_frozen_channels_stay(s);
}

TEST(FrozenChannels, StayWhenRatesAreMeasured) {
  for (const char* every : {"epoch", "step"}) {
    TrainSettings s = short_run("", "auto-rgn");
    s.strategy_settings = {{"every", std::string(every)}, {"norm_tensors", std::string("included")}};
    s.weight_decay = 0.1;
    expect_frozen_channels_stay(s);
  }
}

TEST(FrozenChannels, OfAConvolutionStayWhenLowRankChangesTrain) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run", "lora");
  s.freeze_channels = "features.conv0.weight=0-15", s.weight_decay = 0.1;
  s.strategy_settings = {{"layers", std::string("features.conv0")}};
  run(s);
  const WeightTable start = read_model_file(s.weights).weights,
                    end = read_model_file(folder / "run" / "last.h5").weights;
  const auto &before = start.at("features.conv0.weight").values, &after = end.at("features.conv0.weight").values;
  const std::ptrdiff_t row = std::ssize(before) / 64;
  EXPECT_TRUE(std::equal(before.begin(), before.begin() + 16 * row, after.begin()));
  for (std::ptrdiff_t k = 16; k < 64; ++k)
    EXPECT_FALSE(std::equal(before.begin() + k * row, before.begin() + (k + 1) * row, after.begin() + k * row)) << k;
}

TEST(FrozenChannels, ARunWhosePatternsFitNothingWritesNothing) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run", "full");
  s.freeze_channels = "layer1.*=0";
  EXPECT_TRUE(contains(error_of([&] { run(s); }), "no parameter matches 'layer1.*'"));
  s.freeze_channels = "features.conv0.weight=64";
  EXPECT_TRUE(contains(error_of([&] { run(s); }), "no channel 64 in features.conv0.weight, whose output channels are"));
  s.freeze_channels = "features.conv0.weight";
  EXPECT_TRUE(contains(error_of([&] { run(s); }), "expects PATTERN=CHANNELS"));
  EXPECT_FALSE(std::filesystem::exists(folder / "run"));
}

}  // namespace
}  // namespace graft
