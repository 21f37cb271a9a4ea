// Freeze plans on real networks' parameters, their table, and the proof by hash.
#include <gtest/gtest.h>

#include "strategies/analysis/truth_table.h"
#include "strategies/training/frozen_proof.h"
#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

using testing::contains;
using testing::error_of;

struct Small {
  Small() : context(make_backend({DeviceKind::cpu}, {.threads = 1})) {
    set.add("conv1.weight", {4, 3, 3, 3}, Role::conv_weight, 0);
    set.add("bn1.weight", {1, 4, 1, 1}, Role::norm_scale, 0);
    set.add("bn1.bias", {1, 4, 1, 1}, Role::norm_shift, 0);
    set.add_statistics("bn1", 4, 0);
    set.add("fc1.weight", {5, 4, 1, 1}, Role::linear_weight, 1);
    set.add("fc1.bias", {1, 5, 1, 1}, Role::bias, 1);
    set.add("fc2.weight", {2, 5, 1, 1}, Role::linear_weight, 1);
    set.add("fc2.bias", {1, 2, 1, 1}, Role::bias, 1);
    set.allocate(context);
  }
  std::string trained(const FreezePlan& plan) const {
    std::string names;
    std::int64_t i = 0;
    for (const Parameter& p : set.parameters())
      if (plan.trains(i++)) names += p.name + " ";
    return names;
  }
  Context context;
  ParameterSet set;
};

TEST(FreezePlan, SelectsHeadBlockAndPattern) {
  const Small s;
  FreezePlan plan = FreezePlan::frozen(s.set);
  EXPECT_EQ(s.trained(plan), "");
  EXPECT_FALSE(plan.uses_batch_statistics());
  plan.train_head(s.set);
  EXPECT_EQ(s.trained(plan), "fc2.weight fc2.bias ");
  plan.train_head(s.set, HeadPart::all_linear);
  EXPECT_EQ(s.trained(plan), "fc1.weight fc1.bias fc2.weight fc2.bias ");
  FreezePlan block = FreezePlan::frozen(s.set);
  block.train_block(s.set, 0);
  EXPECT_EQ(s.trained(block), "conv1.weight bn1.weight bn1.bias ");
  EXPECT_TRUE(block.uses_batch_statistics());
  FreezePlan pattern = FreezePlan::frozen(s.set);
  EXPECT_EQ(pattern.set_trains(s.set, {.name = "*.bias"}, true), 3);
  EXPECT_EQ(s.trained(pattern), "bn1.bias fc1.bias fc2.bias ");
  EXPECT_EQ(pattern.set_trains(s.set, {.name = "fc?.w*"}, true), 2);
}

TEST(FreezePlan, EverySwitchIsSelectedByBlockNameAndLayerType) {
  const Small s;
  FreezePlan plan = FreezePlan::frozen(s.set);
  EXPECT_EQ(plan.set_trains(s.set, {.type = LayerType::batch_norm}, true), 2);
  EXPECT_EQ(s.trained(plan), "bn1.weight bn1.bias ");
  EXPECT_EQ(plan.set_trains(s.set, {.type = LayerType::linear}, true), 4);  // biases belong to their layer's type
  EXPECT_EQ(plan.set_trains(s.set, {.block = 1, .name = "*.bias"}, false), 2);
  EXPECT_EQ(s.trained(plan), "bn1.weight bn1.bias fc1.weight fc2.weight ");
  EXPECT_EQ(plan.set_trains(s.set, {.block = 1, .type = LayerType::convolution}, true), 0);
  EXPECT_EQ(plan.norm(0), kBatchNormFixed);  // the switches are independent
  EXPECT_EQ(plan.set_norms(s.set, {.block = 1}, kBatchNormTrains), 0);
  EXPECT_EQ(plan.set_norms(s.set, {.type = LayerType::linear}, kBatchNormTrains), 0);
  EXPECT_EQ(plan.set_norms(s.set, {.name = "bn?"}, {.uses_batch_statistics = false, .updates_running = true}), 1);
  EXPECT_EQ(plan.norm(0), (NormSwitches{false, true}));
  EXPECT_EQ(block_index({"stem", "layer1", "fc"}, "layer1"), 1);
  EXPECT_TRUE(contains(error_of([] { block_index({"stem", "layer1"}, "layer2"); }), "did you mean 'layer1'"));
}

TEST(FreezePlan, ApplySetsTheThreeSwitchesAndLaysOutGradients) {
  Small s;
  FreezePlan plan = FreezePlan::frozen(s.set);
  plan.train_head(s.set);
  EXPECT_TRUE(plan.apply(s.set));
  EXPECT_FALSE(plan.apply(s.set));
  EXPECT_FALSE(s.set.find("conv1.weight").is_trainable);
  EXPECT_TRUE(s.set.find("fc2.weight").is_trainable);
  EXPECT_FALSE(s.set.statistics()[0].use_batch_statistics);
  EXPECT_FALSE(s.set.statistics()[0].update_running);
  EXPECT_THROW(s.set.find("conv1.weight").gradient(), Error);
  plan.set_all_norms({true, false});
  EXPECT_FALSE(plan.apply(s.set));  // the switches are independent
  EXPECT_TRUE(s.set.statistics()[0].use_batch_statistics);
  EXPECT_FALSE(s.set.statistics()[0].update_running);
}

TEST(FreezePlan, FreezesOutputChannelsOfWhatItSelects) {
  Small s;
  FreezePlan plan = FreezePlan::trainable(s.set);
  const FreezePlan whole = plan;
  const std::vector<ChannelRange> channels{{0, 1}, {3, 3}};
  EXPECT_EQ(plan.freeze_channels(s.set, {.block = 0}, channels), 3);
  EXPECT_FALSE(plan == whole);
  EXPECT_EQ(plan.channel_mask(0), (std::vector<std::uint32_t>{0b0100}));
  EXPECT_EQ(plan.channel_mask(2), (std::vector<std::uint32_t>{0b0100}));  // of a vector the elements
  EXPECT_TRUE(plan.channel_mask(3).empty());
  EXPECT_FALSE(plan.apply(s.set));  // the same parameters train
  EXPECT_EQ(s.set.find("bn1.bias").row_mask, (std::vector<std::uint32_t>{0b0100}));
  // What has no channel left does not train at all; what is frozen as a whole needs no mask.
  plan.freeze_channels(s.set, {.name = "conv1.weight"}, std::vector<ChannelRange>{{2, 2}});
  plan.set_trains(s.set, {.name = "bn1.bias"}, false);
  EXPECT_EQ(s.trained(plan), "bn1.weight fc1.weight fc1.bias fc2.weight fc2.bias ");
  EXPECT_TRUE(plan.apply(s.set));
  EXPECT_TRUE(s.set.find("bn1.bias").row_mask.empty());
  EXPECT_FALSE(s.set.find("conv1.weight").is_trainable);
  whole.apply(s.set);
  EXPECT_TRUE(s.set.find("bn1.weight").row_mask.empty());
  const auto message = [&](ChannelRange range) {
    return error_of([&] { plan.freeze_channels(s.set, {.name = "fc?.weight"}, std::vector{range}); });
  };
  EXPECT_EQ(message({2, 3}), "there is no channel 2 in fc2.weight, whose output channels are 0-1");
  EXPECT_TRUE(contains(message({1, 0}), "channels 1-0 are none"));
}

TEST(TruthTable, SaysWhatTrainsAndThenWhatAStageChanges) {
  const Small s;
  const std::vector<std::string> blocks{"stem", "fc"};
  EpochPlan plan{.freeze = FreezePlan::frozen(s.set), .lr_factor = 0.5, .block_lr_factors = {0.125, 0.5}};
  plan.freeze.train_head(s.set);
  const auto table = [&] {
    return truth_table({.parameters = s.set, .block_names = blocks, .plan = plan, .lr = 0.5, .weight_decay = 0.25});
  };
  const std::string first = table();
  EXPECT_TRUE(
      contains(first, "stem                      0          116  running, fixed                    -          -"))
      << first;
  EXPECT_TRUE(
      contains(first, "fc                       12           37  -                             0.125       0.25"))
      << first;
  EXPECT_EQ(changed_lines(first, ""), first);
  plan.freeze.train_block(s.set, 0);
  const std::string changes = changed_lines(table(), first);
  EXPECT_TRUE(
      contains(changes, "stem                    116          116  batch, updated              0.03125       0.25"))
      << changes;
  EXPECT_TRUE(contains(changes, "trainable"));
  EXPECT_FALSE(contains(changes, "fc ")) << changes;
  EXPECT_FALSE(contains(changes, "frozen channels"));
  plan.freeze.freeze_channels(s.set, {.name = "conv1.weight"}, std::vector<ChannelRange>{{1, 3}});
  plan.freeze.freeze_channels(s.set, {.name = "fc1.weight"}, std::vector<ChannelRange>{{0, 2}});  // frozen as a whole
  EXPECT_TRUE(contains(table(), "decay  frozen channels\n")) << table();
  EXPECT_TRUE(contains(
      table(),
      "stem                     35          116  batch, updated              0.03125       0.25          3 of 12"))
      << table();
  EXPECT_TRUE(contains(
      table(),
      "fc                       12           37  -                             0.125       0.25           0 of 4"))
      << table();
}

TEST(FrozenProof, NoticesOneBitInAWeightOrAStatistic) {
  Small s;
  FreezePlan plan = FreezePlan::frozen(s.set);
  plan.train_head(s.set);
  plan.apply(s.set);
  const FrozenProof proof = FrozenProof::take(s.set);
  EXPECT_EQ(proof.tensors(), 6);  // five parameters, one pair of statistics
  EXPECT_NO_THROW(proof.verify(s.set));
  s.set.find("fc2.bias").value.from_host(std::vector<double>{1, 2});  // trains
  EXPECT_NO_THROW(proof.verify(s.set));
  std::vector<double> values(20, 0.0);
  values[7] = 1e-45;  // the last bit of a float
  s.set.find("fc1.weight").value.from_host(values);
  EXPECT_TRUE(contains(error_of([&] { proof.verify(s.set); }), "fc1.weight"));
  s.set.find("fc1.weight").value.from_host(std::vector<double>(20, 0.0));
  EXPECT_NO_THROW(proof.verify(s.set));
  s.set.statistics()[0].value.from_host(std::vector<double>{0, 0, 0, 0, 1, 1, 1, 1.0000001});
  EXPECT_TRUE(contains(error_of([&] { proof.verify(s.set); }), "bn1 statistics"));
}

TEST(FrozenProof, WatchesMaskedRows) {
  Small s;
  FreezePlan::trainable(s.set).apply(s.set);
  s.set.find("fc2.weight").row_mask = {0b01};  // row 0 trains
  const FrozenProof proof = FrozenProof::take(s.set);
  std::vector<double> values(10, 0.0);
  values[4] = 3;
  s.set.find("fc2.weight").value.from_host(values);
  EXPECT_NO_THROW(proof.verify(s.set));
  EXPECT_EQ(proof.channels(), 1);
  values[5] = 3;
  s.set.find("fc2.weight").value.from_host(values);
  EXPECT_TRUE(contains(error_of([&] { proof.verify(s.set); }), "fc2.weight channels"));
}

}  // namespace
}  // namespace graft
