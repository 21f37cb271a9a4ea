// A batch whose calls are replayed gets the answers that calling everything anew gives, bit for bit, whatever changes
// from batch to batch: images, their number, their address, the weights.
#include "strategies/training/predictor.h"

#include <gtest/gtest.h>

#include "models/initialise.h"
#include "strategies/batches/batch_source.h"
#include "tests/support/capturing_device.h"

namespace graft {
namespace {

using testing::CapturingDevice;

constexpr std::int64_t kSide = 64;

struct Lab {
  explicit Lab(std::unique_ptr<Backend> backend, const char* architecture)
      : context(std::move(backend)), network(make_network(context, {.architecture = architecture, .num_classes = 5})) {
    initialise_from_scratch(*network, 1);
  }
  /// `seed` decides the pixels.
  Tensor images(std::int64_t n, int seed, const Tensor& place = {}) {
    std::vector<float> pixels(std::size_t(n * 3 * kSide * kSide));
    for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = float((i * 7919 + seed * 104729) % 1000) / 500 - 1;
    return images_to_device(context, pixels, {n, 3, kSide, kSide}, place);
  }
  void change_weights() {
    Parameter& p = network->parameters().parameters()[0];  // of a convolution, folded
    std::vector<double> values = p.value.to_host();
    for (double& v : values) v *= -1;
    p.value.from_host(values);
    ++p.version;
  }

  Context context;
  std::unique_ptr<Network> network;
};

/// Answers to the same batches, in order.
std::vector<std::vector<double>> answers(Lab& lab, Predictor& predictor) {
  std::vector<std::vector<double>> all;
  Tensor x, other;
  const auto ask = [&](const Tensor& images) { all.push_back(predictor(images).to_host()); };
  for (int seed = 0; seed < 6; ++seed) ask(x = lab.images(2, seed, x));
  for (int seed = 6; seed < 11; ++seed) ask(other = lab.images(1, seed, other));
  ask(x = lab.images(2, 11, x));
  ask(lab.images(2, 12));  // elsewhere
  for (int seed = 13; seed < 16; ++seed) ask(x = lab.images(2, seed, x));
  lab.change_weights();
  for (int seed = 16; seed < 19; ++seed) ask(x = lab.images(2, seed, x));
  return all;
}

class PredictorOf : public ::testing::TestWithParam<const char*> {};

TEST_P(PredictorOf, RepliesAsCallingEverythingAnewDoes) {
  Lab eager(make_backend({DeviceKind::cpu}, {.threads = 2}), GetParam());
  Predictor without(*eager.network);
  const std::vector<std::vector<double>> truth = answers(eager, without);
  EXPECT_EQ(without.replays(), 0);
  for (const auto& logits : truth)
    for (const double logit : logits) ASSERT_TRUE(std::isfinite(logit));
  EXPECT_NE(truth[0], truth[1]);
  for (const bool plans_memory : {false, true}) {
    SCOPED_TRACE(plans_memory ? "planned memory" : "memory of its own");
    CapturingDevice device({.plans_memory = plans_memory});
    Lab lab(std::make_unique<ObservedBackend>(make_backend({DeviceKind::cpu}, {.threads = 2}), device), GetParam());
    Predictor predictor(*lab.network);
    EXPECT_EQ(answers(lab, predictor), truth);
    EXPECT_GE(predictor.replays(), 12);  // of 19: each size of batch runs up to three times before
    EXPECT_EQ(device.replays, predictor.replays());
    EXPECT_LE(device.captures, 6);  // two sizes, elsewhere and back, other weights; larger plans move smaller ones
  }
}

INSTANTIATE_TEST_SUITE_P(Networks, PredictorOf, ::testing::Values("resnet50", "densenet121"),
                         [](const auto& network) { return std::string(network.param); });

TEST(Predictor, CapturesNothingWhereItMustNot) {
  CapturingDevice device;
  Lab lab(std::make_unique<ObservedBackend>(make_backend({DeviceKind::cpu}, {.threads = 2}), device), "resnet50");
  Predictor predictor(*lab.network, false);
  answers(lab, predictor);
  EXPECT_EQ(device.captures, 0);
}

TEST(Predictor, LeavesTheContextAsItWas) {
  Lab lab(make_backend({DeviceKind::cpu}, {.threads = 2}), "resnet50");
  {
    const Predictor predictor(*lab.network);
    EXPECT_TRUE(lab.context.folds_norms());
    EXPECT_FALSE(lab.context.is_training() || lab.context.is_recording());
  }
  EXPECT_FALSE(lab.context.folds_norms());
  EXPECT_TRUE(lab.context.is_training() && lab.context.is_recording());
}

}  // namespace
}  // namespace graft
