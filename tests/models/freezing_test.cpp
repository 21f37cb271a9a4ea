// Freezing parameters: what is frozen changes nothing for what trains, to the bit, and a frozen prefix is not recorded.
// Batch norms that are fixed here and there are compared with PyTorch in parity_test.cpp.
#include <gtest/gtest.h>

#include <map>

#include "models_testing.h"
#include "nn/losses.h"

namespace graft {
namespace {

class Freezing : public testing::TestWithParam<const char*> {
 protected:
  static constexpr std::int64_t kBatch = 3, kSize = 64, kClasses = 4;

  Freezing() {
    const std::string architecture = GetParam();
    network_ = make_network(
        context_,
        {.architecture = architecture, .num_classes = kClasses, .head = architecture == "vgg19" ? "gap" : "original"});
    fill_by_formula(*network_);
  }

  Tensor loss() {
    const Shape shape{kBatch, 3, kSize, kSize};
    const Tensor x = from_host(context_, shape, formula_values("input", shape.size(), 0, 2));
    const Tensor labels = labels_to_device(context_, std::vector<std::int32_t>{2, 0, 3}, kClasses);
    return TaskLoss(context_, {.num_classes = kClasses})(network_->forward(x), labels).loss;
  }

  std::map<std::string, std::vector<double>> gradients() {
    network_->parameters().prepare_gradients();
    context_.tape().backward(loss());
    std::map<std::string, std::vector<double>> found;
    for (const Parameter& p : network_->parameters().parameters())
      if (p.is_trainable) found[p.name] = p.gradient().to_host();
    return found;
  }

  Context context_{make_backend(test_device(DeviceKind::reference))};
  std::unique_ptr<Network> network_;
};

TEST_P(Freezing, WhatIsFrozenChangesNoOtherGradient) {
  for (RunningStatistics& s : network_->parameters().statistics()) s.update_running = false;
  const auto all = gradients();
  auto& parameters = network_->parameters().parameters();

  // A prefix of the network that ends inside a block, then every third parameter.
  const std::size_t half = parameters.size() / 2 + 1;
  for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i].is_trainable = i >= half;
  const auto later = gradients();
  EXPECT_EQ(later.size(), parameters.size() - half);
  for (const auto& [name, values] : later) EXPECT_EQ(values, all.at(name)) << name;

  for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i].is_trainable = i % 3 == 1;
  for (const auto& [name, values] : gradients()) EXPECT_EQ(values, all.at(name)) << name;
}

TEST_P(Freezing, FrozenPrefixIsNotRecorded) {
  loss();
  const std::size_t whole = context_.tape().size();
  context_.tape().clear();
  for (Parameter& p : network_->parameters().parameters()) p.is_trainable = network_->is_head(p);
  network_->parameters().prepare_gradients();
  loss();
  EXPECT_EQ(context_.tape().size(), 2u) << "of " << whole;  // linear, loss
  context_.tape().clear();
}

INSTANTIATE_TEST_SUITE_P(Networks, Freezing, testing::Values("resnet50", "densenet121", "vgg19"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace graft
