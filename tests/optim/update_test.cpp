// What a step does beyond its rule: penalties of every kind, clipping, skipped steps, sums and Auto-RGN's rates of
// every step, against formulas written out here in double and against PyTorch's float64 (torch_numbers.h).
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <span>

#include "optim/optimizer.h"
#include "tests/optim/torch_numbers.h"

namespace graft {
namespace {

using Values = std::vector<double>;

double start_value(int tensor, int i) { return std::sin(1.0 + 3 * tensor + 0.7 * i); }
double gradient_value(int tensor, int step, int i) { return std::cos(0.5 + 2 * tensor + 1.3 * i + 0.9 * step); }

/// Tensors as in make_optim.py: vectors whose values and gradients are functions of their numbers.
class Network {
 public:
  explicit Network(const std::vector<std::int64_t>& sizes, DeviceKind kind = DeviceKind::reference)
      : context_(make_backend({kind, 0}, {.threads = 2})) {
    for (std::size_t t = 0; t < sizes.size(); ++t) set.add("t" + std::to_string(t), {1, sizes[t], 1, 1}, Role::bias, 0);
    set.allocate(context_);
    for (int t = 0; t < int(sizes.size()); ++t) {
      Values values;
      for (int i = 0; i < sizes[std::size_t(t)]; ++i) values.push_back(start_value(t, i));
      write(t, values);
    }
  }
  Parameter& operator[](int t) { return set.parameters()[std::size_t(t)]; }
  int count() const { return int(set.parameters().size()); }
  void write(int t, const Values& values) { (*this)[t].value.from_host(values); }
  void write_gradient(int t, const Values& values) {
    (*this)[t].value.variable()->grad.from_host(values);
    (*this)[t].value.variable()->grad_written = true;
  }
  Values values(int t) { return (*this)[t].value.to_host(); }
  /// gradient_value, times `scale`.
  void write_gradients(int step, double scale = 1) {
    set.clear_gradients();
    for (int t = 0; t < count(); ++t) {
      Values g;
      for (int i = 0; i < (*this)[t].shape.size(); ++i) g.push_back(scale * gradient_value(t, step, i));
      if ((*this)[t].is_trainable) write_gradient(t, g);
    }
  }

 private:
  Context context_;

 public:
  ParameterSet set;
};

double norm(const Values& v) {
  double squares = 0;
  for (double x : v) squares += x * x;
  return std::sqrt(squares);
}

constexpr double kLr = 0.05, kStrength = 0.7;
const OptimizerSpec kAdam{.kind = OptimizerKind::adam, .beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-6};

std::vector<PenaltySpec> all_penalties() {
  std::vector<PenaltySpec> all;
  for (PenaltyKind kind : {PenaltyKind::l2, PenaltyKind::l1})
    for (PenaltyMode mode : {PenaltyMode::coupled, PenaltyMode::decoupled, PenaltyMode::proximal})
      for (bool to_anchor : {false, true}) all.push_back({kind, mode, to_anchor, kStrength});
  return all;
}

std::string name_of(const PenaltySpec& p) {
  return std::string(p.kind == PenaltyKind::l2 ? "l2" : "l1") + " mode " + std::to_string(int(p.mode)) +
         (p.to_anchor ? " to the anchor" : " to zero");
}

/// The optimizers as their papers have them, one weight at a time.
struct Weight {
  double w, m = 0, v = 0;
  int steps = 0;
  void step(const OptimizerSpec& o, double lr, double decay, double g) {
    ++steps;
    if (o.kind == OptimizerKind::sgd) {
      g += decay * w;
      m = o.momentum * m + g;
      w -= lr * (o.nesterov ? g + o.momentum * m : m);
      return;
    }
    if (o.kind == OptimizerKind::adamw)
      w *= 1 - lr * decay;
    else
      g += decay * w;
    m = o.beta1 * m + (1 - o.beta1) * g;
    v = o.beta2 * v + (1 - o.beta2) * g * g;
    const double m_hat = m / (1 - std::pow(o.beta1, steps)), v_hat = v / (1 - std::pow(o.beta2, steps));
    w -= lr * m_hat / (std::sqrt(v_hat) + o.epsilon);
  }
};

double sign(double x) { return x > 0 ? 1 : x < 0 ? -1 : 0; }

/// A step with a penalty around it, from the definitions in kernels/core.h.
void step_with_penalty(Weight& weight, const OptimizerSpec& o, const PenaltySpec& p, double lr, double decay, double g,
                       double anchor) {
  const double w0 = p.to_anchor ? anchor : 0, before = weight.w;
  const double gradient = p.strength * (p.kind == PenaltyKind::l2 ? before - w0 : sign(before - w0));
  weight.step(o, lr, decay, p.mode == PenaltyMode::coupled ? g + gradient : g);
  if (p.mode == PenaltyMode::decoupled) weight.w -= lr * gradient;
  if (p.mode != PenaltyMode::proximal) return;
  const double d = weight.w - w0;
  weight.w = p.kind == PenaltyKind::l2 ? w0 + d / (1 + lr * p.strength)
                                       : w0 + sign(d) * std::max(0.0, std::abs(d) - lr * p.strength);
}

const std::vector<OptimizerSpec>& rules() {
  static const std::vector<OptimizerSpec> all{{.kind = OptimizerKind::sgd, .momentum = 0},
                                              {.kind = OptimizerKind::sgd, .momentum = 0.8, .nesterov = true},
                                              kAdam,
                                              {.kind = OptimizerKind::adamw, .beta1 = 0.7, .beta2 = 0.9}};
  return all;
}

TEST(Penalties, EveryKindAndModeWithEveryRuleEqualsItsFormula) {
  for (const OptimizerSpec& rule : rules())
    for (const PenaltySpec& penalty : all_penalties()) {
      SCOPED_TRACE(name_of(penalty) + ", optimizer " + std::to_string(int(rule.kind)));
      Network net({7, 5});
      Optimizer optimizer(net.set, rule);
      optimizer.keep_anchors();
      optimizer.set_group(0, {.lr_scale = 0.4, .decay = 0.03, .penalty = penalty});
      std::vector<Weight> weights;
      const Values anchors = net.values(0);
      for (double x : anchors) weights.push_back({x});
      for (int step = 0; step < 6; ++step) {
        double value = 0;
        for (std::size_t i = 0; i < weights.size(); ++i) {
          const double d = weights[i].w - (penalty.to_anchor ? anchors[i] : 0);
          value += kStrength * (penalty.kind == PenaltyKind::l2 ? d * d / 2 : std::abs(d));
          step_with_penalty(weights[i], rule, penalty, 0.4 * kLr, 0.03, gradient_value(0, step, int(i)), anchors[i]);
        }
        net.write_gradients(step);
        optimizer.step({.lr = kLr, .records = true});
        const Values got = net.values(0);
        for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], weights[i].w, 1e-13) << step << " " << i;
        EXPECT_NEAR(optimizer.penalty(), value, 1e-13);
      }
    }
}

/// Five steps of a coupled penalty on tensors of 6 and 4.
void expect_equals_torch(const OptimizerSpec& rule, const PenaltySpec& penalty, std::span<const double> expected) {
  Network net({6, 4});
  Optimizer optimizer(net.set, rule);
  optimizer.keep_anchors();
  optimizer.set_group(0, {.penalty = penalty});
  optimizer.set_group(1, {.lr_scale = 0.2, .penalty = penalty});
  ASSERT_EQ(expected.size(), 50u);
  for (std::size_t step = 0; step < 5; ++step) {
    net.write_gradients(int(step));
    optimizer.step(kLr);
    Values got = net.values(0);
    for (double x : net.values(1)) got.push_back(x);
    for (std::size_t i = 0; i < 10; ++i) ASSERT_NEAR(got[i], expected[step * 10 + i], 1e-13) << step << " " << i;
  }
}

TEST(Penalties, CoupledGoThroughTheMomentsAsAutomaticDifferentiationHasIt) {
  using enum PenaltyKind;
  const OptimizerSpec nesterov{.kind = OptimizerKind::sgd, .momentum = 0.8, .nesterov = true};
  expect_equals_torch(kAdam, {l2, PenaltyMode::coupled, true, kStrength}, torch_numbers::kAdamL2Sp);
  expect_equals_torch(kAdam, {l1, PenaltyMode::coupled, true, kStrength}, torch_numbers::kAdamL1Sp);
  expect_equals_torch(kAdam, {l2, PenaltyMode::coupled, false, kStrength}, torch_numbers::kAdamL2);
  expect_equals_torch(nesterov, {l1, PenaltyMode::coupled, true, kStrength}, torch_numbers::kNesterovL1Sp);
}

TEST(Penalties, ProximalL1ReachesTheAnchorExactlyAndStays) {
  for (DeviceKind kind : {DeviceKind::reference, DeviceKind::cpu}) {
    Network net({40}, kind);
    Optimizer optimizer(net.set, {.kind = OptimizerKind::sgd, .momentum = 0});
    optimizer.keep_anchors();
    const Values anchor = net.values(0);
    optimizer.set_group(0, {.penalty = {PenaltyKind::l1, PenaltyMode::proximal, true, 0.9}});
    for (int step = 0; step < 3; ++step) {
      net.write_gradients(0, 0.5);  // smaller than the strength everywhere
      optimizer.step(kLr);
      EXPECT_EQ(net.values(0), anchor);
    }
  }
}

TEST(Penalties, LeaveTheStoredGradientAlone) {
  Network net({7}, DeviceKind::cpu);
  Optimizer optimizer(net.set, kAdam);
  optimizer.set_group(0, {.decay = 0.3, .penalty = {PenaltyKind::l2, PenaltyMode::coupled, false, kStrength}});
  net.write_gradients(0);
  const Values before = net[0].gradient().to_host();
  optimizer.step({.lr = kLr, .max_gradient_norm = 0.1});
  EXPECT_EQ(net[0].gradient().to_host(), before);
}

TEST(Penalties, NeverTouchMaskedOrFrozenElements) {
  // Masks that begin, end and break in the middle of a word.
  const std::vector<std::vector<std::uint32_t>> masks{
      {0x00000001, 0}, {0x80000000, 0x1}, {0xA5A5A5A5, 0x5A}, {0xFFFFFFFF, 0x7F}, {0, 0}};
  for (DeviceKind kind : {DeviceKind::reference, DeviceKind::cpu})
    for (const std::vector<std::uint32_t>& mask : masks)
      for (const PenaltySpec& penalty : all_penalties()) {
        Network masked({39, 5}, kind), whole({39, 5}, kind);
        masked[0].row_mask = mask;
        masked[1].is_trainable = false;
        masked.set.prepare_gradients();
        Optimizer with(masked.set, kAdam), without(whole.set, kAdam);
        const Values before = masked.values(0), frozen = masked.values(1);
        for (Optimizer* o : {&with, &without}) {
          o->keep_anchors();
          for (std::size_t i : {0u, 1u}) o->set_group(i, {.decay = 0.1, .penalty = penalty});
        }
        for (int step = 0; step < 2; ++step) {
          masked.write_gradients(step), whole.write_gradients(step);
          with.step(kLr), without.step(kLr);
        }
        const Values got = masked.values(0), full = whole.values(0);
        for (std::size_t i = 0; i < got.size(); ++i)
          ASSERT_EQ(got[i], mask[i / 32] >> (i % 32) & 1 ? full[i] : before[i]) << name_of(penalty) << " " << i;
        EXPECT_EQ(masked.values(1), frozen);
      }
}

TEST(Penalties, AnchorsAreNeededAndKept) {
  Network net({7});
  Optimizer optimizer(net.set, kAdam);
  optimizer.set_group(0, {.penalty = {PenaltyKind::l2, PenaltyMode::coupled, true, kStrength}});
  net.write_gradients(0);
  EXPECT_THROW(optimizer.step(kLr), Error);
  EXPECT_THROW(optimizer.anchor(0), Error);
  const Values start = net.values(0);
  optimizer.keep_anchors();
  optimizer.step(kLr);
  EXPECT_EQ(optimizer.anchor(0).to_host(), start);
  EXPECT_NE(net.values(0), start);
  EXPECT_THROW(optimizer.set_group(0, {.penalty = {.strength = -1}}), Error);
  EXPECT_THROW(optimizer.set_group(0, {.decay = -1}), Error);
  EXPECT_THROW(optimizer.set_group(0, {.rate_group = -2}), Error);
}

TEST(Clipping, ScalesAllGradientsToTheNorm) {
  for (double loss_scale : {1.0, 64.0})
    for (double limit : {0.5, 100.0}) {
      Network net({6, 4});
      Optimizer optimizer(net.set, {.kind = OptimizerKind::sgd, .momentum = 0});
      net.write_gradients(0, loss_scale);
      const Values before = net.values(0);
      Values all;
      for (int t : {0, 1})
        for (int i = 0; i < net[t].shape.size(); ++i) all.push_back(gradient_value(t, 0, i));
      optimizer.step({.lr = kLr, .loss_scale = loss_scale, .max_gradient_norm = limit});
      EXPECT_NEAR(optimizer.gradient_norm(), norm(all), 1e-14);
      EXPECT_FALSE(optimizer.was_skipped());
      const double factor = std::min(1.0, limit / (norm(all) + 1e-6));  // PyTorch's clip_grad_norm_
      const Values got = net.values(0);
      for (int i = 0; i < 6; ++i)
        EXPECT_NEAR(got[std::size_t(i)], before[std::size_t(i)] - kLr * factor * gradient_value(0, 0, i), 1e-15);
    }
}

TEST(Clipping, MaskedElementsCountInNoNorm) {
  Network net({6, 4});
  net[0].row_mask = {0b001011};
  Optimizer optimizer(net.set, kAdam);
  net.write_gradients(0);
  optimizer.step({.lr = kLr, .max_gradient_norm = std::numeric_limits<double>::infinity()});
  Values counted;
  for (int i : {0, 1, 3}) counted.push_back(gradient_value(0, 0, i));
  for (int i : {0, 1, 2, 3}) counted.push_back(gradient_value(1, 0, i));
  EXPECT_NEAR(optimizer.gradient_norm(), norm(counted), 1e-15);
}

TEST(SkippedSteps, ChangeNothing) {
  const RelativeRates rates{.epsilon = 0.01, .window = 3};
  for (DeviceKind kind : {DeviceKind::reference, DeviceKind::cpu})
    for (double bad :
         {std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(), std::nan("")}) {
      Network disturbed({6, 4}, kind), calm({6, 4}, kind);
      Optimizer a(disturbed.set, kAdam), b(calm.set, kAdam);
      for (Optimizer* o : {&a, &b}) {
        o->keep_anchors();
        for (std::size_t i : {0u, 1u})
          o->set_group(i, {.decay = 0.1,
                           .penalty = {PenaltyKind::l1, PenaltyMode::decoupled, true, kStrength},
                           .rate_group = int(i)});
      }
      const StepSpec spec{.lr = kLr, .loss_scale = 8, .records = true, .relative_rates = rates};
      int calm_steps = 0;
      for (int step = 0; step < 6; ++step) {
        const bool is_bad = step % 3 != 2;  // also the first
        disturbed.write_gradients(calm_steps, 8);
        if (is_bad) {
          Values g = disturbed[1].gradient().to_host();
          g[2] = bad;
          disturbed.write_gradient(1, g);
        }
        const Values before = disturbed.values(0);
        a.step(spec);
        EXPECT_EQ(a.was_skipped(), is_bad);
        if (is_bad) {
          EXPECT_EQ(disturbed.values(0), before);
          EXPECT_EQ(a.sums()[0].change_squares, 0);
          EXPECT_NEAR(a.sums()[0].weight_squares, norm(before) * norm(before), 1e-5);
          EXPECT_FALSE(std::isfinite(a.sums()[1].gradient_squares));
          continue;
        }
        calm.write_gradients(calm_steps++, 8);
        b.step(spec);
        for (int t : {0, 1}) {
          EXPECT_EQ(disturbed.values(t), calm.values(t)) << step;
          EXPECT_EQ(a.moment(1, t).to_host(), b.moment(1, t).to_host());
          EXPECT_EQ(a.moment(2, t).to_host(), b.moment(2, t).to_host());
          EXPECT_EQ(a.steps(t), b.steps(t));
        }
        EXPECT_EQ(a.rate_history().rows, b.rate_history().rows);
        EXPECT_EQ(a.rates(), b.rates());
      }
      EXPECT_EQ(a.steps(0), 2);
      // An unmeasured step after skipped ones counts on from the updates that took place.
      disturbed.write_gradients(3), calm.write_gradients(3);
      a.step(kLr), b.step(kLr);
      EXPECT_EQ(disturbed.values(0), calm.values(0));
      EXPECT_FALSE(a.was_skipped());
    }
}

TEST(SkippedSteps, AreForgottenWhenTheUpdatedSetChanges) {
  Network net({6, 4});
  Optimizer optimizer(net.set, kAdam);
  const StepSpec spec{.lr = kLr, .loss_scale = 2};
  const auto step = [&](bool is_bad, bool has_second) {
    net.set.clear_gradients();
    net.write_gradient(0, Values(6, is_bad ? std::nan("") : 1.0));
    if (has_second) net.write_gradient(1, Values(4, 1.0));
    optimizer.step(spec);
  };
  step(true, true), step(false, true), step(true, false), step(false, false), step(true, true), step(false, true);
  EXPECT_EQ(optimizer.steps(0), 3);
  EXPECT_EQ(optimizer.steps(1), 2);
}

TEST(Sums, AreOfEveryParameterAndDependOnNoOption) {
  for (DeviceKind kind : {DeviceKind::reference, DeviceKind::cpu}) {
    Network net({3000, 40000, 6}, kind), plain({3000, 40000, 6}, kind);  // more than one chunk of the CPU's
    net[2].is_trainable = plain[2].is_trainable = false;
    net.set.prepare_gradients(), plain.set.prepare_gradients();
    Optimizer optimizer(net.set, kAdam), without(plain.set, kAdam);
    optimizer.keep_anchors();
    const Values anchor = net.values(1);
    for (int step = 0; step < 2; ++step) {
      net.write_gradients(step, 4), plain.write_gradients(step, 4);
      const Values before = net.values(1), g = net[1].gradient().to_host();
      optimizer.step({.lr = kLr, .loss_scale = 4, .records = true});
      without.step({.lr = kLr, .loss_scale = 4});
      EXPECT_EQ(net.values(1), plain.values(1));
      const Values after = net.values(1);
      ParameterSums expected;
      for (std::size_t i = 0; i < after.size(); ++i) {
        expected.gradient_squares += g[i] / 4 * g[i] / 4;
        expected.weight_squares += before[i] * before[i];
        expected.change_squares += (after[i] - before[i]) * (after[i] - before[i]);
        expected.distance_squares += (before[i] - anchor[i]) * (before[i] - anchor[i]);
        expected.distance += std::abs(before[i] - anchor[i]);
      }
      const ParameterSums got = optimizer.sums()[1];
      // Terms are exact products in double, but differences are taken in the device's precision: 2^-24 of each weight.
      EXPECT_NEAR(got.gradient_squares, expected.gradient_squares, 1e-12 * expected.gradient_squares);
      EXPECT_NEAR(got.weight_squares, expected.weight_squares, 1e-12 * expected.weight_squares);
      EXPECT_NEAR(got.change_squares, expected.change_squares, 1e-6 * expected.change_squares);
      EXPECT_NEAR(got.distance_squares, expected.distance_squares, 1e-6 * expected.distance_squares);
      EXPECT_NEAR(got.distance, expected.distance, 1e-6 * expected.distance);
      EXPECT_EQ(optimizer.sums()[2].weight_squares, 0);  // frozen
      EXPECT_EQ(optimizer.penalty(), 0);
    }
    EXPECT_THROW(without.sums(), Error);
    EXPECT_THROW(Optimizer(net.set, kAdam).gradient_norm(), Error);
  }
}

TEST(RelativeRates, EqualTheProcedureOfTorchStepByStep) {
  const std::vector<std::int64_t> sizes{6, 4, 3, 5, 2};
  const std::vector<int> groups{0, 1, 2, 0, -1};  // 0 and 3 as of one module
  for (DeviceKind kind : {DeviceKind::reference, DeviceKind::cpu}) {
    const double tolerance = kind == DeviceKind::reference ? 1e-13 : 2e-6;  // ten steps of float32 rounding
    Network net(sizes, kind);
    net.write(2, Values(3, 0.0));  // a fresh bias: multiplier 1 in the first step, out of the maximum
    Optimizer optimizer(net.set, kAdam);
    for (std::size_t t = 0; t < groups.size(); ++t) optimizer.set_group(t, {.decay = 0.02, .rate_group = groups[t]});
    std::size_t at = 0;
    for (int step = 0; step < 10; ++step) {
      net.set.clear_gradients();
      for (int t = 0; t < net.count(); ++t) {
        const double scale = (1 + 0.8 * std::sin(2.0 * step + 3.0 * t)) / (t + 1);
        Values g;
        for (int i = 0; i < sizes[std::size_t(t)]; ++i) g.push_back(scale * gradient_value(t, step, i));
        net.write_gradient(t, g);
      }
      optimizer.step({.lr = kLr, .relative_rates = RelativeRates{.epsilon = 0.01, .window = 3}});
      for (int t = 0; t < net.count(); ++t)
        for (double x : net.values(t)) ASSERT_NEAR(x, torch_numbers::kAutoRgn[at++], tolerance) << step << " " << t;
      for (double rate : optimizer.rates()) ASSERT_NEAR(rate, torch_numbers::kAutoRgn[at++], tolerance) << step;
    }
    EXPECT_EQ(at, std::size(torch_numbers::kAutoRgn));
  }
}

TEST(RelativeRates, AreOneWithoutThem) {
  Network net({6, 4});
  Optimizer optimizer(net.set, kAdam);
  optimizer.set_group(0, {.rate_group = 0}), optimizer.set_group(1, {.rate_group = 1});
  net.write_gradients(0);
  optimizer.step(kLr);
  EXPECT_EQ(optimizer.rates(), Values(2, 1.0));
  net.write_gradient(0, Values(6, 0.0)), net.write_gradient(1, Values(4, 0.0));
  optimizer.step({.lr = kLr, .relative_rates = RelativeRates{.epsilon = 0.01}});
  EXPECT_EQ(optimizer.rates(), Values(2, 1.0));  // nothing to compare
}

TEST(RelativeRates, HistorySurvivesItsRestoration) {
  const StepSpec spec{.lr = kLr, .relative_rates = RelativeRates{.epsilon = 0.01, .window = 3}};
  Network first({6, 4}), second({6, 4});
  Optimizer a(first.set, kAdam), b(second.set, kAdam);
  for (Optimizer* o : {&a, &b})
    for (std::size_t i : {0u, 1u}) o->set_group(i, {.rate_group = int(i)});
  for (int step = 0; step < 4; ++step) first.write_gradients(step), a.step(spec);
  b.restore_rate_history(a.rate_history());
  EXPECT_EQ(b.rate_history().rows, a.rate_history().rows);
  second.write(0, first.values(0)), second.write(1, first.values(1));
  first.write_gradients(4), second.write_gradients(4);
  a.step(spec), b.step(spec);
  EXPECT_EQ(a.rates(), b.rates());
  EXPECT_EQ(a.rate_history().rows, b.rate_history().rows);
  EXPECT_THROW(b.restore_rate_history({3, Values(5)}), Error);
}

TEST(Steps, RefuseWhatIsOutOfRange) {
  Network net({6});
  Optimizer optimizer(net.set, kAdam);
  net.write_gradients(0);
  EXPECT_THROW(optimizer.step(std::nan("")), Error);
  EXPECT_THROW(optimizer.step({.lr = 1, .loss_scale = 0}), Error);
  EXPECT_THROW(optimizer.step({.lr = 1, .max_gradient_norm = -1}), Error);
  EXPECT_THROW(optimizer.step({.lr = 1, .relative_rates = RelativeRates{.epsilon = 0, .window = 0}}), Error);
}

}  // namespace
}  // namespace graft
