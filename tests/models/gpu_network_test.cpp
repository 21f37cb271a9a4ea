// The three networks on a GPU beside the CPU, both held against the reference device: logits, every gradient, the loss
// after steps, and the same bits again. Skipped with the reason where there is no GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "models/network.h"
#include "nn/losses.h"
#include "optim/optimizer.h"
#include "tests/models/models_testing.h"

namespace graft {
namespace {

constexpr std::int64_t kBatch = 4, kClasses = 7;

struct Pass {
  std::vector<double> evaluated, logits;
  std::map<std::string, std::vector<double>> gradients;
  std::vector<double> losses;
};

/// Evaluates, takes one gradient, and three steps of SGD.
Pass run(DeviceKind device, const std::string& architecture) {
  Context context(make_backend(test_device(device)));
  const auto network = make_network(context, {.architecture = architecture, .num_classes = kClasses});
  network->set_dropout(0);
  fill_by_formula(*network);
  const std::int64_t size = architecture == "vgg19" ? 32 : 64;
  Tensor x = empty(context, {kBatch, 3, size, size});
  x.from_host(formula_values("gpu_network." + architecture, kBatch * 3 * size * size, 0, 1));
  const TaskLoss loss(context, {.num_classes = kClasses, .label_smoothing = 0.1});
  const Tensor labels = labels_to_device(context, std::vector<std::int32_t>{2, 6, 0, 2}, kClasses);

  Pass pass;
  {
    const NoGrad no_grad(context);
    context.set_training(false);
    pass.evaluated = network->forward(x).to_host();
    context.set_training(true);
  }
  Optimizer optimizer(network->parameters(), {.kind = OptimizerKind::sgd, .momentum = 0.9});
  optimizer.prepare();
  for (int step = 0; step < 3; ++step) {
    network->parameters().clear_gradients();
    const Tensor logits = network->forward(x);
    const Tensor value = loss(logits, labels).loss;
    context.tape().backward(value);
    pass.losses.push_back(value.to_host()[0]);
    if (step == 0) {
      pass.logits = logits.to_host();
      for (const Parameter& p : network->parameters().parameters()) pass.gradients[p.name] = p.gradient().to_host();
    }
    optimizer.step(1e-3);
  }
  return pass;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double off = 0, size = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    off += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(off / size);
}

class GpuNetwork : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (const std::string reason = cuda_unavailable_reason(); !reason.empty())
      GTEST_SKIP() << "not run on a GPU: " << reason;
  }
};

TEST_P(GpuNetwork, IsAsCloseToTheReferenceAsTheCpu) {
  const Pass truth = run(DeviceKind::reference, GetParam()), cpu = run(DeviceKind::cpu, GetParam()),
             gpu = run(DeviceKind::cuda, GetParam());
  EXPECT_LE(distance(gpu.evaluated, truth.evaluated), 1e-4);
  EXPECT_LE(distance(gpu.logits, truth.logits), 1e-4);
  // Rounding turns a few ReLUs, whose effect on a gradient is chance: single tensors may be some times further off than
  // the CPU's, half of them may not.
  std::vector<double> ratios;
  for (const auto& [name, expected] : truth.gradients) {
    const double on_gpu = distance(gpu.gradients.at(name), expected);
    const double on_cpu = std::max(distance(cpu.gradients.at(name), expected), 1e-6);
    ratios.push_back(on_gpu / on_cpu);
    EXPECT_LE(on_gpu, 8 * on_cpu) << name;
  }
  std::ranges::sort(ratios);
  EXPECT_LE(ratios[ratios.size() / 2], 2);
  std::printf("  gradients' distance over the CPU's: median %.2f, largest %.2f\n", ratios[ratios.size() / 2],
              ratios.back());
  // Rounding grows about thirty-fold a step.
  EXPECT_NEAR(gpu.losses[0], truth.losses[0], 1e-4 * truth.losses[0]);
  for (int step : {1, 2})
    EXPECT_LE(std::abs(gpu.losses[std::size_t(step)] - truth.losses[std::size_t(step)]),
              8 * std::abs(cpu.losses[std::size_t(step)] - truth.losses[std::size_t(step)]) +
                  1e-3 * truth.losses[std::size_t(step)])
        << "step " << step;
}

TEST_P(GpuNetwork, GivesTheSameBitsAgain) {
  const Pass first = run(DeviceKind::cuda, GetParam()), second = run(DeviceKind::cuda, GetParam());
  EXPECT_EQ(first.evaluated, second.evaluated);
  EXPECT_EQ(first.losses, second.losses);
  for (const auto& [name, gradient] : first.gradients) EXPECT_EQ(gradient, second.gradients.at(name)) << name;
}

INSTANTIATE_TEST_SUITE_P(Cuda, GpuNetwork, testing::Values("resnet50", "densenet121", "vgg19"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace graft
