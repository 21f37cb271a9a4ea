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

class CountsCalls final : public DeviceObserver {
 public:
  void call(const DeviceCall& call, const std::function<void()>& run) override {
    ++calls[std::string(call.op)];
    run();
  }
  std::map<std::string, int> calls;
  std::map<NormConvUse, int> uses;  // that the device was asked about
};

class Fusing final : public ObservedBackend {
 public:
  explicit Fusing(CountsCalls& counts)
      : ObservedBackend(make_backend({DeviceKind::reference}, {.threads = 2}), counts), counts_(counts) {}
  bool fuses_norm_conv(const ConvSpec&, ConstView, const NormalizeArgs&, const WeightView&, NormConvUse use) override {
    ++counts_.uses[use];
    return true;
  }

 private:
  CountsCalls& counts_;
};

enum class Trains { everything, fixed_statistics, norms, last_block, by_channel };

struct Outcome {
  std::vector<double> loss, gradients, values, validation, predictions;
  CountsCalls training, whole;
};

/// Of what trains, one after the other: their arena as a whole has gaps, which nothing writes.
std::vector<double> gradients_of(const ParameterSet& parameters) {
  std::vector<double> all;
  for (const Parameter& p : parameters.parameters()) {
    if (!p.is_trainable) continue;
    const std::vector<double> one = p.gradient().to_host();
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

Outcome train(Trains what, bool fuses) {
  CountsCalls observer;
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
    if (step == 0) outcome.gradients = gradients_of(parameters);
    optimizer.step(1e-7);  // the formula's weights are far from any training's
  }
  outcome.training = observer;
  outcome.values = parameters.values().to_host();
  context.set_training(false);
  {
    const NoGrad validation(context);
    outcome.validation = network->forward(x).to_host();
  }
  const Inference inference(context);
  outcome.predictions = network->forward(x).to_host();
  outcome.whole = observer;
  return outcome;
}

class FusedNorms : public ::testing::TestWithParam<Trains> {};
INSTANTIATE_TEST_SUITE_P(DenseNet121, FusedNorms,
                         ::testing::Values(Trains::everything, Trains::fixed_statistics, Trains::norms,
                                           Trains::last_block, Trains::by_channel));

TEST_P(FusedNorms, GiveTheSameBits) {
  const Outcome parts = train(GetParam(), false), fused = train(GetParam(), true);
  EXPECT_TRUE(std::isfinite(parts.loss.back()));
  EXPECT_EQ(fused.loss, parts.loss);
  EXPECT_EQ(fused.gradients, parts.gradients);
  EXPECT_EQ(fused.values, parts.values);
  EXPECT_EQ(fused.validation, parts.validation);
  EXPECT_EQ(fused.predictions, parts.predictions);
  EXPECT_NE(fused.predictions, std::vector<double>(fused.predictions.size()));
}

TEST_P(FusedNorms, AreOneCallEachWay) {
  constexpr int kSteps = 2, kLayers = 58, kLast = 16;
  const Outcome fused = train(GetParam(), true);
  const bool last_only = GetParam() == Trains::last_block;
  const bool can = GetParam() != Trains::by_channel;  // two kinds of statistics in one norm stay two operations
  const auto count = [](const CountsCalls& of, const char* op) { return of.calls.contains(op) ? of.calls.at(op) : 0; };
  const int trained = can ? kSteps * (last_only ? kLast : kLayers) : 0;
  EXPECT_EQ(count(fused.training, "norm_conv"), can ? kSteps * kLayers : 0);
  EXPECT_EQ(count(fused.training, "norm_conv_weight_grad"), GetParam() == Trains::norms ? 0 : trained);
  EXPECT_EQ(count(fused.training, "norm_conv_data_grad"), trained);
  // Validation and prediction use running statistics, in all channels.
  EXPECT_EQ(count(fused.whole, "norm_conv") - count(fused.training, "norm_conv"), 2 * kLayers);
  std::map<NormConvUse, int> uses{{NormConvUse::forward, kLayers}, {NormConvUse::prediction, kLayers}};
  if (can) uses[NormConvUse::training] = trained, uses[NormConvUse::forward] += kSteps * kLayers - trained;
  EXPECT_EQ(fused.whole.uses, uses);
}

}  // namespace
}  // namespace graft
