// oneDNN falls back to plain loops, a hundred times too slow, when a shape or format does not suit its kernels, and
// says nothing. These tests run one training step of every network at its real size and read what was chosen.
#include <gtest/gtest.h>

#include <array>

#include "kernels/cpu/cpu_device.h"
#include "models/network.h"
#include "nn/losses.h"

namespace graft {
namespace {

enum class Arithmetic { direct, winograd, bf16 };

class OneDnnImplementation : public testing::TestWithParam<std::tuple<const char*, Arithmetic>> {
 protected:
  void SetUp() override {
    const std::string reason = arithmetic() == Arithmetic::bf16 ? cpu_bf16_unavailable_reason() : "";
    if (!reason.empty()) GTEST_SKIP() << "not run in bf16 on the CPU: " << reason;
  }
  static const char* architecture() { return std::get<0>(GetParam()); }
  static Arithmetic arithmetic() { return std::get<1>(GetParam()); }
  static std::unique_ptr<Backend> device() {
    return make_cpu_backend({.allows_winograd = arithmetic() == Arithmetic::winograd,
                             .precision = arithmetic() == Arithmetic::bf16 ? Precision::bf16 : Precision::f32});
  }
  static Tensor images(Context& context, std::int64_t batch) {
    return converted(zeros(context, {batch, 3, 224, 224}), context.activation_type());
  }
  /// For these 3 x 3 convolutions oneDNN is not asked.
  static bool has_own_winograd(const Backend& device) {
    return arithmetic() == Arithmetic::winograd && device.description().find("AVX-512") == std::string::npos;
  }
  static constexpr int kDistinctShapes = 9;  // at least: VGG-19 has the fewest
  static void expect_no_plain_loops(const std::vector<std::string>& lines) {
    for (const std::string& line : lines) {
      EXPECT_EQ(line.find("ref"), std::string::npos) << line;
      EXPECT_TRUE(line.find("jit") != line.npos || line.find("brgconv") != line.npos) << line;
    }
  }
};

TEST_P(OneDnnImplementation, IsNeverPlainLoops) {
  constexpr std::int64_t kBatch = 2;
  Context context(device());
  ModelInfo info;
  info.architecture = architecture();
  const auto network = make_network(context, info);
  network->parameters().prepare_gradients();
  const Tensor x = images(context, kBatch);
  const Tensor labels = labels_to_device(context, std::vector<std::int32_t>{1, 2}, info.num_classes);
  context.tape().backward(softmax_cross_entropy(network->forward(x), labels).loss);

  const std::vector<std::string> lines = cpu_implementations(context.backend());
  int forward = 0, data = 0, weight = 0, winograd = 0;
  expect_no_plain_loops(lines);
  for (const std::string& line : lines) {
    forward += line.starts_with("forward");
    data += line.starts_with("data gradient");
    weight += line.starts_with("weight gradient");
    winograd += line.find("wino") != std::string::npos;
  }
  // Every network has 3 x 3 convolutions that it suits, forward and both gradients.
  const bool is_own = has_own_winograd(context.backend());
  if (arithmetic() == Arithmetic::winograd && !is_own) {
    EXPECT_GE(winograd, 6);
  } else {
    EXPECT_EQ(winograd, 0);
  }
  EXPECT_GE(forward, is_own ? 2 : kDistinctShapes);
  const int images = 1;                              // the images need no gradient
  if (arithmetic() == Arithmetic::bf16 || is_own) {  // some gradients are graft's: products of matrices, or Winograd's
    EXPECT_LE(weight, forward);
    EXPECT_LE(data, forward - images);
  } else {
    EXPECT_EQ(weight, forward);
    EXPECT_EQ(data, forward - images);
  }
  // Only the images change their format: everything else stays in oneDNN's blocks from end to end, but for the step
  // from the last feature map to the classifier.
  EXPECT_LE(context.reorders, 2);
}

/// Evaluation folds batch norm: convolutions with bias, residual and ReLU behind them.
TEST_P(OneDnnImplementation, IsNeverPlainLoopsInEvaluation) {
  Context context(device());
  ModelInfo info;
  info.architecture = architecture();
  const auto network = make_network(context, info);
  context.set_training(false);
  const Inference inference(context);
  network->forward(images(context, 1));
  const std::vector<std::string> lines = cpu_implementations(context.backend());
  EXPECT_GE(int(lines.size()), has_own_winograd(context.backend()) ? 3 : kDistinctShapes);
  expect_no_plain_loops(lines);
  EXPECT_LE(context.reorders, 2);
}

std::string name_of(const testing::TestParamInfo<std::tuple<const char*, Arithmetic>>& test) {
  constexpr std::array kEnds = {"", "_winograd", "_bf16"};
  return std::string(std::get<0>(test.param)) + kEnds[std::size_t(std::get<1>(test.param))];
}

INSTANTIATE_TEST_SUITE_P(Networks, OneDnnImplementation,
                         testing::Combine(testing::Values("resnet50", "densenet121", "vgg19"),
                                          testing::Values(Arithmetic::direct, Arithmetic::winograd, Arithmetic::bf16)),
                         name_of);

}  // namespace
}  // namespace graft
