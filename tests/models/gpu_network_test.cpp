// The three networks on a GPU beside the CPU, both held against the reference device: logits, every gradient on several
// batches, the loss after steps, and the same bits again. Skipped with the reason where there is no GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <random>

#include "models/network.h"
#include "nn/losses.h"
#include "optim/optimizer.h"
#include "tests/models/models_testing.h"

namespace graft {
namespace {

constexpr std::int64_t kBatch = 4, kClasses = 7;
constexpr int kBatches = 9, kVggBatches = 3;  // VGG-19 is slow, and rounding turns little in it

/// Who computes. What is no GPU may stand in for one: the comparison is of any backend with the CPU's usual one.
struct Machine {
  DeviceKind device;
  BackendOptions options = {};
};
const Machine kReference{DeviceKind::reference}, kCpu{DeviceKind::cpu}, kGpu{DeviceKind::cuda};

/// A network with its batches.
class Trial {
 public:
  Trial(const Machine& machine, const std::string& architecture)
      : architecture_(architecture),
        context_(make_backend(test_device(machine.device), machine.options)),
        network_(make_network(context_, {.architecture = architecture, .num_classes = kClasses})),
        loss_(context_, {.num_classes = kClasses, .label_smoothing = 0.1}) {
    network_->set_dropout(0);
    fill_by_formula(*network_);
    network_->parameters().prepare_gradients();
  }
  Context& context() { return context_; }
  Network& network() { return *network_; }

  Tensor images(int batch) {
    const std::int64_t size = architecture_ == "vgg19" ? 32 : 64;
    Tensor x = empty(context_, {kBatch, 3, size, size});
    x.from_host(formula_values("gpu_network." + architecture_ + "." + std::to_string(batch), x.shape().size(), 0, 1));
    return x;
  }
  /// Takes the gradients. Returns logits and loss.
  std::pair<Tensor, Tensor> gradients(int batch) {
    context_.set_training(true);
    network_->parameters().clear_gradients();
    const std::vector<std::int32_t> labels{2, (6 + batch) % 7, batch % 7, 2};
    const Tensor logits = network_->forward(images(batch));
    const Tensor value = loss_(logits, labels_to_device(context_, labels, kClasses)).loss;
    context_.tape().backward(value);
    return {logits, value};
  }

 private:
  std::string architecture_;
  Context context_;
  std::unique_ptr<Network> network_;
  TaskLoss loss_;
};

struct Pass {
  std::vector<double> evaluated, logits;
  std::map<std::string, std::vector<double>> gradients;
  std::vector<double> losses;
};

/// Evaluates, takes one gradient, and three steps of SGD.
Pass run(const Machine& machine, const std::string& architecture) {
  Trial trial(machine, architecture);
  ParameterSet& parameters = trial.network().parameters();
  Pass pass;
  {
    const NoGrad no_grad(trial.context());
    trial.context().set_training(false);
    pass.evaluated = trial.network().forward(trial.images(0)).to_host();
  }
  Optimizer optimizer(parameters, {.kind = OptimizerKind::sgd, .momentum = 0.9});
  optimizer.prepare();
  for (int step = 0; step < 3; ++step) {
    const auto [logits, value] = trial.gradients(0);
    pass.losses.push_back(value.to_host()[0]);
    if (step == 0) {
      pass.logits = logits.to_host();
      for (const Parameter& p : parameters.parameters()) pass.gradients[p.name] = p.gradient().to_host();
    }
    optimizer.step(1e-3);
  }
  return pass;
}

/// How a tensor x differs from the truth t: distance |x - t| / |t|, and excess <x - t, t> / <t, t>, by which x is t
/// scaled up.
struct Difference {
  double distance, excess;
};
Difference difference(const std::vector<double>& x, const std::vector<double>& t) {
  double off = 0, along = 0, size = 0;
  for (std::size_t i = 0; i < t.size(); ++i) {
    off += (x[i] - t[i]) * (x[i] - t[i]);
    along += (x[i] - t[i]) * t[i];
    size += t[i] * t[i];
  }
  return {std::sqrt(off / size), along / size};
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

/// Of one gradient tensor, batch by batch.
struct Differences {
  std::vector<double> distances, excesses;
  void add(const Difference& d) {
    distances.push_back(d.distance);
    excesses.push_back(d.excess);
  }
};

// At this size a ReLU or a max pool that rounding turns the other way changes all gradients before it by per cents, for
// any backend, so one batch tells little. But such a change points in a direction of its own each time: over nine
// batches the medians of two correct backends' distances are much alike, and the median of the excess stays below
// 0.002, while a gradient that is wrong is wrong in every batch.
constexpr double kMostExcess = 0.005, kTimesCpu = 2, kSurelyRounding = 0.01;

/// Empty when a backend's gradient is as good as the CPU's.
std::string fault(const Differences& device, const Differences& cpu) {
  if (!std::ranges::all_of(device.distances, [](double d) { return std::isfinite(d); })) return " not finite";
  const double distance = median(device.distances), allowed = kTimesCpu * median(cpu.distances) + kSurelyRounding;
  const double excess = median(device.excesses);
  std::string found;
  if (distance > allowed) found += " off by " + std::to_string(distance) + ", allowed " + std::to_string(allowed);
  if (std::abs(excess) > kMostExcess) found += " too large by " + std::to_string(excess);
  return found;
}

/// By gradient tensor.
struct Comparison {
  std::map<std::string, Differences> device, cpu;
};
Comparison compare_gradients(const Machine& machine, const std::string& architecture) {
  Comparison found;
  Trial reference(kReference, architecture), device(machine, architecture), cpu(kCpu, architecture);
  for (int batch = 0; batch < (architecture == "vgg19" ? kVggBatches : kBatches); ++batch) {
    for (Trial* trial : {&reference, &device, &cpu}) trial->gradients(batch);
    const auto& truth = reference.network().parameters().parameters();
    for (std::size_t i = 0; i < truth.size(); ++i) {
      const std::vector<double> t = truth[i].gradient().to_host();
      const auto of = [&](Trial& trial) {
        return difference(trial.network().parameters().parameters()[i].gradient().to_host(), t);
      };
      found.device[truth[i].name].add(of(device));
      found.cpu[truth[i].name].add(of(cpu));
    }
  }
  return found;
}

void expect_as_good_as_the_cpus(const Comparison& found) {
  double distance = 0, excess = 0;
  for (const auto& [name, on_device] : found.device) {
    EXPECT_EQ(fault(on_device, found.cpu.at(name)), "") << name;
    distance =
        std::max(distance, median(on_device.distances) / (median(found.cpu.at(name).distances) + kSurelyRounding));
    excess = std::max(excess, std::abs(median(on_device.excesses)));
  }
  std::printf("  medians over batches: distance at most %.2f of the CPU's plus %g, excess at most %.4f\n", distance,
              kSurelyRounding, excess);
}

TEST(GradientComparison, FindsWhatIsWrongBehindWhatRoundingDoes) {
  std::mt19937 bits(1);
  std::normal_distribution<double> normal;
  // What a wrong backend makes of the truth t.
  using Mistake = std::function<void(std::vector<double> & x, const std::vector<double>& t)>;
  const auto differences = [&](const Mistake& mistake) {
    Differences found;
    for (int batch = 0; batch < kBatches; ++batch) {
      const double noise = batch < 4 ? 0.1 : 0.01;  // a ReLU has turned in four of the batches
      std::vector<double> t(512), x;
      for (double& v : t) v = normal(bits);
      x = t;
      mistake(x, t);
      for (double& v : x) v += noise * normal(bits);
      found.add(difference(x, t));
    }
    return found;
  };
  const Mistake none = [](auto&, const auto&) {};
  const Differences cpu = differences(none);
  EXPECT_EQ(fault(differences(none), cpu), "");
  EXPECT_NE(fault(differences([](auto& x, const auto&) {
                    for (double& v : x) v *= 1.01;
                  }),
                  cpu),
            "");
  EXPECT_NE(fault(differences([](auto& x, const auto& t) {  // a term of a tenth, that has nothing to do with t
                    for (std::size_t i = 0; i < x.size(); ++i) x[i] += 0.1 * t[x.size() - 1 - i];
                  }),
                  cpu),
            "");
  EXPECT_NE(fault(differences([](auto& x, const auto&) { x[7] = std::nan(""); }), cpu), "");
}

/// Another way to convolve, which rounds more, in the place of another machine.
TEST(GradientComparison, HoldsForTheCpusOtherConvolutionsAndNotIfOneGradientIsScaled) {
  const Comparison found = compare_gradients({DeviceKind::cpu, {.allows_winograd = true}}, "densenet121");
  expect_as_good_as_the_cpus(found);
  for (auto [name, on_device] : found.device) {
    for (double& e : on_device.excesses) e = 1.01 * (1 + e) - 1;
    EXPECT_NE(fault(on_device, found.cpu.at(name)), "") << name;
  }
}

class GpuNetwork : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (const std::string reason = cuda_unavailable_reason(); !reason.empty())
      GTEST_SKIP() << "not run on a GPU: " << reason;
  }
};

TEST_P(GpuNetwork, GradientsAreAsGoodAsTheCpus) { expect_as_good_as_the_cpus(compare_gradients(kGpu, GetParam())); }

TEST_P(GpuNetwork, LogitsAndLossesAreAsCloseToTheReferenceAsTheCpus) {
  const Pass truth = run(kReference, GetParam()), cpu = run(kCpu, GetParam()), gpu = run(kGpu, GetParam());
  EXPECT_LE(difference(gpu.evaluated, truth.evaluated).distance, 1e-4);
  EXPECT_LE(difference(gpu.logits, truth.logits).distance, 1e-4);
  // Rounding grows about thirty-fold a step.
  EXPECT_NEAR(gpu.losses[0], truth.losses[0], 1e-4 * truth.losses[0]);
  for (int step : {1, 2})
    EXPECT_LE(std::abs(gpu.losses[std::size_t(step)] - truth.losses[std::size_t(step)]),
              8 * std::abs(cpu.losses[std::size_t(step)] - truth.losses[std::size_t(step)]) +
                  1e-3 * truth.losses[std::size_t(step)])
        << "step " << step;
}

TEST_P(GpuNetwork, GivesTheSameBitsAgain) {
  const Pass first = run(kGpu, GetParam()), second = run(kGpu, GetParam());
  EXPECT_EQ(first.evaluated, second.evaluated);
  EXPECT_EQ(first.losses, second.losses);
  for (const auto& [name, gradient] : first.gradients) EXPECT_EQ(gradient, second.gradients.at(name)) << name;
}

INSTANTIATE_TEST_SUITE_P(Cuda, GpuNetwork, testing::Values("resnet50", "densenet121", "vgg19"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace graft
