// The plan of every strategy, epoch by epoch, on a small network's parameters: what trains, how batch norm behaves,
// rates and stages. That runs follow their plans is tested in train_test.cpp, the numbers in reference_test.cpp.
#include <gtest/gtest.h>

#include "strategies/strategy.h"
#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

using testing::contains;
using testing::error_of;

/// Two blocks of the backbone; the head shares its block with a norm and another linear layer.
class Plans : public ::testing::Test {
 protected:
  Plans() {
    add_layer("stem", 0);
    add_layer("layer1", 1);
    set_.add("norm.weight", {1, 4, 1, 1}, Role::norm_scale, 2);
    set_.add("norm.bias", {1, 4, 1, 1}, Role::norm_shift, 2);
    set_.add_statistics("norm", 4, 2);
    add_linear("fc1");
    add_linear("fc");
  }
  void add_layer(const std::string& name, int block) {
    set_.add(name + ".conv.weight", {4, 3, 3, 3}, Role::conv_weight, block);
    set_.add(name + ".bn.weight", {1, 4, 1, 1}, Role::norm_scale, block);
    set_.add(name + ".bn.bias", {1, 4, 1, 1}, Role::norm_shift, block);
    set_.add_statistics(name + ".bn", 4, block);
  }
  void add_linear(const std::string& name) {
    set_.add(name + ".weight", {4, 4, 1, 1}, Role::linear_weight, 2);
    set_.add(name + ".bias", {1, 4, 1, 1}, Role::bias, 2);
  }

  using Options = std::map<std::string, SettingValue>;
  std::unique_ptr<Strategy> make(const std::string& name, const Options& options = {}) const {
    TrainSettings settings;
    settings.strategy = name, settings.strategy_settings = options;
    return make_strategy(settings);
  }
  EpochPlan plan(Strategy& strategy, std::int64_t epoch, std::int64_t epochs) const {
    return strategy.plan({epoch, epochs, set_, blocks_});
  }
  EpochPlan plan(const std::string& name, std::int64_t epoch, std::int64_t epochs, const Options& options = {}) const {
    return plan(*make(name, options), epoch, epochs);
  }
  /// "stem layer1.conv": blocks or layers of which everything trains; a layer's kernel alone is shown as "x.weight".
  std::string trained(const EpochPlan& plan) const {
    std::string names;
    std::int64_t i = 0;
    for (const Parameter& p : set_.parameters())
      if (plan.freeze.trains(i++)) names += p.name.substr(0, p.name.find(".weight")) + " ";
    return names;
  }
  /// "B" batch and updated, "F" fixed, "?" neither; stem, layer1, norm.
  std::string norms(const EpochPlan& plan) const {
    std::string text;
    for (int i = 0; i < 3; ++i) {
      const NormSwitches n = plan.freeze.norm(i);
      text += n == kBatchNormTrains ? "B" : n == kBatchNormFixed ? "F" : "?";
    }
    return text;
  }

  ParameterSet set_;
  std::vector<std::string> blocks_{"stem", "layer1", "fc"};
  const std::string head_ = "fc fc.bias ", fc1_ = "fc1 fc1.bias ", norm_ = "norm norm.bias ",
                    stem_ = "stem.conv stem.bn stem.bn.bias ", layer1_ = "layer1.conv layer1.bn layer1.bn.bias ";
};

TEST_F(Plans, Full) {
  EXPECT_EQ(trained(plan("full", 0, 1)), stem_ + layer1_ + norm_ + fc1_ + head_);
  EXPECT_EQ(norms(plan("full", 0, 1)), "BBB");
  EXPECT_EQ(norms(plan("full", 0, 1, {{"batch_norm", std::string("running")}})), "FFF");
  const EpochPlan frozen = plan("full", 0, 1, {{"batch_norm", std::string("frozen")}});
  EXPECT_EQ(trained(frozen), "stem.conv layer1.conv " + fc1_ + head_);
  EXPECT_EQ(norms(frozen), "FFF");
}

TEST_F(Plans, LinearProbe) {
  EXPECT_EQ(trained(plan("linear-probe", 0, 1)), head_);
  EXPECT_EQ(norms(plan("linear-probe", 0, 1)), "FFF");
  EXPECT_EQ(trained(plan("linear-probe", 0, 1, {{"head", std::string("all")}})), fc1_ + head_);
  const EpochPlan updated = plan("linear-probe", 0, 1, {{"frozen_batch_norm", std::string("updated")}});
  EXPECT_EQ(trained(updated), head_);
  EXPECT_EQ(norms(updated), "BBB");
  EXPECT_EQ(trained(plan("linear-probe", 0, 1, {{"frozen_batch_norm", std::string("trained")}})),
            "stem.bn stem.bn.bias layer1.bn layer1.bn.bias " + norm_ + head_);
}

TEST_F(Plans, GradualUnfreezingTakesItsStagesInOrderAndGivesTheLastWhatIsLeftOver) {
  const auto strategy = make("gradual-last-first");
  for (std::int64_t epoch = 0; epoch < 8; ++epoch) {  // three stages of two epochs, and two over
    const EpochPlan p = plan(*strategy, epoch, 8);
    const std::string expected = epoch < 2   ? head_
                                 : epoch < 4 ? layer1_ + norm_ + fc1_ + head_
                                             : stem_ + layer1_ + norm_ + fc1_ + head_;
    EXPECT_EQ(trained(p), expected) << epoch;
    EXPECT_EQ(norms(p), epoch < 2 ? "FFF" : epoch < 4 ? "FBB" : "BBB") << epoch;
    EXPECT_EQ(p.may_stop_early, epoch >= 4) << epoch;
    EXPECT_EQ(p.block_lr_factors, (std::vector<double>{1, 1, 1}));
  }
  const auto first = make("gradual-first-last");
  EXPECT_EQ(trained(plan(*first, 0, 3)), head_);
  EXPECT_EQ(trained(plan(*first, 1, 3)), stem_ + norm_ + fc1_ + head_);
  EXPECT_EQ(norms(plan(*first, 1, 3)), "BFB");
  EXPECT_EQ(trained(plan(*first, 2, 3)), stem_ + layer1_ + norm_ + fc1_ + head_);
}

TEST_F(Plans, GradualUnfreezingOptions) {
  const Options ulmfit{{"stage_epochs", std::int64_t{1}}, {"lr_divisor", 2.0}};
  const auto strategy = make("gradual-last-first", ulmfit);
  EXPECT_EQ(trained(plan(*strategy, 0, 9)), head_);
  EXPECT_EQ(trained(plan(*strategy, 1, 9)), layer1_ + norm_ + fc1_ + head_);
  for (std::int64_t epoch = 2; epoch < 9; ++epoch) EXPECT_TRUE(plan(*strategy, epoch, 9).may_stop_early) << epoch;
  EXPECT_EQ(plan(*strategy, 2, 9).block_lr_factors, (std::vector<double>{0.25, 0.5, 1}));
  EXPECT_EQ(norms(plan("gradual-last-first", 0, 3, {{"frozen_batch_norm", std::string("updated")}})), "BBB");
  const auto frozen = make("gradual-last-first", {{"batch_norm", std::string("frozen")}});
  EXPECT_EQ(trained(plan(*frozen, 2, 3)), "stem.conv layer1.conv " + fc1_ + head_);
}

TEST_F(Plans, GradualUnfreezingNeedsAnEpochForEveryStage) {
  const std::string message = error_of([&] { plan("gradual-last-first", 0, 2); });
  EXPECT_TRUE(contains(message, "3 stages, which need at least 3 epochs, got 2; raise train.epochs")) << message;
  EXPECT_TRUE(contains(error_of([&] {
                         plan("gradual-first-last", 0, 6, {{"stage_epochs", std::int64_t{3}}});
                       }),
                       "at least 7 epochs, got 6; raise train.epochs or lower strategy.stage_epochs"));
}

TEST_F(Plans, AContinuedRunKeepsItsStagesWhenItsEpochsChange) {
  for (const char* name : {"gradual-last-first", "lp-ft"}) {
    const auto before = make(name);
    plan(*before, 0, 6);
    const auto after = make(name);
    after->restore(before->state());
    for (std::int64_t epoch = 0; epoch < 6; ++epoch)
      EXPECT_EQ(plan(*after, epoch, 60).freeze, plan(*before, epoch, 6).freeze) << name << epoch;
  }
}

TEST_F(Plans, LpFtProbesThenTunesFromTheBestHeadAtATenth) {
  const auto strategy = make("lp-ft");
  for (std::int64_t epoch = 0; epoch < 7; ++epoch) {
    const EpochPlan p = plan(*strategy, epoch, 7);
    EXPECT_EQ(trained(p), epoch < 2 ? head_ : stem_ + layer1_ + norm_ + fc1_ + head_) << epoch;
    EXPECT_EQ(norms(p), "FFF");
    EXPECT_EQ(p.lr_factor, epoch < 2 ? 1 : 0.1);
    EXPECT_EQ(p.schedule_begin, epoch < 2 ? 0 : 2);
    EXPECT_EQ(p.schedule_end, epoch < 2 ? 2 : -1);
    EXPECT_EQ(p.may_stop_early, epoch >= 2);
    EXPECT_EQ(p.starts_from_best, epoch == 2);
    EXPECT_EQ(p.resets_optimizer, epoch == 2);
  }
  EXPECT_EQ(norms(plan("lp-ft", 1, 2, {{"batch_norm", std::string("batch")}})), "BBB");
  EXPECT_EQ(trained(plan("lp-ft", 2, 4, {{"probe_epochs", std::int64_t{3}}})), head_);
  EXPECT_EQ(trained(plan("lp-ft", 0, 4, {{"head", std::string("all")}})), fc1_ + head_);
  EXPECT_TRUE(contains(error_of([&] { plan("lp-ft", 0, 1); }), "leave none for fine-tuning"));
}

TEST_F(Plans, DiscriminativeRatesFallFromBlockToBlock) {
  const EpochPlan p = plan("discriminative", 0, 1);
  EXPECT_EQ(trained(p), stem_ + layer1_ + norm_ + fc1_ + head_);
  EXPECT_EQ(p.block_lr_factors, (std::vector<double>{1 / 2.6 / 2.6, 1 / 2.6, 1}));
}

// CONTRIBUTING.md promises that a strategy takes under 40 lines, and names these.
TEST(StrategyFiles, ExamplesAreUnder40Lines) {
  for (const char* name : {"bn_only.cpp", "full.cpp", "linear_probe.cpp"}) {
    const std::string text = read_text(std::filesystem::path(GRAFT_SOURCE_DIR) / "strategies" / name);
    EXPECT_LT(std::ranges::count(text, '\n'), 40) << name;
  }
}

TEST_F(Plans, BnOnlyTrainsNormsAndHead) {
  const std::string norms_and_head = "stem.bn stem.bn.bias layer1.bn layer1.bn.bias " + norm_ + head_;
  EXPECT_EQ(trained(plan("bn-only", 0, 1)), norms_and_head);
  EXPECT_EQ(norms(plan("bn-only", 0, 1)), "BBB");
  EXPECT_EQ(norms(plan("bn-only", 0, 1, {{"statistics", std::string("running")}})), "FFF");
}

}  // namespace
}  // namespace graft
