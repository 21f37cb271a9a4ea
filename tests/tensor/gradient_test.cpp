// The derivative of every operation through the tape: on the reference device against central differences, on the CPU
// against the reference. Each case is a small graph that ends in a cross-entropy, so gradients flow through several
// operations, join where a tensor is used twice, and meet channel slices.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "tensor/ops.h"

namespace graft {
namespace {

/// Different values everywhere, in [-1, 1], none near 0.
std::vector<double> values(std::int64_t count, double phase) {
  std::vector<double> v(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < v.size(); ++i) {
    const double s = std::sin(phase + 1.7 * double(i) + 0.01 * double(i % 13));
    v[i] = s + (s < 0 ? -0.05 : 0.05);
  }
  return v;
}

/// What a case may use: an input, parameters and statistics. Channels are multiples of 16, so that the CPU blocks them.
struct Graph {
  Context& context;
  ParameterSet set;
  Tensor x;
  Parameter& conv = set.add("conv.weight", {16, 16, 3, 2}, Role::conv_weight, 0);
  Parameter& conv_bias = set.add("conv.bias", {1, 16, 1, 1}, Role::bias, 0);
  Parameter& gamma = set.add("bn.weight", {1, 16, 1, 1}, Role::norm_scale, 0);
  Parameter& beta = set.add("bn.bias", {1, 16, 1, 1}, Role::norm_shift, 0);
  Parameter& wide_gamma = set.add("wide.weight", {1, 32, 1, 1}, Role::norm_scale, 0);
  Parameter& wide_beta = set.add("wide.bias", {1, 32, 1, 1}, Role::norm_shift, 0);
  Parameter& conv_down = set.add("conv.weight.lora_down", {5, 16, 3, 2}, Role::adapter, 0);
  Parameter& conv_up = set.add("conv.weight.lora_up", {16, 5, 1, 1}, Role::adapter, 0);
  RunningStatistics& running = set.add_statistics("bn", 16, 0);
  RunningStatistics& wide_running = set.add_statistics("wide", 32, 0);
  Tensor penalty = {};  // a case's own term of the loss, if it sets one

  explicit Graph(Context& c) : context(c) {}

  BatchNormArgs norm(Activation a = Activation::none) const {
    return {.gamma = gamma, .beta = beta, .running = running, .epsilon = 1e-3, .activation = a};
  }
  BatchNormArgs wide_norm() const {
    return {.gamma = wide_gamma, .beta = wide_beta, .running = wide_running, .epsilon = 1e-3, .activation = Activation::relu};
  }
};

/// One number on the device.
Tensor number(Context& context, double value) { return from_host(context, {1, 1, 1, 1}, std::vector<double>{value}); }

struct Case {
  const char* name;
  Tensor (*build)(Graph& g);
};

constexpr ConvGeometry kConv{.stride_h = 1, .stride_w = 2, .pad_h = 2, .pad_w = 1, .dilation_h = 2, .dilation_w = 1};

/// Two consumers share the first slice's statistics; the second reads both slices.
Tensor dense_block(Graph& g) {
  Shape wide = g.x.shape();
  wide.c = 32;
  const Tensor buffer = channel_buffer(g.context, wide, g.x.format(), g.x.dtype());
  const Tensor stats = channel_buffer(g.context, {2, 32, 1, 1}, kNhwc, g.context.dtype());
  const auto fill = [&](std::int64_t begin, const Tensor& part) {
    batch_statistics(append(buffer, begin, part), stats.channels(begin, begin + 16), 1e-3);
  };
  fill(0, g.x);
  const ConvGeometry same{.pad_h = 1, .pad_w = 1};
  const Tensor y = conv2d(normalize(buffer.channels(0, 16), stats.channels(0, 16), g.norm(Activation::relu)), g.conv,
                          nullptr, same);
  fill(16, adaptive_avg_pool(y, g.x.shape().h, g.x.shape().w));
  return normalize(buffer, stats, g.wide_norm());
}

const Case kCases[] = {
    {"conv", [](Graph& g) { return conv2d(g.x, g.conv, nullptr, kConv); }},
    {"conv_bias_relu", [](Graph& g) { return conv2d(g.x, g.conv, &g.conv_bias, kConv, Activation::relu); }},
    {"conv_twice", [](Graph& g) {
       const ConvGeometry same{.pad_h = 1, .pad_w = 0};
       const Tensor once = conv2d(g.x, g.conv, nullptr, same);
       return conv2d(once, g.conv, nullptr, same);
     }},
    {"conv_adapted", [](Graph& g) {
       g.conv.adapter = {.up = &g.conv_up, .down = &g.conv_down, .scale = 0.3};
       return conv2d(g.x, g.conv, &g.conv_bias, kConv, Activation::relu);
     }},
    {"batch_norm", [](Graph& g) { return batch_norm(g.x, g.norm()); }},
    {"batch_norm_residual_relu", [](Graph& g) { return batch_norm(g.x, g.norm(Activation::relu), g.x); }},
    {"batch_norm_residual_of_another", [](Graph& g) {
       const Tensor other = relu(g.x);
       return batch_norm(batch_norm(g.x, g.norm()), g.norm(Activation::relu), other);
     }},
    {"batch_norm_fixed", [](Graph& g) {
       g.running.use_batch_statistics = g.running.update_running = false;
       return batch_norm(g.x, g.norm(Activation::relu), g.x);
     }},
    {"batch_norm_stochastic", [](Graph& g) {
       g.context.start_step(7, 3);
       g.running.batch_share = 0.5;
       g.running.update_running = false;  // moved, they would carry x from the first norm into the second
       return batch_norm(batch_norm(g.x, g.norm(Activation::relu), g.x), g.norm());
     }},
    {"relu_add", [](Graph& g) { return add(relu(g.x), g.x); }},
    {"add_itself", [](Graph& g) { return add(g.x, g.x); }},
    {"add_scaled", [](Graph& g) { return add_scaled(relu(g.x), g.x, number(g.context, -1.7)); }},
    {"feature_distance", [](Graph& g) {
       const Tensor y = conv2d(g.x, g.conv, nullptr, kConv);
       Tensor x_target = empty_like(g.x), y_target = empty(g.context, y.shape());  // NHWC whatever y is
       x_target.from_host(values(x_target.shape().size(), 3.1));
       y_target.from_host(values(y_target.shape().size(), 4.2));
       g.penalty = add(feature_distance(y, y_target, 3), feature_distance(g.x, x_target));
       return y;
     }},
    {"dropout", [](Graph& g) {
       g.context.start_step(7, 3);
       return dropout(to_nhwc(g.x), 0.4);
     }},
    {"max_pool", [](Graph& g) {
       return max_pool(g.x, {.window_h = 3, .window_w = 2, .stride_h = 2, .stride_w = 1, .pad_h = 1, .pad_w = 1});
     }},
    {"avg_pool", [](Graph& g) { return avg_pool(g.x, {.window_h = 2, .window_w = 3, .stride_h = 1, .stride_w = 2}); }},
    {"adaptive_avg_pool", [](Graph& g) { return adaptive_avg_pool(g.x, 3, 2); }},
    {"global_avg_pool", [](Graph& g) { return adaptive_avg_pool(g.x, 1, 1); }},
    {"batch_spectral_shrinkage", [](Graph& g) {
       const Tensor pooled = adaptive_avg_pool(g.x, 1, 1);
       const Tensor few = pooled.channels(3, 5);  // fewer features than images
       g.penalty = add(batch_spectral_shrinkage(pooled, {.count = 2, .weight = 1.3}),
                       batch_spectral_shrinkage(few, {.count = 1, .weight = 0.9}));
       return pooled;
     }},
    {"dense_block", dense_block},
    {"dense_block_stochastic", [](Graph& g) {
       g.context.start_step(7, 3);
       g.running.batch_share = 0.4, g.wide_running.batch_share = 0.6;
       return dense_block(g);
     }},
};

class Gradients : public testing::TestWithParam<Case> {
 protected:
  /// One forward and backward pass; the gradients of x and of every parameter that got one, or of nothing.
  struct Result {
    double loss;
    std::vector<std::pair<std::string, std::vector<double>>> gradients;
  };

  static Result run(DeviceKind device, bool differentiates, const std::function<void(Graph&)>& change = {}) {
    Context context(make_backend({device, 0}));
    Graph g(context);
    g.set.allocate(context);
    double phase = 0.1;
    for (Parameter& p : g.set.parameters()) p.value.from_host(values(p.shape.size(), phase += 0.7)), ++p.version;
    std::vector<double> statistics = values(32, 0.3);
    for (int c = 16; c < 32; ++c) statistics[c] = 0.5 + std::abs(statistics[c]);
    g.running.value.from_host(statistics);

    const Shape shape{3, 16, 5, 4};
    const ConvSpec like{.x = shape, .k = 16, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1};
    g.x = Tensor(context, shape, context.backend().conv_formats(like).x, context.dtype());
    g.x.from_host(values(shape.size(), 2.2));
    g.x.set_variable(std::make_shared<Variable>(Variable{
        .shape = shape, .format = g.x.format(), .dtype = context.dtype(), .needs_grad = true, .is_leaf = true, .grad = {}}));
    if (change) change(g);

    const Tensor y = GetParam().build(g);
    ParameterSet last;
    Parameter& classifier = last.add("classifier", {4, y.shape().c, y.shape().h, y.shape().w}, Role::linear_weight, 0);
    classifier.is_trainable = false;
    last.allocate(context);
    classifier.value.from_host(values(classifier.shape.size(), 5.1));
    const Tensor labels = labels_to_device(context, std::vector<std::int32_t>{2, 0, 3}, 4);
    Tensor loss = softmax_cross_entropy(linear(y, classifier, nullptr), labels).loss;
    if (g.penalty) loss = add_scaled(loss, g.penalty, number(context, 0.6));
    Result result{loss.to_host()[0], {}};
    if (!differentiates) return result;
    context.tape().backward(loss);
    EXPECT_EQ(context.tape().size(), 0u);
    result.gradients.emplace_back("x", g.x.variable()->grad.to_host());
    for (const Parameter& p : g.set.parameters())
      if (p.has_gradient()) result.gradients.emplace_back(p.name, p.gradient().to_host());
    return result;
  }

  static void perturb(Tensor& t, std::size_t i, double by) {
    std::vector<double> v = t.to_host();
    v[i] += by;
    t.from_host(v);
  }
};

TEST_P(Gradients, ReferenceEqualsCentralDifferences) {
  const Result result = run(DeviceKind::reference, true);
  constexpr double kStep = 1e-6;
  for (const auto& [name, gradient] : result.gradients) {
    double scale = 1e-3;
    for (double g : gradient) scale = std::max(scale, std::abs(g));
    const std::size_t stride = std::max<std::size_t>(1, gradient.size() / 23);  // a spread of elements
    for (std::size_t i = 0; i < gradient.size(); i += stride) {
      const auto at = [&, name = name](double by) {
        return run(DeviceKind::reference, false, [&](Graph& g) {
                 perturb(name == "x" ? g.x : g.set.find(name).value, i, by);
               }).loss;
      };
      const double numeric = (at(kStep) - at(-kStep)) / (2 * kStep);
      // Rounding of the loss over the step, about 1e-10, and the third derivative times the step squared.
      EXPECT_NEAR(gradient[i], numeric, 1e-6 * scale + 1e-9) << name << "[" << i << "]";
    }
  }
}

TEST_P(Gradients, CpuEqualsReference) {
  const Result truth = run(DeviceKind::reference, true), cpu = run(DeviceKind::cpu, true);
  EXPECT_NEAR(cpu.loss, truth.loss, 1e-5 * std::abs(truth.loss));
  ASSERT_EQ(cpu.gradients.size(), truth.gradients.size());
  for (std::size_t t = 0; t < truth.gradients.size(); ++t) {
    double error = 0, norm = 0;
    for (std::size_t i = 0; i < truth.gradients[t].second.size(); ++i) {
      const double d = cpu.gradients[t].second[i] - truth.gradients[t].second[i];
      error += d * d, norm += truth.gradients[t].second[i] * truth.gradients[t].second[i];
    }
    // Float32 through at most eight operations.
    EXPECT_LE(std::sqrt(error), 2e-5 * std::sqrt(norm) + 1e-7) << truth.gradients[t].first;
  }
}

INSTANTIATE_TEST_SUITE_P(Operations, Gradients, testing::ValuesIn(kCases),
                         [](const auto& instance) { return std::string(instance.param.name); });

}  // namespace
}  // namespace graft
