// A convolution with the norm behind it folded in: equal to the two one after the other, made anew whenever a value
// that it was made of changes, and never in the way of training.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "nn/layers.h"

namespace graft {
namespace {

class ConvNormOn : public testing::TestWithParam<DeviceKind> {
 protected:
  ConvNormOn() {
    parameters_.allocate(context_);
    for (Parameter& p : parameters_.parameters()) set(p, values(p.shape.size(), 0.7));
    RunningStatistics& s = statistics();
    std::vector<double> running = values(2 * s.channels, 0.4);
    for (std::int64_t c = 0; c < s.channels; ++c) running[std::size_t(s.channels + c)] = 0.3 + 0.1 * double(c % 7);
    s.value.from_host(running);
    ++s.version;
    context_.set_training(false);
  }

  static std::vector<double> values(std::int64_t count, double step) {
    std::vector<double> v(std::size_t(count), 0.0);
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = std::sin(0.5 + step * double(i));
    return v;
  }
  static void set(Parameter& p, const std::vector<double>& v) {
    p.value.from_host(v);
    ++p.version;
  }
  RunningStatistics& statistics() { return parameters_.statistics()[0]; }
  Tensor input(const Shape& shape) { return from_host(context_, shape, values(shape.size(), 1.7)); }

  /// As training computes it: one after the other.
  Tensor in_two(const Tensor& x, Activation activation, const Tensor& residual = {}) {
    return norm_(conv_(x), activation, residual);
  }
  Tensor folded(const Tensor& x, Activation activation, const Tensor& residual = {}) {
    const Inference inference(context_);
    return conv_norm({conv_, norm_}, x, activation, residual);
  }
  void expect_equal(const Tensor& a, const Tensor& b, const char* what) {
    const std::vector<double> va = a.to_host(), vb = b.to_host();
    ASSERT_EQ(va.size(), vb.size());
    double off = 0, size = 0;
    for (std::size_t i = 0; i < va.size(); ++i) {
      off = std::max(off, std::abs(va[i] - vb[i]));
      size = std::max(size, std::abs(vb[i]));
    }
    EXPECT_GT(size, 0.5) << what;
    EXPECT_LE(off, size * (GetParam() == DeviceKind::reference ? 1e-13 : 2e-6)) << what;
  }

  Context context_{make_backend({.kind = GetParam()})};
  ParameterSet parameters_;
  LayerPlace root_{parameters_};
  Conv2d conv_{root_ / "conv", {.in = 16, .out = 32, .window = 3, .stride = 2, .padding = 1, .has_bias = true}};
  BatchNorm2d norm_{root_ / "bn", {.channels = 32, .epsilon = 0.02}};
};

TEST_P(ConvNormOn, EqualsTheTwoOneAfterTheOther) {
  const Tensor x = input({2, 16, 9, 11}), residual = input({2, 32, 5, 6});
  expect_equal(folded(x, Activation::none), in_two(x, Activation::none), "plain");
  expect_equal(folded(x, Activation::relu), in_two(x, Activation::relu), "with ReLU");
  expect_equal(folded(x, Activation::relu, residual), in_two(x, Activation::relu, residual), "with residual and ReLU");
  expect_equal(folded(x, Activation::none, residual), in_two(x, Activation::none, residual), "with residual");
}

TEST_P(ConvNormOn, FollowsEveryValueItWasMadeOf) {
  const Tensor x = input({2, 16, 6, 6});
  expect_equal(folded(x, Activation::none), in_two(x, Activation::none), "at first");
  for (Parameter& p : parameters_.parameters()) {
    const Tensor before = folded(x, Activation::none);
    set(p, values(p.shape.size(), 0.9));
    const Tensor after = folded(x, Activation::none);
    expect_equal(after, in_two(x, Activation::none), p.name.c_str());
    EXPECT_NE(after.to_host(), before.to_host()) << p.name;
  }
  context_.set_training(true);
  in_two(x, Activation::none);  // moves the running statistics
  context_.tape().clear();
  context_.set_training(false);
  expect_equal(folded(x, Activation::none), in_two(x, Activation::none), "after a step in training");
}

TEST_P(ConvNormOn, IsNotUsedWhereSomethingIsRecordedOrTheBatchDecides) {
  const Tensor x = input({2, 16, 6, 6});
  conv_norm({conv_, norm_}, x, Activation::relu);
  EXPECT_EQ(context_.tape().size(), 2u);  // evaluation that is differentiated: convolution and norm
  context_.tape().clear();
  context_.set_training(true);
  expect_equal(folded(x, Activation::relu), in_two(x, Activation::relu), "batch statistics");
  context_.tape().clear();
  statistics().use_batch_statistics = false;  // frozen: fixed statistics in training too
  expect_equal(folded(x, Activation::relu), in_two(x, Activation::relu), "fixed statistics");
}

TEST_P(ConvNormOn, ShowsWhatIsNotFinite) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double bad : {std::nan(""), infinity, -infinity}) {
    std::vector<double> pixels = values(2 * 16 * 9 * 11, 1.7);
    pixels[1000] = bad;
    const Tensor x = from_host(context_, {2, 16, 9, 11}, pixels);
    int shown = 0;
    for (const double y : folded(x, Activation::relu).to_host()) shown += !std::isfinite(y);
    if (std::isnan(bad))
      EXPECT_GE(shown, 32) << bad;  // every output channel of the windows that see it
    else
      EXPECT_GE(shown, 1) << bad;
  }
}

TEST_P(ConvNormOn, RefusesAResidualOfAnotherShape) {
  const Tensor x = input({2, 16, 9, 11});
  EXPECT_THROW(folded(x, Activation::relu, input({2, 32, 5, 5})), Error);
}

INSTANTIATE_TEST_SUITE_P(Devices, ConvNormOn, testing::Values(DeviceKind::reference, DeviceKind::cpu),
                         [](const auto& test) { return test.param == DeviceKind::cpu ? "cpu" : "reference"; });

}  // namespace
}  // namespace graft
