// Optimizers against torch.optim in float64 (torch_numbers.h), and what PyTorch has no word for: row masks, moments
// when the trainable set changes, what a frozen tensor must not feel.
#include "optim/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <span>

#include "tests/optim/torch_numbers.h"

namespace graft {
namespace {

constexpr int kSteps = 5;

double start_value(int tensor, int i) { return std::sin(1.0 + 3 * tensor + 0.7 * i); }
double gradient_value(int tensor, int step, int i) { return std::cos(0.5 + 2 * tensor + 1.3 * i + 0.9 * step); }

/// a [2,3,1,1] and b [1,4,1,1], as make_optim.py has them.
struct Fixture {
  explicit Fixture(DeviceKind kind = DeviceKind::reference)
      : context(make_backend({kind, 0}, {.threads = 1})),
        a(set.add("a", {2, 3, 1, 1}, Role::linear_weight, 0)),
        b(set.add("b", {1, 4, 1, 1}, Role::bias, 0)) {
    set.allocate(context);
    for (int t : {0, 1}) {
      Parameter& p = t == 0 ? a : b;
      std::vector<double> values;
      for (int i = 0; i < p.shape.size(); ++i) values.push_back(start_value(t, i));
      p.value.from_host(values);
    }
  }

  void set_gradient(Parameter& p, int tensor, int step) {
    std::vector<double> values;
    for (int i = 0; i < p.shape.size(); ++i) values.push_back(gradient_value(tensor, step, i));
    p.value.variable()->grad.from_host(values);
    p.value.variable()->grad_written = true;
  }
  void set_gradients(int step) {
    set.clear_gradients();
    if (a.is_trainable) set_gradient(a, 0, step);
    if (b.is_trainable) set_gradient(b, 1, step);
  }
  std::vector<double> values() const {
    std::vector<double> all = a.value.to_host();
    for (double x : b.value.to_host()) all.push_back(x);
    return all;
  }

  Context context;
  ParameterSet set;
  Parameter &a, &b;
};

/// Five steps with b's own rate and decay; b gets gradients from step `b_from` on.
void expect_equals_torch(const OptimizerSpec& spec, double decay, std::span<const double> expected, int b_from = 0,
                         DeviceKind kind = DeviceKind::reference, double tolerance = 1e-14) {
  Fixture f(kind);
  Optimizer optimizer(f.set, spec);
  optimizer.set_group(0, {.decay = decay});
  optimizer.set_group(1, {.lr_scale = 0.2, .decay = 0.03});
  ASSERT_EQ(expected.size(), std::size_t(kSteps * 10));
  for (int step = 0; step < kSteps; ++step) {
    f.set.clear_gradients();
    f.set_gradient(f.a, 0, step);
    if (step >= b_from) f.set_gradient(f.b, 1, step);
    optimizer.step(0.05);
    const std::vector<double> got = f.values();
    for (std::size_t i = 0; i < 10; ++i)
      ASSERT_NEAR(got[i], expected[std::size_t(step) * 10 + i], tolerance) << "step " << step << " element " << i;
  }
}

const OptimizerSpec kAdamSpec{.kind = OptimizerKind::adam, .beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-6};

TEST(Optimizer, PlainSgdEqualsTorch) {
  // The torch run gives b decay 0.03 whatever the optimizer's default is.
  expect_equals_torch({.kind = OptimizerKind::sgd, .momentum = 0}, 0, torch_numbers::kSgd);
}
TEST(Optimizer, SgdWithMomentumAndDecayEqualsTorch) {
  expect_equals_torch({.kind = OptimizerKind::sgd, .momentum = 0.9}, 0.02, torch_numbers::kMomentum);
}
TEST(Optimizer, NesterovEqualsTorch) {
  expect_equals_torch({.kind = OptimizerKind::sgd, .momentum = 0.8, .nesterov = true}, 0.02, torch_numbers::kNesterov);
}
TEST(Optimizer, AdamEqualsTorch) { expect_equals_torch(kAdamSpec, 0.02, torch_numbers::kAdam); }
TEST(Optimizer, AdamWEqualsTorch) {
  OptimizerSpec spec = kAdamSpec;
  spec.kind = OptimizerKind::adamw;
  expect_equals_torch(spec, 0.02, torch_numbers::kAdamW);
}
TEST(Optimizer, ParameterWithoutGradientIsSkippedAndKeepsItsOwnStepCount) {
  expect_equals_torch(kAdamSpec, 0.02, torch_numbers::kAdamLate, 2);
}
TEST(Optimizer, CpuDeviceEqualsTorchToFloatRounding) {
  // Values are below 2 and five steps round each a few times: 1e-6 is some eight units in the last place.
  expect_equals_torch(kAdamSpec, 0.02, torch_numbers::kAdam, 0, DeviceKind::cpu, 1e-6);
  expect_equals_torch({.kind = OptimizerKind::sgd, .momentum = 0.9}, 0.02, torch_numbers::kMomentum, 0, DeviceKind::cpu,
                      1e-6);
}

TEST(Optimizer, MaskedRowsKeepValueAndMoments) {
  for (DeviceKind kind : {DeviceKind::reference, DeviceKind::cpu})
    for (OptimizerKind rule : {OptimizerKind::sgd, OptimizerKind::adam, OptimizerKind::adamw}) {
      Fixture masked(kind), whole(kind);
      masked.a.row_mask = {0b10};    // row 1 of 2 trains
      masked.b.row_mask = {0b0101};  // elements 0 and 2 of 4
      Optimizer with(masked.set, {.kind = rule}), without(whole.set, {.kind = rule});
      const std::vector<double> before = masked.values();
      for (Optimizer* o : {&with, &without}) o->set_group(0, {.decay = 0.1}), o->set_group(1, {.decay = 0.1});
      for (int step = 0; step < 3; ++step) {
        masked.set_gradients(step), whole.set_gradients(step);
        with.step(0.01), without.step(0.01);
      }
      const std::vector<double> got = masked.values(), full = whole.values();
      const std::vector<bool> trains{false, false, false, true, true, true, true, false, true, false};
      for (std::size_t i = 0; i < trains.size(); ++i) {
        EXPECT_EQ(got[i], trains[i] ? full[i] : before[i]) << i;
        if (trains[i]) {
          EXPECT_NE(got[i], before[i]) << i;
        }
      }
      const std::vector<double> moments = with.moment(1, 0).to_host();
      for (int i : {0, 1, 2}) EXPECT_EQ(moments[std::size_t(i)], 0);
      for (int i : {3, 4, 5}) EXPECT_NE(moments[std::size_t(i)], 0);
    }
}

TEST(Optimizer, FrozenParameterFeelsNeitherDecayNorMomentum) {
  Fixture f;
  Optimizer optimizer(f.set, {.kind = OptimizerKind::sgd, .momentum = 0.9});
  optimizer.set_group(0, {.decay = 0.5});
  f.set_gradients(0);
  optimizer.step(0.05);
  f.a.is_trainable = false;
  f.set.prepare_gradients();
  optimizer.prepare();
  const std::vector<double> before = f.a.value.to_host();
  for (int step = 1; step < 4; ++step) {
    f.set_gradients(step);
    optimizer.step(0.05);
  }
  EXPECT_EQ(f.a.value.to_host(), before);
}

TEST(Optimizer, MomentsSurviveForParametersThatStayAndStartAtZeroForNewOnes) {
  Fixture f;
  f.a.is_trainable = false;
  f.set.prepare_gradients();
  Optimizer optimizer(f.set, kAdamSpec);
  for (int step = 0; step < 2; ++step) {
    f.set_gradients(step);
    optimizer.step(0.05);
  }
  const std::vector<double> kept1 = optimizer.moment(1, 1).to_host(), kept2 = optimizer.moment(2, 1).to_host();
  EXPECT_THROW(optimizer.moment(1, 0), Error);
  f.a.is_trainable = true;  // moves b's place in the arenas
  f.set.prepare_gradients();
  EXPECT_THROW((f.set_gradients(2), optimizer.step(0.05)), Error);  // prepare() was forgotten
  optimizer.prepare();
  EXPECT_EQ(optimizer.moment(1, 1).to_host(), kept1);
  EXPECT_EQ(optimizer.moment(2, 1).to_host(), kept2);
  EXPECT_EQ(optimizer.moment(1, 0).to_host(), std::vector<double>(6, 0.0));
  EXPECT_EQ(optimizer.steps(0), 0);
  f.set_gradients(2);
  const std::vector<double> before = f.a.value.to_host();
  optimizer.step(0.05);
  // Adam's first step moves every element by the rate, whatever the gradient's size.
  const std::vector<double> after = f.a.value.to_host();
  for (std::size_t i = 0; i < after.size(); ++i) EXPECT_NEAR(std::abs(after[i] - before[i]), 0.05, 1e-6);
  optimizer.reset();
  EXPECT_EQ(optimizer.steps(1), 0);
  EXPECT_EQ(optimizer.moment(2, 1).to_host(), std::vector<double>(4, 0.0));
}

TEST(Optimizer, GradientsAndMomentsTakeMemoryWhenTheyAreNeeded) {
  Fixture f;
  EXPECT_FALSE(f.set.gradients());
  const std::int64_t before = f.context.backend().memory().live_bytes;
  Optimizer optimizer(f.set, kAdamSpec);
  EXPECT_EQ(f.context.backend().memory().live_bytes, before);
  EXPECT_THROW(optimizer.moment(1, 0), Error);
  f.set_gradients(0);
  EXPECT_TRUE(f.set.gradients());
  optimizer.step(0.05);
  EXPECT_EQ(optimizer.moment(1, 0).shape().size(), 6);
  f.b.is_trainable = false;
  f.set.prepare_gradients(), optimizer.prepare();
  EXPECT_THROW(optimizer.moment(1, 1), Error);
  EXPECT_LT(f.set.gradients().shape().size(), 6 + 64);
}

TEST(Optimizer, GradientsBesideTheArenaAreAnError) {
  Fixture f;
  Optimizer optimizer(f.set, kAdamSpec);
  f.a.value.variable()->grad = zeros(f.context, f.a.shape);  // as a backward pass makes it where there is no arena
  f.a.value.variable()->grad_written = true;
  EXPECT_THROW(optimizer.step(0.05), Error);
}

TEST(Optimizer, UpdateMakesPackedWeightsStale) {
  Fixture f;
  Optimizer optimizer(f.set, kAdamSpec);
  const std::uint64_t before = f.a.version;
  f.set_gradients(0);
  optimizer.step(0.05);
  EXPECT_GT(f.a.version, before);
}

TEST(Optimizer, NamesAreChecked) {
  EXPECT_EQ(parse_optimizer("adamw"), OptimizerKind::adamw);
  EXPECT_THROW(parse_optimizer("rmsprop"), UsageError);
}

}  // namespace
}  // namespace graft
