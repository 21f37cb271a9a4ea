// What a checkpoint keeps of the optimizer: a run that stops and continues takes the same steps, bit for bit.
#include "strategies/training/checkpoint.h"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>

namespace graft {
namespace {

/// A parameter of each kind, with gradients that are functions of the step.
struct SmallRun {
  explicit SmallRun(DeviceKind kind) : context(make_backend({kind, 0}, {.threads = 1})) {
    set.add("conv.weight", {3, 2, 3, 3}, Role::conv_weight, 0);
    set.add("conv.bias", {1, 3, 1, 1}, Role::bias, 0);
    set.allocate(context);
    for (Parameter& p : set.parameters()) p.value.from_host(numbers(p, 0.3));
    optimizer.emplace(set, OptimizerSpec{.kind = OptimizerKind::adam});
    optimizer->keep_anchors();
    for (std::size_t i : {0u, 1u})
      optimizer->set_group(i, {.penalty = {PenaltyKind::l2, PenaltyMode::coupled, true, 0.5}, .rate_group = int(i)});
  }
  static std::vector<double> numbers(const Parameter& p, double seed) {
    std::vector<double> v;
    for (std::int64_t i = 0; i < p.shape.size(); ++i) v.push_back(std::sin(seed + 1.7 * double(i)));
    return v;
  }
  void step(int number) {
    set.clear_gradients();
    for (Parameter& p : set.parameters()) {
      p.value.variable()->grad.from_host(numbers(p, 0.9 * number));
      p.value.variable()->grad_written = true;
    }
    optimizer->step({.lr = 0.01, .relative_rates = RelativeRates{.epsilon = 1e-3, .window = 4}});
  }
  std::vector<double> values() const { return set.values().to_host(); }

  Context context;
  ParameterSet set;
  std::optional<Optimizer> optimizer;
};

TEST(Checkpoint, KeepsMomentsAnchorsAndGradientHistory) {
  for (DeviceKind kind : {DeviceKind::reference, DeviceKind::cpu}) {
    SmallRun whole(kind), continued(kind);
    for (int i = 0; i < 6; ++i) whole.step(i);
    const Checkpoint kept = make_checkpoint({}, whole.set, *whole.optimizer);
    for (std::size_t i : {0u, 1u})
      continued.set.parameters()[i].value.from_host(whole.set.parameters()[i].value.to_host());
    restore_optimizer(kept, continued.set, *continued.optimizer);
    for (int i = 6; i < 9; ++i) {
      whole.step(i), continued.step(i);
      ASSERT_EQ(continued.values(), whole.values()) << i;
    }
    EXPECT_EQ(continued.optimizer->rate_history().rows, whole.optimizer->rate_history().rows);
    EXPECT_EQ(continued.optimizer->steps(0), 9);
  }
}

TEST(Checkpoint, OfAnEarlierVersionHoldsOneMoreNumber) {
  Checkpoint kept;
  set_state(kept, {.epoch = 3, .steps = 12, .stopped_early = true});
  EXPECT_FALSE(kept.state.arrays.contains("is_finished"));
  kept.state.arrays["is_finished"] = std::vector<std::int64_t>{0};
  const TrainState state = read_state(kept);
  EXPECT_EQ(state.epoch, 3);
  EXPECT_EQ(state.steps, 12);
  EXPECT_TRUE(state.stopped_early);
}

TEST(Checkpoint, SaysWhichAnchorIsMissing) {
  SmallRun run(DeviceKind::reference);
  run.step(0);
  Checkpoint kept = make_checkpoint({}, run.set, *run.optimizer);
  kept.optimizer.arrays.erase("conv.bias.anchor");
  try {
    restore_optimizer(kept, run.set, *run.optimizer);
    FAIL() << "an incomplete checkpoint was accepted";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("conv.bias.anchor"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace graft
