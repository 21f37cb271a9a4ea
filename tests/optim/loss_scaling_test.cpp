// Loss scaling against PyTorch's GradScaler (grad_scaler_numbers.h). Networks in 16 bits:
// tests/nn/half_training_test.cpp.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "optim/optimizer.h"
#include "tests/optim/grad_scaler_numbers.h"

namespace graft {
namespace {

double start_value(int tensor, int i) { return std::sin(1.0 + 3 * tensor + 0.7 * i); }
double gradient_value(int tensor, int step, int i) { return std::cos(0.5 + 2 * tensor + 1.3 * i + 0.9 * step); }

/// a [2,3,1,1] and b [1,4,1,1], as make_grad_scaler.py has them.
struct Fixture {
  Fixture()
      : context(make_backend({DeviceKind::reference}, {.threads = 1})),
        a(set.add("a", {2, 3, 1, 1}, Role::linear_weight, 0)),
        b(set.add("b", {1, 4, 1, 1}, Role::bias, 0)) {
    set.allocate(context);
    for (int t : {0, 1}) set_values(t, parameter(t).value, [t](int i) { return start_value(t, i); });
  }

  Parameter& parameter(int t) { return t == 0 ? a : b; }
  template <class F>
  void set_values(int t, Tensor to, const F& value) {
    std::vector<double> values;
    for (int i = 0; i < parameter(t).shape.size(); ++i) values.push_back(value(i));
    to.from_host(values);
  }
  void set_gradients(int step, double scale, bool overflows) {
    set.clear_gradients();
    for (int t : {0, 1}) {
      set_values(t, parameter(t).gradient(), [&](int i) {
        return overflows && t == 1 && i == 2 ? std::numeric_limits<double>::infinity()
                                             : scale * gradient_value(t, step, i);
      });
      parameter(t).value.variable()->grad_written = true;
    }
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

constexpr LossScaling kScaling{.interval = grad_scaler_numbers::kInterval};

TEST(LossScaling, SkipsHalvesAndGrowsAsGradScalerDoes) {
  namespace torch = grad_scaler_numbers;
  Fixture f;
  Optimizer optimizer(f.set, {.loss_scaling = kScaling});
  const auto count = f.values().size();
  for (int step = 0; step < torch::kSteps; ++step) {
    SCOPED_TRACE(step);
    const double scale = optimizer.loss_scale().to_host()[0];
    EXPECT_EQ(scale, torch::kScales[step]);
    const bool overflows = std::ranges::find(torch::kOverflows, step) != std::end(torch::kOverflows);
    f.set_gradients(step, scale, overflows);
    optimizer.step(0.05);
    EXPECT_EQ(optimizer.was_skipped(), overflows);
    const std::vector<double> values = f.values();
    for (std::size_t i = 0; i < count; ++i)
      EXPECT_NEAR(values[i], torch::kValues[std::size_t(step) * count + i], 1e-14) << i;
  }
  EXPECT_EQ(optimizer.skipped_steps(), std::int64_t(std::size(torch::kOverflows)));
}

TEST(LossScaling, ContinuesFromItsSavedState) {
  namespace torch = grad_scaler_numbers;
  constexpr int kBreak = 9;  // two good steps into an interval of three, three skipped ones behind
  Fixture f, g;
  Optimizer first(f.set, {.loss_scaling = kScaling}), second(g.set, {.loss_scaling = kScaling});
  const auto run = [](Fixture& fixture, Optimizer& optimizer, int begin, int end) {
    for (int step = begin; step < end; ++step) {
      const bool overflows = std::ranges::find(torch::kOverflows, step) != std::end(torch::kOverflows);
      fixture.set_gradients(step, optimizer.loss_scale().to_host()[0], overflows);
      optimizer.step(0.05);
    }
  };
  run(f, first, 0, kBreak);
  for (int t : {0, 1}) {
    g.parameter(t).value.from_host(f.parameter(t).value.to_host());
    second.set_steps(t, first.steps(t));
    for (int which : {1, 2}) second.moment(which, t).from_host(first.moment(which, t).to_host());
  }
  const Optimizer::LossScaleState state = first.loss_scale_state();
  EXPECT_EQ(state.skipped_steps, 3);
  EXPECT_GT(state.good_steps, 0);
  second.restore_loss_scale(state);
  run(f, first, kBreak, torch::kSteps);
  run(g, second, kBreak, torch::kSteps);
  EXPECT_EQ(f.values(), g.values());
  EXPECT_EQ(second.loss_scale_state().scale, first.loss_scale_state().scale);
  EXPECT_EQ(second.skipped_steps(), first.skipped_steps());
}

TEST(LossScaling, KeepsItsScaleWhenRateGroupsCome) {
  Fixture f;
  Optimizer optimizer(f.set, {.loss_scaling = kScaling});
  f.set_gradients(0, optimizer.loss_scale().to_host()[0], true);
  optimizer.step(0.05);
  for (std::size_t i : {0, 1}) optimizer.set_group(i, {.rate_group = int(i)});
  f.set_gradients(1, optimizer.loss_scale().to_host()[0], false);
  optimizer.step({.lr = 0.05, .relative_rates = RelativeRates{.epsilon = 1e-8}});
  EXPECT_EQ(optimizer.loss_scale().to_host()[0], kScaling.initial / 2);
  EXPECT_EQ(optimizer.skipped_steps(), 1);
}

TEST(LossScaling, TakesTheScaleOutOfNormsAndSums) {
  Fixture f;
  Optimizer optimizer(f.set,
                      {.loss_scaling = LossScaling{.interval = 1}});  // grows after the step: that must not matter
  f.set_gradients(0, optimizer.loss_scale().to_host()[0], false);
  optimizer.step({.lr = 0.05, .records = true});
  double squares = 0;
  for (int i = 0; i < 6; ++i) squares += std::pow(gradient_value(0, 0, i), 2);
  EXPECT_NEAR(optimizer.sums()[0].gradient_squares, squares, 1e-12);
  for (int i = 0; i < 4; ++i) squares += std::pow(gradient_value(1, 0, i), 2);
  EXPECT_NEAR(optimizer.gradient_norm(), std::sqrt(squares), 1e-12);
  EXPECT_THROW(optimizer.step({.lr = 0.05, .loss_scale = 8}), Error);
}

}  // namespace
}  // namespace graft
