// DenseNet-121 on a device that takes a norm and the convolution behind it as one: the same results as with the two one
// after the other, whatever trains. The device is the reference; how well a GPU computes the calls is the op cases'
// affair.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/observed_backend.h"
#include "models_testing.h"
#include "nn/losses.h"
#include "optim/optimizer.h"

namespace graft {
namespace {

class RunsAll final : public DeviceObserver {
 public:
  void call(const DeviceCall& call, const std::function<void()>& run) override {
    ++calls[std::string(call.op)];
    run();
  }
  std::map<std::string, int> calls;
};

class Fusing final : public ObservedBackend {
 public:
  explicit Fusing(DeviceObserver& observer)
      : ObservedBackend(make_backend({DeviceKind::reference}, {.threads = 2}), observer) {}
  bool fuses_norm_conv(const ConvSpec&, ConstView, const NormalizeArgs&, const WeightView&, NormConvUse) override {
    return true;
  }
};

enum class Trains { everything, fixed_statistics, norms, last_block, by_channel };

struct Outcome {
  std::vector<double> loss, gradients, values, predictions;
  std::map<std::string, int> calls;
};

Outcome train(Trains what, bool fuses) {
  RunsAll observer;
  std::unique_ptr<Backend> device;
  if (fuses)
    device = std::make_unique<Fusing>(observer);
  else
    device = std::make_unique<ObservedBackend>(make_backend({DeviceKind::reference}, {.threads = 2}), observer);
  Context context(std::move(device));
  const auto network = make_network(context, {.architecture = "densenet121", .num_classes = 3, .head = "original"});
  fill_by_formula(*network);
  ParameterSet& parameters = network->parameters();
  for (RunningStatistics& s : parameters.statistics()) {
    s.use_batch_statistics = what != Trains::fixed_statistics;
    s.batch_share = what == Trains::by_channel ? 0.5 : 1;
  }
  for (Parameter& p : parameters.parameters()) {
    const bool is_norm = p.role == Role::norm_scale || p.role == Role::norm_shift;
    const bool is_last = p.name.find("denseblock4") != std::string::npos;
    p.is_trainable = what == Trains::norms ? is_norm : what == Trains::last_block ? is_last : true;
  }
  parameters.prepare_gradients();
  Optimizer optimizer(parameters, {.kind = OptimizerKind::sgd});
  optimizer.prepare();
  constexpr std::int64_t side = 32;
  const Tensor x = from_host(context, {2, 3, side, side}, formula_values("x", 6 * side * side, 0, 1));
  const Tensor labels = labels_to_device(context, std::vector<std::int32_t>{0, 2}, 3);
  Outcome outcome;
  for (int step = 0; step < 2; ++step) {
    context.start_step(3, step);
    parameters.clear_gradients();
    const Tensor loss = softmax_cross_entropy(network->forward(x), labels).loss;
    outcome.loss.push_back(loss.to_host()[0]);
    context.tape().backward(loss);
    if (step == 0) outcome.gradients = parameters.gradients().to_host();
    optimizer.step(1e-7);
  }
  outcome.calls = observer.calls;
  outcome.values = parameters.values().to_host();
  context.set_training(false);
  const Inference inference(context);
  outcome.predictions = network->forward(x).to_host();
  return outcome;
}

void expect_near(const std::vector<double>& a, const std::vector<double>& b) {
  ASSERT_EQ(a.size(), b.size());
  double most = 0, off = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::abs(a[i]));
    off = std::max(off, std::abs(a[i] - b[i]));
  }
  EXPECT_GT(most, 0);
  EXPECT_LE(off, 1e-12 * most);
}

class FusedNorms : public ::testing::TestWithParam<Trains> {};
INSTANTIATE_TEST_SUITE_P(DenseNet121, FusedNorms,
                         ::testing::Values(Trains::everything, Trains::fixed_statistics, Trains::norms,
                                           Trains::last_block, Trains::by_channel));

TEST_P(FusedNorms, GiveTheSameResults) {
  const Outcome parts = train(GetParam(), false), fused = train(GetParam(), true);
  EXPECT_TRUE(std::isfinite(parts.loss.back()));
  expect_near(fused.loss, parts.loss);
  expect_near(fused.gradients, parts.gradients);
  expect_near(fused.values, parts.values);
  expect_near(fused.predictions, parts.predictions);
  constexpr int kSteps = 2, kLayers = 58, kLast = 16;
  const bool can = GetParam() != Trains::by_channel;  // two kinds of statistics in one norm stay two operations
  EXPECT_EQ(parts.calls.contains("norm_conv"), false);
  const auto count = [&](const char* op) { return fused.calls.contains(op) ? fused.calls.at(op) : 0; };
  EXPECT_EQ(count("norm_conv"), can ? kSteps * kLayers : 0);
  const bool last_only = GetParam() == Trains::last_block;
  EXPECT_EQ(count("norm_conv_weight_grad"),
            !can || GetParam() == Trains::norms ? 0 : kSteps * (last_only ? kLast : kLayers));
  EXPECT_EQ(count("norm_conv_data_grad"), can ? kSteps * (last_only ? kLast : kLayers) : 0);
}

}  // namespace
}  // namespace graft
