// Which types operations give where activations have 16 bits, and that the weights they read follow the masters.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/half.h"
#include "tensor/ops.h"

namespace graft {
namespace {

class HalfTypesOf : public ::testing::TestWithParam<Precision> {
 protected:
  HalfTypesOf() : context(make_backend({DeviceKind::reference}, {.threads = 1, .precision = GetParam()})) {}

  DType type() const { return GetParam() == Precision::bf16 ? DType::bf16 : DType::f16; }
  /// Values of an activation, or of a parameter, that no 16-bit type holds exactly.
  std::vector<double> numbers(std::int64_t count, double phase) const {
    std::vector<double> values;
    for (std::int64_t i = 0; i < count; ++i) values.push_back(std::sin(phase + 1.3 * double(i)));
    return values;
  }
  Tensor activation(const Shape& shape, double phase) {
    Tensor x(context, shape, kNhwc, context.activation_type());
    x.from_host(numbers(shape.size(), phase));
    return x;
  }
  void fill(Parameter& p, double phase) { p.value.from_host(numbers(p.shape.size(), phase)), ++p.version; }
  void expect_gradient_type(const Parameter& p) { EXPECT_EQ(p.gradient().dtype(), DType::f64) << p.name; }

  Context context;
  ParameterSet set;
};

INSTANTIATE_TEST_SUITE_P(Reference, HalfTypesOf, ::testing::Values(Precision::bf16, Precision::f16),
                         [](const auto& test) { return std::string(to_string(test.param)); });

TEST_P(HalfTypesOf, HoldHostValuesRounded) {
  const std::vector<double> values = numbers(24, 0.3);
  const Tensor x = activation({2, 3, 2, 2}, 0.3);
  const std::vector<double> got = x.to_host();
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], rounded_to(type(), values[i])) << i;
  const Tensor wide = converted(x, DType::f64);
  EXPECT_EQ(wide.dtype(), DType::f64);
  EXPECT_EQ(wide.to_host(), got);
  EXPECT_EQ(converted(wide, type()).to_host(), got);
}

TEST_P(HalfTypesOf, AreThoseOfActivationsThroughout) {
  Parameter &w = set.add("conv.weight", {4, 3, 3, 3}, Role::conv_weight, 0),
            &b = set.add("conv.bias", {1, 4, 1, 1}, Role::bias, 0),
            &gamma = set.add("norm.weight", {1, 4, 1, 1}, Role::norm_scale, 0),
            &beta = set.add("norm.bias", {1, 4, 1, 1}, Role::norm_shift, 0),
            &head = set.add("head.weight", {5, 4, 1, 1}, Role::linear_weight, 0),
            &head_bias = set.add("head.bias", {1, 5, 1, 1}, Role::bias, 0);
  RunningStatistics& running = set.add_statistics("norm", 4, 0);
  set.allocate(context);
  double phase = 1;
  for (Parameter& p : set.parameters()) fill(p, phase += 1);

  const Tensor x = activation({2, 3, 6, 6}, 0.3);
  const Tensor conv = conv2d(x, w, &b, {.pad_h = 1, .pad_w = 1}, Activation::relu);
  const Tensor norm = batch_norm(conv, {.gamma = gamma, .beta = beta, .running = running}, conv);
  const Tensor sum = add(dropout(relu(norm), 0.2), norm);
  const Tensor pooled = adaptive_avg_pool(
      avg_pool(max_pool(sum, {}), {.window_h = 1, .window_w = 1, .stride_h = 1, .stride_w = 1}), 1, 1);
  const Tensor logits = linear(pooled, head, &head_bias);
  for (const Tensor& t : {conv, norm, sum, pooled, logits}) EXPECT_EQ(t.dtype(), type());
  const CrossEntropyResult result =
      softmax_cross_entropy(logits, labels_to_device(context, std::vector<std::int32_t>{1, 4}, 5));
  const Tensor distance = feature_distance(sum, norm, 0.1);
  const Tensor shrinkage = batch_spectral_shrinkage(pooled, {.count = 1, .weight = 0.1});
  for (const Tensor& t : {result.loss, result.probabilities, distance, shrinkage}) EXPECT_EQ(t.dtype(), DType::f64);
  context.tape().backward(add(add(result.loss, distance), shrinkage));
  for (const Parameter& p : set.parameters()) {
    expect_gradient_type(p);
    double largest = 0;
    for (double g : p.gradient().to_host()) largest = std::max(largest, std::abs(g));
    EXPECT_GT(largest, 0) << p.name;
    EXPECT_TRUE(std::isfinite(largest)) << p.name;
  }
}

/// An operation's result is that of exact arithmetic on the stored numbers, rounded once.
TEST_P(HalfTypesOf, RoundAConvolutionOnce) {
  Context exact(make_backend({DeviceKind::reference}, {.threads = 1}));
  ParameterSet exact_set;
  Parameter &w = set.add("w", {4, 3, 3, 3}, Role::conv_weight, 0), &b = set.add("b", {1, 4, 1, 1}, Role::bias, 0),
            &ew = exact_set.add("w", {4, 3, 3, 3}, Role::conv_weight, 0),
            &eb = exact_set.add("b", {1, 4, 1, 1}, Role::bias, 0);
  set.allocate(context), exact_set.allocate(exact);
  fill(w, 1), fill(b, 2);
  std::vector<double> stored = w.value.to_host();
  for (double& v : stored) v = rounded_to(type(), v);
  ew.value.from_host(stored), eb.value.from_host(b.value.to_host());  // the bias stays wide
  const Tensor x = activation({2, 3, 5, 5}, 0.3);
  const std::vector<double> got = conv2d(x, w, &b, {}).to_host(),
                            wide = conv2d(from_host(exact, x.shape(), x.to_host()), ew, &eb, {}).to_host();
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], rounded_to(type(), wide[i])) << i;
}

TEST_P(HalfTypesOf, WeightsFollowTheirMasters) {
  Parameter &w = set.add("w", {4, 3, 1, 1}, Role::linear_weight, 0),
            &other = set.add("other", {1, 2, 1, 1}, Role::bias, 0);
  set.allocate(context);
  const auto stored = [&] {
    const WeightView view = w.weight_view(type());
    EXPECT_EQ(view.value.dtype, type());
    EXPECT_EQ(view.version, w.version);
    return w.half.to_host();
  };
  const auto rounded = [&] {
    std::vector<double> values = w.value.to_host();
    for (double& v : values) v = rounded_to(type(), v);
    return values;
  };
  fill(w, 1);
  EXPECT_EQ(stored(), rounded());
  fill(w, 2);  // as loading weights does
  EXPECT_EQ(stored(), rounded());
  set.values_changed();  // after an update, which has stored the copy itself: what is there now must stay
  w.half.from_host(numbers(12, 5));
  const std::vector<double> by_update = w.half.to_host();
  EXPECT_EQ(stored(), by_update);
  fill(w, 3);
  set.add("third", {1, 7, 1, 1}, Role::bias, 0);
  set.grow();
  EXPECT_EQ(stored(), rounded());
  EXPECT_EQ(w.weight_view(DType::f64).value.dtype, DType::f64);  // for activations in the compute type
  EXPECT_EQ(set.half_values().shape(), set.values().shape());
  (void)other;
}

/// Adapters are added to the wide weight, and the sum is rounded once.
TEST_P(HalfTypesOf, AdaptersAreAddedBeforeRounding) {
  Parameter& w = set.add("w", {4, 3, 1, 1}, Role::conv_weight, 0);
  const Parameter &down = set.add("down", {2, 3, 1, 1}, Role::adapter, 0),
                  &up = set.add("up", {4, 2, 1, 1}, Role::adapter, 0);
  set.allocate(context);
  double phase = 0;
  for (Parameter& p : set.parameters()) fill(p, phase += 1);
  w.is_trainable = false;
  set.prepare_gradients();
  w.adapter = {.up = &up, .down = &down, .scale = 0.01};
  const Tensor sum = low_rank_sum(w);
  EXPECT_EQ(sum.dtype(), DType::f64);
  const Tensor x = activation({1, 3, 2, 2}, 0.3);
  const Tensor y = conv2d(x, w, nullptr, {});
  EXPECT_EQ(y.dtype(), type());
  const std::vector<double> weights = sum.to_host(), pixels = x.to_host(), got = y.to_host();
  for (int k = 0; k < 4; ++k)
    for (int p = 0; p < 4; ++p) {
      double value = 0;
      for (int c = 0; c < 3; ++c)
        value += rounded_to(type(), weights[std::size_t(3 * k + c)]) * pixels[std::size_t(4 * c + p)];
      EXPECT_NEAR(got[std::size_t(4 * k + p)], rounded_to(type(), value), 1e-15) << k << " " << p;
    }
  context.tape().backward(feature_distance(y, activation({1, 4, 2, 2}, 0.7)));
  EXPECT_EQ(up.gradient().dtype(), DType::f64);
  EXPECT_EQ(down.gradient().dtype(), DType::f64);
}

/// The root gradient is the scale on the device times the one on the host.
TEST_P(HalfTypesOf, TheLossScaleOfABackwardPassMayLieOnTheDevice) {
  Parameter& w = set.add("w", {3, 4, 1, 1}, Role::linear_weight, 0);
  set.allocate(context);
  fill(w, 1);
  const auto gradient = [&](double scale, const Tensor& device_scale) {
    set.clear_gradients();
    const Tensor logits = linear(activation({2, 4, 1, 1}, 0.3), w, nullptr);
    const Tensor labels = labels_to_device(context, std::vector<std::int32_t>{1, 2}, 3);
    context.tape().backward(softmax_cross_entropy(logits, labels).loss, scale, device_scale);
    return w.gradient().to_host();
  };
  Tensor eight(context, {1, 1, 1, 1}, kNhwc, DType::f64);
  eight.from_host(std::vector<double>{8});
  EXPECT_EQ(gradient(0.5, eight), gradient(4, {}));
}

}  // namespace
}  // namespace graft
