// Training steps of the three networks in planned memory: the bits of unplanned ones, also where a step differs from
// the one before it. Every block starts as NaN, so that a value from a block that was handed out too early shows.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "kernels/device_memory.h"
#include "kernels/observed_backend.h"
#include "models_testing.h"
#include "nn/losses.h"
#include "optim/optimizer.h"

namespace graft {
namespace {

class Malloc final : public MemorySource {
 public:
  void* get(std::int64_t bytes) override { return std::aligned_alloc(256, std::size_t(plan_aligned(bytes + 1))); }
  void give_back(void* block) noexcept override { std::free(block); }
  std::string name() const override { return "test"; }
};

/// Memory for any device, planned where `plans` says so.
class PlannedMemory final : public DeviceObserver {
 public:
  explicit PlannedMemory(bool plans) : plans_(plans) {}
  void* allocate(std::int64_t bytes, Backend&) override {
    void* block = memory.allocate(bytes);
    std::memset(block, 0xFF, std::size_t(bytes));
    return block;
  }
  void release(void* block, Backend&) noexcept override { memory.release(block); }
  std::uint64_t begin_step(std::int64_t kind, Backend&) override { return plans_ ? memory.begin_step(kind) : 0; }
  bool end_step(Backend&) override {
    followed += plans_ && memory.end_step();
    return true;
  }

  Malloc source;
  DeviceMemory memory{source};
  int followed = 0;

 private:
  bool plans_;
};

struct Steps {
  std::vector<double> losses, values;
  int followed = 0;
  std::int64_t reserved_bytes = 0, arena_bytes = 0;
  std::optional<MemoryPlan> plan;
};

/// Full batches, a last partial one, full ones again, then with the first half of the network frozen.
Steps train(DeviceKind kind, const std::string& architecture, bool plans) {
  PlannedMemory memory(plans);
  Context context(std::make_unique<ObservedBackend>(make_backend({kind}, {.threads = 2}), memory));
  Steps result;
  {
    const auto network = make_network(
        context,
        {.architecture = architecture, .num_classes = 3, .head = architecture == "vgg19" ? "gap" : "original"});
    fill_by_formula(*network);
    network->set_dropout(0.2);
    ParameterSet& parameters = network->parameters();
    Optimizer optimizer(parameters, {.kind = OptimizerKind::adam});
    const std::int64_t side = kind == DeviceKind::reference ? 32 : 64;
    const auto step = [&](std::int64_t n, std::int64_t step_kind) {
      const PlannedStep planned(context.backend(), step_kind);
      context.start_step(1, std::int64_t(result.losses.size()));
      parameters.clear_gradients();
      const Tensor x = from_host(context, {n, 3, side, side}, formula_values("x", n * 3 * side * side, 0, 1));
      const Tensor labels = labels_to_device(context, std::vector<std::int32_t>(std::size_t(n), 1), 3);
      const Tensor loss = softmax_cross_entropy(network->forward(x), labels).loss;
      result.losses.push_back(loss.to_host()[0]);
      context.tape().backward(loss);
      optimizer.step({.lr = 1e-3, .max_gradient_norm = 1});
    };
    const int repeats = kind == DeviceKind::reference ? 1 : 2;
    for (int epoch = 0; epoch < 2; ++epoch) {
      for (int i = 0; i < repeats; ++i) step(3, 0);
      step(2, 0);  // of the same kind, against the contract's advice: it leaves the plan
    }
    for (int i = 0; i < repeats + 1; ++i) step(3, 1);
    for (Parameter& p : parameters.parameters()) p.is_trainable = p.block > 2;
    for (RunningStatistics& s : parameters.statistics()) s.use_batch_statistics = s.block > 2;
    parameters.prepare_gradients();
    optimizer.prepare();
    for (int i = 0; i < 3; ++i) step(3, 1);
    result.values = parameters.values().to_host();
    result.plan = memory.memory.plan(1);
    result.arena_bytes = memory.memory.use().arena_bytes;
    result.reserved_bytes = memory.memory.use().reserved_bytes;
    result.followed = memory.followed;
  }
  context.tape().clear();
  return result;
}

class PlannedSteps : public ::testing::TestWithParam<std::tuple<DeviceKind, const char*>> {};

INSTANTIATE_TEST_SUITE_P(Cpu, PlannedSteps,
                         ::testing::Combine(::testing::Values(DeviceKind::cpu),
                                            ::testing::Values("resnet50", "densenet121", "vgg19")));
INSTANTIATE_TEST_SUITE_P(Reference, PlannedSteps,
                         ::testing::Combine(::testing::Values(DeviceKind::reference),
                                            ::testing::Values("densenet121")));

TEST_P(PlannedSteps, HaveTheBitsOfUnplannedOnes) {
  const auto [kind, architecture] = GetParam();
  const Steps planned = train(kind, architecture, true), unplanned = train(kind, architecture, false);
  EXPECT_EQ(planned.losses, unplanned.losses);
  EXPECT_EQ(planned.values, unplanned.values);
  EXPECT_EQ(unplanned.followed, 0);
  EXPECT_GE(planned.followed, 2);  // once with everything training, once without the first blocks
  EXPECT_LT(planned.followed, int(planned.losses.size()));
  ASSERT_TRUE(planned.plan.has_value());
  EXPECT_LE(double(planned.plan->arena_bytes), 1.02 * double(planned.plan->most_live_bytes));
}

}  // namespace
}  // namespace graft
