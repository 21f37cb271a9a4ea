// Whole networks whose activations, gradients and weights are stored in 16 bits. On the reference device: against
// PyTorch in float64 with values rounded at the same places (tests/reference/make_half_references.py), and against the
// same network in float64 with a bound that follows from the number of roundings. On the CPU: against both.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/cpu/cpu_device.h"
#include "kernels/half.h"
#include "models_testing.h"
#include "nn/losses.h"

namespace graft {
namespace {

using Json = nlohmann::json;

struct NetworkCase {
  std::string architecture, head = "original";
  std::int64_t batch = 2, size = 64;
  bool fixes_norms = false;  // running statistics are used
  int parts = 0;             // only so many, then the mean square of their output is the loss; 0: all
};
constexpr std::int64_t kHalfClasses = 10;

/// Output, loss and gradients of one batch in training, fed by the formula.
struct HalfPass {
  std::vector<double> logits;
  double loss = 0;
  std::vector<std::string> names;
  std::vector<std::vector<double>> gradients;  // of every parameter
};

HalfPass run(const NetworkCase& c, Precision precision, double loss_scale, DeviceKind device = DeviceKind::reference) {
  Context context(make_backend({device}, {.precision = precision}));
  const auto network =
      make_network(context, {.architecture = c.architecture, .num_classes = kHalfClasses, .head = c.head});
  network->set_dropout(0);
  fill_by_formula(*network);
  for (RunningStatistics& r : network->parameters().statistics())
    if (c.fixes_norms) r.use_batch_statistics = r.update_running = false;
  const Shape shape{c.batch, 3, c.size, c.size};
  const Tensor x =
      converted(from_host(context, shape, formula_values("input.0", shape.size(), 0, 2)), context.activation_type());
  const Tensor y = network->run_parts(x, 0, c.parts > 0 ? c.parts : network->parts());
  EXPECT_EQ(y.dtype(), context.activation_type());
  Tensor loss;
  if (c.parts > 0) {
    Tensor zero = empty_like(y);
    zero.from_host(std::vector<double>(std::size_t(y.shape().size())));
    loss = feature_distance(y, zero);
  } else {
    const FormulaUniform uniform("labels.0");
    std::vector<std::int32_t> labels;
    for (std::int64_t n = 0; n < c.batch; ++n) labels.push_back(std::int32_t(uniform(n) * double(kHalfClasses)));
    const CrossEntropyResult result =
        TaskLoss(context, {.num_classes = kHalfClasses})(y, labels_to_device(context, labels, kHalfClasses));
    EXPECT_EQ(result.probabilities.dtype(), context.dtype());
    loss = result.loss;
  }
  EXPECT_EQ(loss.dtype(), context.dtype());
  context.tape().backward(loss, loss_scale);
  HalfPass pass{.logits = y.to_host(), .loss = loss.to_host()[0], .names = {}, .gradients = {}};
  for (const Parameter& p : network->parameters().parameters()) {
    if (!p.has_gradient()) continue;
    EXPECT_EQ(p.gradient().dtype(), context.dtype()) << p.name;
    std::vector<double> g = p.gradient().to_host();
    for (double& v : g) v /= loss_scale;
    pass.names.push_back(p.name);
    pass.gradients.push_back(std::move(g));
  }
  return pass;
}

double norm(const std::vector<double>& a) {
  double sum = 0;
  for (double v : a) sum += v * v;
  return std::sqrt(sum);
}

double distance(std::vector<double> a, const std::vector<double>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return norm(a) / norm(b);
}

struct TypeCase {
  const char* name;
  Precision precision;
  DType type;
  double loss_scale;  // gradients below f16's range would vanish
};
const TypeCase kTypes[] = {{"bf16", Precision::bf16, DType::bf16, 1}, {"f16", Precision::f16, DType::f16, 1024}};

Json reference() {
  const std::string path = std::string(GRAFT_SOURCE_DIR) + "/tests/reference/networks/half.json";
  std::ifstream file(path);
  if (!file) throw Error("cannot read " + path);
  return Json::parse(file);
}

// Rounding in double, 1e-16, grows to some 1e-12 on the way through a network. Where a value lies that close to the
// middle between two 16-bit numbers it may be stored as the other one, which would move all that follows by 1e-6 and
// more; of the ten million values of these passes none does.
constexpr double kEqual = 1e-8;

class HalfStorage : public testing::TestWithParam<const char*> {};

TEST_P(HalfStorage, EqualsPyTorchRoundedAtTheSamePlaces) {
  const Json expected = reference().at(GetParam());
  const NetworkCase c{.architecture = expected["architecture"],
                      .head = expected.value("head", "original"),
                      .batch = expected["batch"],
                      .size = expected["size"]};
  for (const TypeCase& type : kTypes) {
    SCOPED_TRACE(type.name);
    const Json& numbers = expected.at(type.name);
    const HalfPass pass = run(c, type.precision, numbers["loss_scale"]);
    std::vector<double> logits;
    for (const Json& row : numbers["logits"])
      for (const Json& v : row) logits.push_back(v);
    EXPECT_EQ(distance(pass.logits, logits), 0);  // 16-bit numbers
    EXPECT_NEAR(pass.loss, numbers["loss"].get<double>(), kEqual);
    double worst = 0;
    for (std::size_t i = 0; i < pass.names.size(); ++i) {
      const Summary want = numbers["gradients"].at(pass.names[i]).get<Summary>();
      const Summary got = summary_of(pass.names[i], pass.gradients[i]);
      for (std::size_t k = 0; k < got.size(); ++k) {
        EXPECT_NEAR(got[k], want[k], kEqual * want[0]) << pass.names[i] << " " << k;
        worst = std::max(worst, std::abs(got[k] - want[k]) / want[0]);
      }
    }
    std::printf("  %s %s: largest difference of gradients %.2g\n", GetParam(), type.name, worst);
  }
}

INSTANTIATE_TEST_SUITE_P(Networks, HalfStorage, testing::Values("resnet50", "vgg19_gap"),
                         [](const auto& test) { return std::string(test.param); });

struct DistanceCase {
  const char* name;
  NetworkCase network;
  double logits;     // bound of their distance, in u: half a step of 16-bit numbers around 1
  double gradients;  // of the middle one's, in sqrt(u)
};

class HalfDistance : public testing::TestWithParam<DistanceCase> {};

/// How far 16 bits take a network from float64. Each tensor between input and logits is rounded once, by up to u of its
/// numbers; independent errors add up by their squares, and logits end a few u away. In gradients ReLUs decide: of a
/// layer's inputs about the share u lies so close to zero that rounding turns the sign, and each of these moves the
/// gradient by its own size. Squares again: over L layers the distance is about sqrt(L u), so eightfold finer numbers
/// bring them less than three times nearer. The bounds are twice what was measured.
/// Batch norm's statistics are fixed here, or the network is cut short: statistics of the few values that small images
/// leave in the last layers amplify any change a thousand times (float32's rounding too), and behind 50 such layers
/// gradients have nothing in common.
TEST_P(HalfDistance, IsThatOfTheRoundings) {
  const DistanceCase& c = GetParam();
  const HalfPass exact = run(c.network, Precision::f32, 1);
  for (const TypeCase& type : kTypes) {
    SCOPED_TRACE(type.name);
    const double u = type.type == DType::bf16 ? 0x1p-9 : 0x1p-12;
    const HalfPass pass = run(c.network, type.precision, type.loss_scale);
    const double logits = distance(pass.logits, exact.logits);
    std::vector<double> gradients;
    for (std::size_t i = 0; i < pass.names.size(); ++i)
      gradients.push_back(distance(pass.gradients[i], exact.gradients[i]));
    std::ranges::sort(gradients);
    const double median = gradients[gradients.size() / 2];
    std::printf("  %s %s: logits %.2g (%.3g u), loss %.2g, gradients median %.2g (%.3g sqrt u), largest %.2g\n", c.name,
                type.name, logits, logits / u, std::abs(pass.loss - exact.loss) / exact.loss, median,
                median / std::sqrt(u), gradients.back());
    EXPECT_GT(logits, u / 4) << "nothing was rounded";
    EXPECT_LT(logits, c.logits * u);
    EXPECT_LT(median, c.gradients * std::sqrt(u));
  }
}

/// What the CPU makes of a network in bf16 is as far from float64 as what the reference makes of it, where a truth in
/// double is rounded at the same places: which numbers are rounded the other way is chance, how many is not.
TEST_P(HalfDistance, OfTheCpuIsThatOfTheReference) {
  if (const std::string reason = cpu_bf16_unavailable_reason(); !reason.empty())
    GTEST_SKIP() << "not run in bf16 on the CPU: " << reason;
  const NetworkCase& c = GetParam().network;
  const HalfPass exact = run(c, Precision::f32, 1), reference = run(c, Precision::bf16, 1),
                 cpu = run(c, Precision::bf16, 1, DeviceKind::cpu);
  const double logits = distance(cpu.logits, exact.logits), allowed = distance(reference.logits, exact.logits);
  EXPECT_GT(logits, 0x1p-11) << "nothing was rounded";
  EXPECT_LT(logits, 2 * allowed);
  std::vector<double> off, expected;
  for (std::size_t i = 0; i < cpu.names.size(); ++i) {
    off.push_back(distance(cpu.gradients[i], exact.gradients[i]));
    expected.push_back(distance(reference.gradients[i], exact.gradients[i]));
  }
  // A ReLU that turns for one of the two alone may move a few tensors further than their own roundings.
  const double largest = *std::ranges::max_element(expected);
  std::int64_t far = 0;
  for (std::size_t i = 0; i < off.size(); ++i) {
    EXPECT_LT(off[i], 2 * largest) << cpu.names[i];
    far += off[i] > 2 * expected[i] + 0x1p-9;
  }
  EXPECT_LE(far, std::ssize(off) / 20);
  std::printf(
      "  %s: logits %.2g, the reference's %.2g; gradients at most %.2g, the reference's %.2g; %lld of %zu far off\n",
      GetParam().name, logits, allowed, *std::ranges::max_element(off), largest, static_cast<long long>(far),
      off.size());
}

INSTANTIATE_TEST_SUITE_P(
    Networks, HalfDistance,
    testing::Values(DistanceCase{"resnet50", {.architecture = "resnet50", .fixes_norms = true}, 12, 11},
                    DistanceCase{"densenet121", {.architecture = "densenet121", .fixes_norms = true}, 12, 3},
                    DistanceCase{
                        "densenet121_first_block", {.architecture = "densenet121", .batch = 4, .parts = 3}, 12, 8},
                    DistanceCase{"vgg19", {.architecture = "vgg19", .head = "gap", .size = 32}, 12, 15}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace graft
