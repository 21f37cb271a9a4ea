// What layers declare, and that each hands its own settings to its operation; the operations are tested with the
// kernels.
#include "nn/layers.h"

#include <gtest/gtest.h>

#include <cmath>

namespace graft {
namespace {

class Layers : public testing::Test {
 protected:
  Context context_{make_backend({.kind = DeviceKind::reference})};
  ParameterSet parameters_;
  LayerPlace root_{parameters_};

  /// Different values everywhere, in [-1, 1].
  Tensor input(const Shape& shape) {
    std::vector<double> values(shape.size());
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(0.5 + 1.7 * double(i));
    return from_host(context_, shape, values);
  }
  void set(const char* name, const std::vector<double>& values) { parameters_.find(name).value.from_host(values); }
};

TEST_F(Layers, DeclareNamesShapesRolesAndBlocks) {
  const LayerPlace place = root_.in_block(2) / "layer2" / "0";
  const Conv2d conv(place / "conv", {.in = 3, .out = 5, .window = 7, .has_bias = true});
  const BatchNorm2d norm(place / "bn", {.channels = 5});
  const Linear linear(root_ / "fc", 4, Shape{1, 5, 2, 3});
  struct Expected {
    const char* name;
    Shape shape;
    Role role;
    int block;
  };
  const Expected expected[] = {{"layer2.0.conv.weight", {5, 3, 7, 7}, Role::conv_weight, 2},
                               {"layer2.0.conv.bias", {1, 5, 1, 1}, Role::bias, 2},
                               {"layer2.0.bn.weight", {1, 5, 1, 1}, Role::norm_scale, 2},
                               {"layer2.0.bn.bias", {1, 5, 1, 1}, Role::norm_shift, 2},
                               {"fc.weight", {4, 5, 2, 3}, Role::linear_weight, 0},
                               {"fc.bias", {1, 4, 1, 1}, Role::bias, 0}};
  ASSERT_EQ(parameters_.parameters().size(), std::size(expected));
  std::size_t i = 0;
  for (const Parameter& p : parameters_.parameters()) {
    EXPECT_EQ(p.name, expected[i].name);
    EXPECT_EQ(p.shape, expected[i].shape) << p.name;
    EXPECT_EQ(p.role, expected[i].role) << p.name;
    EXPECT_EQ(p.block, expected[i].block) << p.name;
    ++i;
  }
  ASSERT_EQ(parameters_.statistics().size(), 1u);
  EXPECT_EQ(parameters_.statistics()[0].name, "layer2.0.bn");
  EXPECT_EQ(parameters_.statistics()[0].block, 2);
}

TEST_F(Layers, ConvUsesItsStridePaddingBiasAndActivation) {
  const Conv2d conv(root_ / "conv", {.in = 1, .out = 1, .window = 3, .stride = 2, .padding = 1, .has_bias = true});
  parameters_.allocate(context_);
  set("conv.weight", {1, 2, 3, 4, 5, 6, 7, 8, 9});
  set("conv.bias", {-40});
  const Tensor x = from_host(context_, {1, 1, 4, 3}, std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  const Tensor y = conv(x);
  EXPECT_EQ(y.shape(), (Shape{1, 1, 2, 2}));
  // Windows centred on 1, 3, 7, 9, by hand.
  EXPECT_EQ(y.to_host(), (std::vector<double>{94 - 40, 106 - 40, 285 - 40, 267 - 40}));
  set("conv.bias", {-100});
  EXPECT_EQ(conv(x, Activation::relu).to_host(), (std::vector<double>{0, 6, 185, 167}));
}

TEST_F(Layers, NormUsesItsEpsilonMomentumResidualAndMode) {
  const BatchNorm2d norm(root_ / "bn", {.channels = 1, .epsilon = 0.75, .momentum = 0.5});
  parameters_.allocate(context_);
  set("bn.weight", {2});
  set("bn.bias", {3});
  const Tensor x = from_host(context_, {4, 1, 1, 1}, std::vector<double>{1, 2, 3, 4});  // mean 2.5, variance 1.25
  const Tensor residual = from_host(context_, {4, 1, 1, 1}, std::vector<double>{-10, 1, 1, 1});
  const auto expect = [](const Tensor& y, std::vector<double> expected) {
    const std::vector<double> got = y.to_host();
    for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-14);
  };
  const double d = std::sqrt(2.0);  // 2 / sqrt(1.25 + 0.75)
  EXPECT_TRUE(norm.uses_batch_statistics(context_));
  expect(norm(x, Activation::relu, residual), {0, 4 - 0.5 * d, 4 + 0.5 * d, 4 + 1.5 * d});
  // Running mean 0 -> 1.25; variance 1 -> (1 + 5/3) / 2, unbiased.
  expect(parameters_.statistics()[0].value, {1.25, 4.0 / 3});
  context_.set_training(false);
  EXPECT_FALSE(norm.uses_batch_statistics(context_));
  const double e = 2 / std::sqrt(4.0 / 3 + 0.75);
  expect(norm(x), {3 - 0.25 * e, 3 + 0.75 * e, 3 + 1.75 * e, 3 + 2.75 * e});
}

TEST_F(Layers, NormWithSharedStatisticsEqualsNormOfItsOwn) {
  const BatchNorm2d norm(root_ / "bn", {.channels = 6, .epsilon = 1e-3});
  parameters_.allocate(context_);
  set("bn.weight", {1, 2, 3, 4, 5, 6});
  set("bn.bias", {6, 5, 4, 3, 2, 1});
  const Tensor x = input({3, 6, 2, 5});
  const std::vector<double> own = norm(x, Activation::relu).to_host();
  const Tensor stats = empty(context_, {2, 6, 1, 1});
  batch_statistics(x, stats, 1e-3);
  EXPECT_EQ(norm.with_statistics(x, stats, Activation::relu).to_host(), own);
}

TEST_F(Layers, LinearFlattensInTheOrderOfFiles) {
  const Linear linear(root_ / "fc", 1, Shape{1, 2, 1, 3});
  parameters_.allocate(context_);
  set("fc.weight", {1, 10, 100, 1000, 10000, 100000});  // C, H, W
  set("fc.bias", {0.5});
  const Tensor x = from_host(context_, {1, 2, 1, 3}, std::vector<double>{1, 2, 3, 4, 5, 6});  // C, H, W
  EXPECT_EQ(linear(x).to_host(), (std::vector<double>{654321.5}));
}

TEST_F(Layers, ErrorsFoundInAValueNameTheLayer) {
  const Conv2d conv(root_ / "stem" / "conv", {.in = 1, .out = 1});
  parameters_.allocate(context_);
  set("stem.conv.weight", {std::numeric_limits<double>::infinity()});
  context_.set_checks_finite(true);
  try {
    conv(from_host(context_, {1, 1, 1, 1}, std::vector<double>{1}));
    FAIL() << "an infinite value passed";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("stem.conv"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace graft
