// What backward computes again instead of keeping it: the same bits everywhere, for less memory.
#include <gtest/gtest.h>

#include <cmath>

#include "models_testing.h"
#include "nn/losses.h"
#include "optim/optimizer.h"

namespace graft {
namespace {

enum class Statistics { of_batch, fixed, by_channel };

struct StepOutcome {
  std::vector<double> loss, values;  // of two steps; parameters and running statistics after them
  std::int64_t saved_bytes = 0;      // between forward and backward, beyond what was there before
};

StepOutcome train(DeviceKind device, const std::string& architecture, Statistics statistics, bool recomputes) {
  Context context(make_backend(test_device(device), {.threads = 2}));
  context.set_recomputes_norms(recomputes);
  const auto network = make_network(
      context, {.architecture = architecture, .num_classes = 3, .head = architecture == "vgg19" ? "gap" : "original"});
  fill_by_formula(*network);
  ParameterSet& parameters = network->parameters();
  for (RunningStatistics& s : parameters.statistics()) {
    s.use_batch_statistics = statistics != Statistics::fixed;
    s.batch_share = statistics == Statistics::by_channel ? 0.5 : 1;
  }
  Optimizer optimizer(parameters, {.kind = OptimizerKind::sgd});
  optimizer.prepare();
  constexpr std::int64_t side = 32;
  const Tensor x = from_host(context, {2, 3, side, side}, formula_values("x", 6 * side * side, 0, 1));
  const Tensor labels = labels_to_device(context, std::vector<std::int32_t>{0, 2}, 3);
  StepOutcome outcome;
  for (int step = 0; step < 2; ++step) {
    context.start_step(3, step);
    parameters.clear_gradients();
    const std::int64_t before = context.backend().memory().live_bytes;
    const Tensor loss = softmax_cross_entropy(network->forward(x), labels).loss;
    outcome.loss.push_back(loss.to_host()[0]);
    outcome.saved_bytes = context.backend().memory().live_bytes - before;
    context.tape().backward(loss);
    optimizer.step(1e-7);
  }
  outcome.values = parameters.values().to_host();
  return outcome;
}

class Recompute : public ::testing::TestWithParam<std::tuple<DeviceKind, const char*, Statistics>> {};

INSTANTIATE_TEST_SUITE_P(
    Cpu, Recompute,
    ::testing::Combine(::testing::Values(DeviceKind::cpu), ::testing::Values("resnet50", "densenet121"),
                       ::testing::Values(Statistics::of_batch, Statistics::fixed, Statistics::by_channel)));
INSTANTIATE_TEST_SUITE_P(CpuWithoutNorms, Recompute,
                         ::testing::Combine(::testing::Values(DeviceKind::cpu), ::testing::Values("vgg19"),
                                            ::testing::Values(Statistics::of_batch)));
INSTANTIATE_TEST_SUITE_P(Reference, Recompute,
                         ::testing::Combine(::testing::Values(DeviceKind::reference), ::testing::Values("densenet121"),
                                            ::testing::Values(Statistics::of_batch)));

TEST_P(Recompute, GivesTheSameBitsForLessMemory) {
  const auto [device, architecture, statistics] = GetParam();
  const StepOutcome kept = train(device, architecture, statistics, false);
  const StepOutcome made_again = train(device, architecture, statistics, true);
  EXPECT_TRUE(std::isfinite(kept.loss.back()));
  EXPECT_EQ(kept.loss, made_again.loss);
  EXPECT_EQ(kept.values, made_again.values);
  const std::string name = architecture;
  const double share = name == "vgg19" ? 1 : name == "resnet50" ? 0.85 : 0.5;  // VGG-19 has no norms
  EXPECT_LE(double(made_again.saved_bytes), share * double(kept.saved_bytes));
  RecordProperty("saved_bytes", int(kept.saved_bytes));
  RecordProperty("saved_bytes_when_recomputing", int(made_again.saved_bytes));
}

}  // namespace
}  // namespace graft
