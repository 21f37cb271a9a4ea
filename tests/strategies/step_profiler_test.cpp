// What a profile attributes to whom: FLOPs of whole networks against known figures without computing anything, every
// call to one layer and pass, and nothing backward for what is frozen.
#include "strategies/analysis/step_profiler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "models/network.h"
#include "optim/optimizer.h"
#include "tensor/ops.h"

namespace graft::testing {
namespace {

/// Runs nothing: networks of full size in a moment.
struct DryRun final : DeviceObserver {
  void call(const DeviceCall&, const std::function<void()>&) override {}
};

/// One training step of one image with nothing but its calls.
struct DryStep {
  TimedStep step;
  std::vector<std::string> layers;
  std::set<std::string> layers_with_parameters;

  double flops(StepPart part) const {
    double sum = 0;
    for (const TimedCall& c : step.calls)
      if (c.part == part) sum += c.flops;
    return sum;
  }
  std::set<std::string> layers_of(StepPart part) const {
    std::set<std::string> names;
    for (const TimedCall& c : step.calls)
      if (c.part == part) names.insert(layers[std::size_t(c.layer)]);
    return names;
  }
};

DryStep dry_step(
    const std::string& architecture, std::int64_t size, const std::function<void(Network&)>& freeze = [](Network&) {}) {
  DryRun dry;
  StepProfiler profiler;
  auto inner = std::make_unique<ObservedBackend>(make_backend({DeviceKind::cpu}, {.threads = 1}), dry);
  Context context(std::make_unique<ObservedBackend>(std::move(inner), profiler));
  profiler.attach(context.backend());
  const auto network = make_network(context, {.architecture = architecture, .num_classes = 1000});
  network->set_dropout(0);
  freeze(*network);
  network->parameters().prepare_gradients();
  Optimizer optimizer(network->parameters(), {.kind = OptimizerKind::sgd, .momentum = 0.9});
  optimizer.prepare();

  profiler.set_mode(StepProfiler::Mode::calls);
  {
    const NamedRange step(context.backend(), "step");
    std::optional<NamedRange> part;
    part.emplace(context.backend(), "data");
    const Tensor x = empty(context, {1, 3, size, size});
    const Tensor labels = labels_to_device(context, std::vector<std::int32_t>{7}, 1000);
    part.emplace(context.backend(), "forward");
    const Tensor logits = network->forward(x);
    Tensor loss;
    {
      const Scope scope(context, "loss");
      loss = softmax_cross_entropy(logits, labels).loss;
    }
    part.emplace(context.backend(), "backward");
    context.tape().backward(loss);
    part.emplace(context.backend(), "update");
    optimizer.step(0.1);
  }
  std::vector<TimedStep> steps = profiler.take_steps();
  DryStep result{steps.at(0), profiler.layers(), {}};
  for (const Parameter& p : network->parameters().parameters())
    result.layers_with_parameters.insert(p.name.substr(0, p.name.rfind('.')));
  return result;
}

TEST(StepProfiler, FlopsOfNetworksAreTheKnownOnes) {
  // Multiply-adds of a forward pass at 224 px as published for torchvision's networks (4.09, 2.83, 19.63 G), to the
  // last one, less what DenseNet's transitions save: they convolve a quarter of the pixels. Training has three times as
  // many but for the data gradient of the first convolution.
  struct Known {
    const char* architecture;
    double multiply_adds, saved, first_convolution;
  };
  constexpr double kTransition = 256 * 128 * 56 * 56;  // each of the three
  for (const Known& known : {Known{"resnet50", 4'089'184'256, 0, 118'013'952},
                             {"densenet121", 2'834'161'664, 3 * kTransition * 3 / 4, 118'013'952},
                             {"vgg19", 19'632'062'464, 0, 86'704'128}}) {
    const DryStep step = dry_step(known.architecture, 224);
    const double multiply_adds = known.multiply_adds - known.saved;
    EXPECT_EQ(step.flops(StepPart::forward), 2 * multiply_adds) << known.architecture;
    EXPECT_EQ(step.flops(StepPart::backward), 4 * multiply_adds - 2 * known.first_convolution) << known.architecture;
    EXPECT_EQ(step.flops(StepPart::data), 0);
    EXPECT_EQ(step.flops(StepPart::update), 0);
  }
}

TEST(StepProfiler, EveryCallHasOneLayerAndPass) {
  for (const char* architecture : {"resnet50", "densenet121", "vgg19"}) {
    const DryStep step = dry_step(architecture, 64);
    const std::set<std::string> forward = step.layers_of(StepPart::forward),
                                backward = step.layers_of(StepPart::backward);
    // Nothing forward lies outside the layers; backward only the gradient that it begins with.
    EXPECT_FALSE(forward.contains("network")) << architecture;
    for (const TimedCall& c : step.step.calls) {
      const bool has_layer = step.layers[std::size_t(c.layer)] != "network";
      EXPECT_TRUE(c.part != StepPart::backward || has_layer || c.op == "copy_in") << c.op;
    }
    for (const std::string& layer : step.layers_with_parameters) {
      EXPECT_TRUE(forward.contains(layer)) << layer;
      EXPECT_TRUE(backward.contains(layer)) << layer;
    }
    for (const std::string& layer : backward) EXPECT_TRUE(layer == "network" || forward.contains(layer)) << layer;
  }
}

TEST(StepProfiler, NamesAreThoseOfTorchvision) {
  const std::set<std::string> resnet = dry_step("resnet50", 64).layers_of(StepPart::forward);
  for (const char* name : {"conv1", "bn1", "maxpool", "layer1.0.conv1", "layer4.2.bn3", "avgpool", "fc", "loss"})
    EXPECT_TRUE(resnet.contains(name)) << name;
  const std::set<std::string> densenet = dry_step("densenet121", 64).layers_of(StepPart::forward);
  for (const char* name : {"features.pool0", "features.denseblock1.denselayer1.conv2", "features.transition3.pool",
                           "features.denseblock4", "features.norm5", "classifier"})
    EXPECT_TRUE(densenet.contains(name)) << name;
  const std::set<std::string> vgg = dry_step("vgg19", 64).layers_of(StepPart::forward);
  for (const char* name : {"features.0", "features.4", "features.36", "avgpool", "classifier.0", "classifier.6"})
    EXPECT_TRUE(vgg.contains(name)) << name;
}

TEST(StepProfiler, WhatIsFrozenHasNoBackward) {
  const auto all_but_head = [](Network& network) {
    for (Parameter& p : network.parameters().parameters()) p.is_trainable = network.is_head(p);
  };
  const DryStep step = dry_step("resnet50", 224, all_but_head);
  const std::set<std::string> backward = step.layers_of(StepPart::backward);
  EXPECT_EQ(backward, (std::set<std::string>{"fc", "loss", "network"}));
  EXPECT_EQ(step.flops(StepPart::backward), 2.0 * 2048 * 1000);  // the weight's gradient alone
  EXPECT_EQ(step.flops(StepPart::forward), 2.0 * 4'089'184'256);
}

TEST(StepProfiler, BytesAreThoseOfTheTensors) {
  const DryStep step = dry_step("vgg19", 224);
  const auto first = std::ranges::find(step.step.calls, "conv", &TimedCall::op);
  ASSERT_NE(first, step.step.calls.end());
  // x and y of the first convolution, its weight and bias, in float32.
  EXPECT_EQ(first->bytes, 4 * (3 * 224 * 224 + 64 * 224 * 224 + 64 * 3 * 9 + 64));
  // The update reads gradient, value and moment and writes the last two: 20 bytes a parameter.
  const auto update = std::ranges::find(step.step.calls, "update", &TimedCall::op);
  ASSERT_NE(update, step.step.calls.end());
  EXPECT_EQ(update->bytes, 20 * std::int64_t{143'667'240});
}

/// A device whose calls take as long as they say.
class FakeTimer final : public DeviceTimer {
 public:
  FakeTimer(const double& now, bool& fails) : now_(now), fails_(fails) {}
  std::int64_t mark() override {
    marks_.push_back(now_);
    return std::int64_t(marks_.size()) - 1;
  }
  std::vector<double> take() override {
    if (std::exchange(fails_, false)) throw Error("waiting for an event failed");
    std::vector<double> seconds;
    for (double m : marks_) seconds.push_back(m - marks_.front());
    marks_.clear();
    return seconds;
  }

 private:
  const double& now_;
  bool& fails_;
  std::vector<double> marks_;
};

class Timed : public ::testing::Test {
 protected:
  void SetUp() override { profiler_.attach(std::make_unique<FakeTimer>(now_, device_fails_)); }
  void run(const char* op, double seconds) {
    profiler_.call({.op = op, .detail = {}, .writes = {}, .reads = {}}, [&] { now_ += seconds; });
  }
  void push(std::string_view name) { profiler_.push_range(name); }
  void pop() { profiler_.pop_range(); }

  double now_ = 100;
  bool device_fails_ = false;
  StepProfiler profiler_;
};

TEST_F(Timed, CallsPartsAndStepsGetTheirTimes) {
  profiler_.set_mode(StepProfiler::Mode::calls);
  run("before", 1);
  push("step");
  push("data"), run("copy_in", 2), pop();
  now_ += 0.5;  // the host alone
  push("forward"), push("layer1"), push("conv"), run("conv", 4), pop(), run("add", 8), pop(), pop();
  push("update"), run("update", 16), pop();
  pop();
  run("after", 1);
  const std::vector<TimedStep> steps = profiler_.take_steps();
  ASSERT_EQ(steps.size(), 1u);
  const TimedStep& s = steps[0];
  EXPECT_EQ(s.seconds, 30.5);
  EXPECT_EQ(s.part_seconds(StepPart::data), 2);
  EXPECT_EQ(s.part_seconds(StepPart::forward), 12);
  EXPECT_EQ(s.part_seconds(StepPart::backward), 0);
  EXPECT_EQ(s.part_seconds(StepPart::update), 16);
  ASSERT_EQ(s.calls.size(), 4u);
  EXPECT_EQ(s.calls[1].begin, 2.5);
  EXPECT_EQ(s.calls[1].seconds, 4);
  EXPECT_EQ(profiler_.layers()[std::size_t(s.calls[1].layer)], "layer1.conv");
  EXPECT_EQ(profiler_.layers()[std::size_t(s.calls[2].layer)], "layer1");
  EXPECT_EQ(profiler_.layers()[std::size_t(s.calls[3].layer)], "network");
}

TEST_F(Timed, ModesHoldFromTheNextStep) {
  push("step"), push("forward"), run("conv", 1), pop(), pop();  // off
  profiler_.set_mode(StepProfiler::Mode::step);
  push("step");
  profiler_.set_mode(StepProfiler::Mode::calls);
  push("forward"), run("conv", 2), pop(), pop();
  push("other"), push("step"), push("forward"), run("conv", 9), pop(), pop(), pop();  // inside something else: no step
  push("step"), push("forward"), run("conv", 3), pop(), pop();
  const std::vector<TimedStep> steps = profiler_.take_steps();
  ASSERT_EQ(steps.size(), 2u);
  EXPECT_EQ(steps[0].seconds, 2);
  EXPECT_TRUE(steps[0].calls.empty());
  EXPECT_EQ(steps[1].seconds, 3);
  EXPECT_EQ(steps[1].calls.size(), 1u);
}

TEST_F(Timed, AFailureOfTheDeviceAtAStepsEndComesWhenStepsAreTaken) {
  profiler_.set_mode(StepProfiler::Mode::calls);
  device_fails_ = true;
  ObservedBackend device(make_backend({DeviceKind::cpu}, {.threads = 1}), profiler_);
  {
    const NamedRange step(device, "step");  // whose destructor would end the program
    const NamedRange part(device, "forward");
    run("conv", 1);
  }
  EXPECT_THROW(profiler_.take_steps(), Error);
  EXPECT_TRUE(profiler_.take_steps().empty());
}

TEST_F(Timed, AStepHasNoOtherParts) {
  profiler_.set_mode(StepProfiler::Mode::calls);
  push("step");
  EXPECT_THROW(push("forwards"), Error);
}

}  // namespace
}  // namespace graft::testing
