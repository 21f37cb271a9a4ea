// oneDNN falls back to plain loops, a hundred times too slow, when a shape or format does not suit its kernels, and
// says nothing. These tests run one training step of every network at its real size and read what was chosen.
#include <gtest/gtest.h>

#include "kernels/cpu/cpu_backend.h"
#include "models/network.h"
#include "nn/losses.h"

namespace graft {
namespace {

class OneDnnImplementation : public testing::TestWithParam<std::tuple<const char*, bool>> {};

TEST_P(OneDnnImplementation, IsNeverPlainLoops) {
  constexpr std::int64_t kBatch = 2, kSize = 224;
  const auto& [architecture, allows_winograd] = GetParam();
  Context context(make_cpu_backend({.allows_winograd = allows_winograd}));
  ModelInfo info;
  info.architecture = architecture;
  const auto network = make_network(context, info);
  network->parameters().prepare_gradients();
  const Tensor x = zeros(context, {kBatch, 3, kSize, kSize});
  const Tensor labels = labels_to_device(context, std::vector<std::int32_t>{1, 2}, info.num_classes);
  context.tape().backward(softmax_cross_entropy(network->forward(x), labels).loss);

  const std::vector<std::string> lines = cpu_implementations(context.backend());
  int forward = 0, data = 0, weight = 0, winograd = 0;
  for (const std::string& line : lines) {
    EXPECT_EQ(line.find("ref"), std::string::npos) << line;
    EXPECT_NE(line.find("jit"), std::string::npos) << line;
    forward += line.starts_with("forward");
    data += line.starts_with("data gradient");
    weight += line.starts_with("weight gradient");
    winograd += line.find("wino") != std::string::npos;
  }
  // Every network has 3 x 3 convolutions that it suits, forward and both gradients.
  if (allows_winograd && __builtin_cpu_supports("avx512f")) {
    EXPECT_GE(winograd, 6);
  } else {
    EXPECT_EQ(winograd, 0);
  }
  EXPECT_GE(forward, 9);  // distinct shapes: VGG-19 has the fewest
  EXPECT_EQ(weight, forward);
  EXPECT_EQ(data, forward - 1);  // the images need no gradient
  // Only the images change their format: everything else stays in oneDNN's blocks from end to end, but for the step
  // from the last feature map to the classifier.
  EXPECT_LE(context.reorders, 2);
}

/// Evaluation folds batch norm: convolutions with bias, residual and ReLU behind them.
TEST_P(OneDnnImplementation, IsNeverPlainLoopsInEvaluation) {
  const auto& [architecture, allows_winograd] = GetParam();
  Context context(make_cpu_backend({.allows_winograd = allows_winograd}));
  ModelInfo info;
  info.architecture = architecture;
  const auto network = make_network(context, info);
  context.set_training(false);
  const Inference inference(context);
  network->forward(zeros(context, {1, 3, 224, 224}));
  const std::vector<std::string> lines = cpu_implementations(context.backend());
  EXPECT_GE(lines.size(), 9u);
  for (const std::string& line : lines) {
    EXPECT_EQ(line.find("ref"), std::string::npos) << line;
    EXPECT_NE(line.find("jit"), std::string::npos) << line;
  }
  EXPECT_LE(context.reorders, 2);
}

std::string name_of(const testing::TestParamInfo<std::tuple<const char*, bool>>& test) {
  return std::string(std::get<0>(test.param)) + (std::get<1>(test.param) ? "_winograd" : "");
}

INSTANTIATE_TEST_SUITE_P(Networks, OneDnnImplementation,
                         testing::Combine(testing::Values("resnet50", "densenet121", "vgg19"), testing::Bool()),
                         name_of);

}  // namespace
}  // namespace graft
