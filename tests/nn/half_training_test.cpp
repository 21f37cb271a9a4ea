// Training with activations and weights in 16 bits, on the reference device: what loss scaling and wide masters are
// for.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/half.h"
#include "nn/layers.h"
#include "nn/losses.h"
#include "optim/optimizer.h"

namespace graft {
namespace {

/// Two linear layers with a ReLU between them, on a reference device of the given precision.
struct SmallNetwork {
  explicit SmallNetwork(Precision precision)
      : context(make_backend({DeviceKind::reference}, {.threads = 1, .precision = precision})),
        first({set, "first"}, 5, 4),
        second({set, "second"}, 3, 5),
        loss(context, {.num_classes = 3}) {
    set.allocate(context);
    int t = 0;
    for (Parameter& p : set.parameters()) {
      std::vector<double> values;
      for (int i = 0; i < p.shape.size(); ++i) values.push_back(std::sin(1.0 + 3 * t + 0.7 * i));
      p.value.from_host(values), ++p.version, ++t;
    }
  }

  /// The task's loss on a batch of 6, after a backward pass.
  double run(const Tensor& loss_scale, double share = 1) {
    std::vector<double> pixels;
    for (int i = 0; i < 24; ++i) pixels.push_back(rounded_to(DType::bf16, std::cos(0.4 + 1.7 * i)));
    const Tensor x = converted(from_host(context, {6, 4, 1, 1}, pixels), context.activation_type());
    const std::vector<std::int32_t> labels{0, 2, 1, 1, 0, 2};
    set.clear_gradients();
    const Tensor logits = second(first(x, Activation::relu));
    const Tensor value = loss(logits, labels_to_device(context, labels, 3)).loss;
    context.tape().backward(value, share, loss_scale);
    return value.to_host()[0];
  }
  std::vector<double> values() const { return set.values().to_host(); }

  Context context;
  ParameterSet set;
  Linear first, second;
  TaskLoss loss;
};

TEST(HalfTraining, LossScalingBringsANetworkBackFromOverflow) {
  SmallNetwork network(Precision::f16), exact(Precision::f32);
  // Gradients of logits are at most 1/6: 2^18 times that is within f16, 2^19 times may not be, 2^24 times is not.
  Optimizer optimizer(network.set, {.kind = OptimizerKind::sgd, .loss_scaling = LossScaling{.initial = 0x1p24}});
  Optimizer plain(exact.set, {.kind = OptimizerKind::sgd});
  const std::vector<double> start = network.values();
  int skipped = 0;
  for (;; ++skipped) {
    ASSERT_LT(skipped, 24);
    network.run(optimizer.loss_scale());
    optimizer.step(0.1);
    if (!optimizer.was_skipped()) break;
    EXPECT_EQ(network.values(), start);
    EXPECT_EQ(optimizer.loss_scale().to_host()[0], std::ldexp(0x1p23, -skipped));
  }
  EXPECT_GE(skipped, 5);
  EXPECT_EQ(optimizer.skipped_steps(), skipped);
  exact.run({}), plain.step(0.1);
  double before = 0, after = 0;
  for (int step = 0; step < 20; ++step) {
    after = network.run(optimizer.loss_scale());
    if (step == 0) before = after;
    optimizer.step(0.1);
    exact.run({}), plain.step(0.1);
  }
  EXPECT_EQ(optimizer.skipped_steps(), skipped);
  EXPECT_LT(after, 0.8 * before);
  // 21 steps, each of which rounds activations, gradients and weights to 11 bits, once or twice.
  const std::vector<double> got = network.values(), expected = exact.values();
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 21 * 0x1p-11) << i;
}

/// Without a scale small gradients vanish in f16; with it they arrive.
TEST(HalfTraining, LossScalingSavesGradientsThatF16CannotHold) {
  SmallNetwork network(Precision::f16), exact(Precision::f32);
  constexpr double kShare = 0x1p-22;  // of a loss, in a large window of accumulated batches say
  const auto gradient = [](SmallNetwork& n) { return n.set.find("first.weight").gradient().to_host(); };
  const Optimizer scaled(network.set, {.loss_scaling = LossScaling{}});
  network.run(scaled.loss_scale(), kShare);
  const std::vector<double> with_scale = gradient(network);
  network.run({}, kShare);
  const std::vector<double> without = gradient(network);
  exact.run({}, kShare);
  const std::vector<double> expected = gradient(exact);
  double largest = 0, off = 0, off_without = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    off = std::max(off, std::abs(with_scale[i] / 65536 - expected[i]));
    off_without = std::max(off_without, std::abs(without[i] - expected[i]));
  }
  EXPECT_LT(off, 0.02 * largest);
  EXPECT_GT(off_without, 0.2 * largest);
}

/// Weights are float64 here and move by far less than half a step of bf16 each time: the stored copy stays, and follows
/// when enough has gathered. Without masters nothing would ever move.
TEST(HalfTraining, MastersGatherWhatBf16CannotHold) {
  SmallNetwork network(Precision::bf16);
  Optimizer optimizer(network.set, {.kind = OptimizerKind::sgd, .momentum = 0});
  const auto stored = [&] { return network.set.find("first.weight").half.to_host(); };
  const auto masters = [&] { return network.set.find("first.weight").value.to_host(); };
  network.run({});
  const std::vector<double> first_stored = stored(), first_masters = masters();
  for (std::size_t i = 0; i < first_stored.size(); ++i)
    EXPECT_EQ(first_stored[i], rounded_to(DType::bf16, first_masters[i])) << i;
  std::vector<double> before = first_masters;
  double most = 0;
  constexpr int kSteps = 400;
  for (int step = 0; step < kSteps; ++step) {
    network.run({});
    optimizer.step(2e-4);
    const std::vector<double> now = masters();
    for (std::size_t i = 0; i < now.size(); ++i)
      most = std::max(most, std::abs(now[i] - before[i]) / std::ldexp(1.0, std::ilogb(before[i]) - 7));
    before = now;
    const std::vector<double> halves = stored();
    for (std::size_t i = 0; i < halves.size(); ++i) ASSERT_EQ(halves[i], rounded_to(DType::bf16, now[i])) << step;
  }
  EXPECT_LT(most, 0.5);  // of a step of bf16, per update
  EXPECT_NE(stored(), first_stored);
  double moved = 0;
  for (std::size_t i = 0; i < before.size(); ++i)
    moved = std::max(moved, std::abs(before[i] - first_masters[i]) / std::ldexp(1.0, std::ilogb(first_masters[i]) - 7));
  EXPECT_GT(moved, 1);  // more than a step of bf16 in all
}

}  // namespace
}  // namespace graft
