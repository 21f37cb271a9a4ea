// What Auto-RGN and Auto-SNR make of gradients, by hand; penalties of L1-SP and L2-SP. Whole runs: reference_test.cpp.
#include <gtest/gtest.h>

#include <cmath>

#include "strategies/analysis/truth_table.h"
#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

using testing::contains;

/// A convolution, a norm and a head with a fresh bias of zeros, whose gradients the tests write.
class Probes : public ::testing::Test {
 protected:
  Probes() : context_(make_backend({DeviceKind::reference})) {
    set_.add("conv.weight", {2, 1, 1, 2}, Role::conv_weight, 0);
    set_.add("norm.weight", {1, 2, 1, 1}, Role::norm_scale, 0);
    set_.add("norm.bias", {1, 2, 1, 1}, Role::norm_shift, 0);
    set_.add_statistics("norm", 2, 0);
    set_.add("fc.weight", {2, 2, 1, 1}, Role::linear_weight, 1);
    set_.add("fc.bias", {1, 2, 1, 1}, Role::bias, 1);
    set_.allocate(context_);
    set("conv.weight", {3, 0, 0, 4});  // norm 5
    set("norm.weight", {1, 1});
    set("fc.weight", {1, 1, 1, 1});  // norm 2
  }
  void set(const std::string& name, const std::vector<double>& values) { set_.find(name).value.from_host(values); }
  void set_gradient(const std::string& name, const std::vector<double>& values) {
    Parameter& p = set_.find(name);
    p.gradient().from_host(values);
    p.value.variable()->grad_written = true;
  }
  using Options = std::map<std::string, SettingValue>;
  std::unique_ptr<Strategy> make(const std::string& name, const Options& options = {}) const {
    TrainSettings settings;
    settings.strategy = name, settings.strategy_settings = options;
    return make_strategy(settings);
  }
  EpochPlan plan(Strategy& strategy, bool is_probe = false) const {
    return strategy.plan({0, 3, set_, blocks_, is_probe});
  }
  void begin_probe(Strategy& strategy) {
    plan(strategy, true).freeze.apply(set_);
    set_.prepare_gradients();
  }

  Context context_;
  ParameterSet set_;
  std::vector<std::string> blocks_{"stem", "fc"};
};

TEST_F(Probes, AutoRgnRatesAreMeanRatiosOverTheLargest) {
  const auto strategy = make("auto-rgn");
  EXPECT_EQ(strategy->probe_batches(), 5);
  EXPECT_TRUE(plan(*strategy).parameter_lr_factors.empty());  // nothing observed
  begin_probe(*strategy);
  set_gradient("conv.weight", {1, 0, 0, 0});  // 1/5
  set_gradient("fc.weight", {1, 1, 1, 1});    // 2/2
  set_gradient("fc.bias", {100, 0});          // a fresh bias: no ratio
  strategy->observe(set_);
  set_gradient("conv.weight", {0, 3, 0, 0});  // 3/5
  strategy->observe(set_);
  const EpochPlan p = plan(*strategy);
  ASSERT_EQ(p.parameter_lr_factors.size(), 5u);
  EXPECT_NEAR(p.parameter_lr_factors[0], 0.4, 1e-8);
  EXPECT_NEAR(p.parameter_lr_factors[3], 1, 1e-15);
  EXPECT_EQ(p.parameter_lr_factors[4], 1);
  EXPECT_FALSE(p.freeze.trains(1));
  EXPECT_FALSE(p.freeze.trains(2));
  EXPECT_EQ(p.freeze.norm(0), kBatchNormFixed);
  EXPECT_TRUE(p.resets_optimizer);

  const auto continued = make("auto-rgn");
  continued->restore(strategy->state());
  EXPECT_EQ(plan(*continued).parameter_lr_factors, p.parameter_lr_factors);
  begin_probe(*strategy);  // a new epoch forgets the one before
  set_gradient("conv.weight", {5, 0, 0, 0});
  set_gradient("fc.weight", {1, 0, 0, 0});
  set_gradient("fc.bias", {0, 0});
  strategy->observe(set_);
  EXPECT_NEAR(plan(*strategy).parameter_lr_factors[3], 0.5, 1e-8);
}

// As in VGGs with batch norm: the bias is all but zero, and in evaluation mode has a gradient.
TEST_F(Probes, AutoRgnGivesABiasBeforeANormItsWeightsRate) {
  ParameterSet set;
  set.add("conv.weight", {2, 2, 1, 1}, Role::conv_weight, 0);
  set.add("conv.bias", {1, 2, 1, 1}, Role::bias, 0);
  set.add("norm.weight", {1, 2, 1, 1}, Role::norm_scale, 0);
  set.add("norm.bias", {1, 2, 1, 1}, Role::norm_shift, 0);
  set.add("fc.weight", {2, 2, 1, 1}, Role::linear_weight, 1);
  set.allocate(context_);
  const auto fill = [&](const char* name, const std::vector<double>& values, const std::vector<double>& gradient) {
    Parameter& p = set.find(name);
    p.value.from_host(values);
    if (gradient.empty()) return;
    p.gradient().from_host(gradient);
    p.value.variable()->grad_written = true;
  };
  for (const char* every : {"epoch", "step"}) {
    const auto strategy = make("auto-rgn", {{"every", std::string(every)}});
    const auto planned = [&](bool is_probe) { return strategy->plan({0, 3, set, blocks_, is_probe}); };
    planned(true).freeze.apply(set);
    set.prepare_gradients();
    fill("conv.weight", {3, 0, 0, 4}, {1, 0, 0, 0});  // 1/5
    fill("conv.bias", {1e-7, 0}, {0.5, 0});           // 5e6 by itself
    fill("fc.weight", {1, 1, 1, 1}, {1, 1, 1, 1});    // 2/2
    strategy->observe(set);
    const EpochPlan p = planned(false);
    if (every == std::string("step")) {
      EXPECT_EQ(p.rate_groups[1], p.rate_groups[0]);
      EXPECT_NE(p.rate_groups[4], p.rate_groups[0]);
      continue;
    }
    EXPECT_NEAR(p.parameter_lr_factors[0], std::sqrt(1.25) / 5, 1e-8);
    EXPECT_EQ(p.parameter_lr_factors[1], p.parameter_lr_factors[0]);
    EXPECT_NEAR(p.parameter_lr_factors[4], 1, 1e-15);
  }
}

TEST_F(Probes, AutoRgnPerModuleTakesTheCommonNorm) {
  const auto strategy = make("auto-rgn", {{"per", std::string("module")}, {"norm_tensors", std::string("included")}});
  begin_probe(*strategy);
  set_gradient("conv.weight", {5, 0, 0, 0});  // 1
  set_gradient("norm.weight", {0, 0});
  set_gradient("norm.bias", {0, 0});
  set_gradient("fc.weight", {0, 0, 0, 0.6});
  set_gradient("fc.bias", {0, 0.8});  // together 1/2
  strategy->observe(set_);
  const EpochPlan p = plan(*strategy);
  EXPECT_NEAR(p.parameter_lr_factors[3], 0.5, 1e-8);
  EXPECT_EQ(p.parameter_lr_factors[4], p.parameter_lr_factors[3]);
  EXPECT_EQ(p.parameter_lr_factors[1], 0);
  EXPECT_TRUE(p.freeze.trains(1));
}

TEST_F(Probes, AutoRgnOfEveryStepNeedsNoProbe) {
  const auto strategy = make("auto-rgn", {{"every", std::string("step")}, {"window", std::int64_t{7}}});
  EXPECT_EQ(strategy->probe_batches(), 0);
  const EpochPlan p = plan(*strategy);
  ASSERT_TRUE(p.relative_rates);
  EXPECT_EQ(p.relative_rates->window, 7);
  EXPECT_EQ(p.rate_groups, (std::vector<int>{0, 1, 2, 3, 4}));
  EXPECT_FALSE(p.resets_optimizer);
}

TEST_F(Probes, AutoSnrTrainsWhatStandsOutOfItsNoise) {
  const auto strategy = make("auto-snr");
  begin_probe(*strategy);
  set_gradient("conv.weight", {1, 1, -1, -1});     // rows disagree: 1 / 2 each
  set_gradient("fc.weight", {1, 2, 1.1, 2.1});     // rows agree
  set_gradient("fc.bias", {1, 1 - std::sqrt(2)});  // variance 1, mean square (1 + (1 - sqrt 2)^2)/2 = 0.586
  strategy->observe(set_);
  const EpochPlan p = plan(*strategy);
  EXPECT_FALSE(p.freeze.trains(0));
  EXPECT_TRUE(p.freeze.trains(3));
  EXPECT_FALSE(p.freeze.trains(4));
  EXPECT_NEAR(strategy->state()[0], 0.5, 1e-7);
  EXPECT_NEAR(strategy->state()[4], (1 + std::pow(1 - std::sqrt(2), 2)) / 2, 1e-7);
  const auto strict = make("auto-snr", {{"threshold", 1e9}});  // nothing reaches it: the best trains
  begin_probe(*strict);
  set_gradient("conv.weight", {1, 1, -1, -1});
  set_gradient("fc.weight", {1, 2, 1.1, 2.1});
  set_gradient("fc.bias", {1, 0});
  strict->observe(set_);
  EXPECT_FALSE(plan(*strict).freeze.trains(0));
  EXPECT_TRUE(plan(*strict).freeze.trains(3));
}

TEST_F(Probes, FrozenChannelsCountInNoMeasure) {
  const auto rgn = make("auto-rgn");
  begin_probe(*rgn);
  set_.find("conv.weight").row_mask = {0b01};  // of 3, 0 and 0, 4 the first row trains
  set_gradient("conv.weight", {1, 0, 50, 60});
  set_gradient("fc.weight", {1, 1, 1, 1});
  set_gradient("fc.bias", {0, 0});
  rgn->observe(set_);
  EXPECT_NEAR(rgn->state()[0], 1.0 / 3, 1e-8);
  const auto snr = make("auto-snr");
  begin_probe(*snr);
  set_.find("fc.weight").row_mask = {0b10};  // a single row, without noise to measure
  set_gradient("conv.weight", {1, 1, -1, -1});
  set_gradient("fc.weight", {1, 2, -1, -2});
  set_gradient("fc.bias", {1, 0});
  snr->observe(set_);
  EXPECT_GT(snr->state()[3], 1e9);
}

TEST_F(Probes, StartingPointPenaltiesLieOnKernels) {
  const PenaltySpec none;
  const EpochPlan l2 = plan(*make("l2-sp"));
  const PenaltySpec pull{PenaltyKind::l2, PenaltyMode::coupled, true, 0.1},
      head{PenaltyKind::l2, PenaltyMode::coupled, false, 0.01};
  EXPECT_EQ(l2.penalties, (std::vector<PenaltySpec>{pull, none, none, head, none}));
  const EpochPlan all = plan(*make("l2-sp", {{"tensors", std::string("all")}}));
  EXPECT_EQ(all.penalties, (std::vector<PenaltySpec>{pull, pull, pull, head, none}));
  const EpochPlan l1 = plan(*make("l1-sp", {{"mode", std::string("proximal")}, {"alpha", 0.5}}));
  EXPECT_EQ(l1.penalties[0], (PenaltySpec{PenaltyKind::l1, PenaltyMode::proximal, true, 0.5}));
  EXPECT_EQ(l1.penalties[3], head);
  const std::string table =
      truth_table({.parameters = set_, .block_names = blocks_, .plan = l2, .lr = 0.5, .weight_decay = 0});
  EXPECT_TRUE(contains(table, "l2 0.1 to start")) << table;
  EXPECT_TRUE(contains(table, "l2 0.01 to zero")) << table;
}

}  // namespace
}  // namespace graft
