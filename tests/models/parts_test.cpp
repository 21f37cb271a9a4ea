// A network run in two ranges of parts, with what lies between copied through host memory as plain NHWC, equals the
// network run whole: every cut, all networks. In evaluation mode to the bit; in training mode, where DenseNet computes
// the statistics of a dense block anew behind a cut, to the rounding of double.
#include <gtest/gtest.h>

#include <algorithm>

#include "models/initialise.h"
#include "models_testing.h"
#include "nn/losses.h"

namespace graft {
namespace {

Tensor images(Context& context, const Shape& shape) {
  return from_host(context, shape, formula_values("images", shape.size(), 0, 2));
}

/// The same values in memory of their own, in plain order, unknown to the tape.
Tensor through_host(const Tensor& x) {
  Tensor copy = empty(x.context(), x.shape());
  copy.from_host(x.to_host());
  return copy;
}

TEST(Parts, EveryCutGivesTheSameBitsInEvaluation) {
  using Names = std::pair<std::string, std::string>;
  for (const auto& [architecture, head] : {Names{"resnet50", "original"}, Names{"densenet121", "original"},
                                           Names{"vgg19", "original"}, Names{"vgg19", "gap"}}) {
    Context context(make_backend(test_device(DeviceKind::cpu)));
    const auto network = make_network(context, {.architecture = architecture, .num_classes = 3, .head = head});
    initialise_from_scratch(*network, 1);
    context.set_training(false);
    const NoGrad no_grad(context);
    const Tensor x = images(context, {2, 3, 32, 32});
    const std::vector<double> whole = network->forward(x).to_host();
    EXPECT_EQ(network->parts(), int(network->blocks().size()) + 1);
    for (int cut = 0; cut <= network->parts(); ++cut) {
      const Tensor between = through_host(network->run_parts(x, 0, cut));
      EXPECT_EQ(network->run_parts(between, cut, network->parts()).to_host(), whole) << architecture << " " << cut;
    }
    EXPECT_EQ(network->features(x).to_host(), network->run_parts(x, 0, network->head_part()).to_host());
    const Tensor maps = network->last_maps(x);
    EXPECT_GE(std::ranges::min(maps.to_host()), -1e-20) << architecture;  // behind a ReLU of slope 1e-25
    EXPECT_EQ(network->logits_of(through_host(maps)).to_host(), whole) << architecture;
  }
}

/// Gradients of what lies behind the cut, by name.
std::map<std::string, std::vector<double>> gradients(Network& network, const Tensor& x, int begin) {
  Context& context = network.context();
  network.parameters().clear_gradients();
  const Tensor labels = labels_to_device(context, std::vector<std::int32_t>{0, 1, 2}, 3);
  context.tape().backward(softmax_cross_entropy(network.run_parts(x, begin, network.parts()), labels).loss);
  std::map<std::string, std::vector<double>> result;
  for (const Parameter& p : network.parameters().parameters())
    if (p.is_trainable) result[p.name] = p.gradient().to_host();
  return result;
}

TEST(Parts, TrainingBehindACutGivesTheGradientsOfTheWhole) {
  // DenseNet: a transition, whose norm uses the statistics of the dense block before it; and a dense block.
  for (const auto& [architecture, cut] : {std::pair{"resnet50", 4}, {"densenet121", 6}, {"densenet121", 7}}) {
    Context context(make_backend(test_device(DeviceKind::reference)));
    const auto network = make_network(context, {.architecture = architecture, .num_classes = 3});
    initialise_from_scratch(*network, 1);
    const Tensor x = images(context, {3, 3, 32, 32});
    for (Parameter& p : network->parameters().parameters()) p.is_trainable = p.block >= cut;
    for (RunningStatistics& s : network->parameters().statistics())
      s.use_batch_statistics = s.update_running = s.block >= cut;
    network->parameters().prepare_gradients();
    const auto whole = gradients(*network, x, 0);
    Tensor between;
    {
      const NoGrad no_grad(context);
      between = through_host(network->run_parts(x, 0, cut));
    }
    const auto behind = gradients(*network, between, cut);
    ASSERT_EQ(whole.size(), behind.size());
    ASSERT_GT(whole.size(), 10u);
    for (const auto& [name, expected] : whole) {
      double largest = 0, difference = 0;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        largest = std::max(largest, std::abs(expected[i]));
        difference = std::max(difference, std::abs(expected[i] - behind.at(name)[i]));
      }
      EXPECT_LE(difference, 1e-9 * largest + 1e-14) << architecture << " " << cut << " " << name;
    }
  }
}

TEST(Parts, NamesAndLimits) {
  Context context(make_backend(test_device(DeviceKind::cpu)));
  const auto network = make_network(context, {.architecture = "resnet50", .num_classes = 3});
  EXPECT_EQ(network->part_name(4), "layer4");
  EXPECT_EQ(network->part_name(5), "fc");
  EXPECT_EQ(network->part_name(6), "the head");
  const Tensor x = images(context, {1, 3, 32, 32});
  EXPECT_THROW(network->run_parts(x, 3, 2), Error);
  EXPECT_THROW(network->run_parts(x, 0, 8), Error);
}

}  // namespace
}  // namespace graft
