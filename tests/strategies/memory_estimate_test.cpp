// Estimates of memory against what the CPU really takes, for the same training steps.
#include "strategies/analysis/memory_estimate.h"

#include <gtest/gtest.h>

#include "kernels/cpu/cpu_device.h"
#include "kernels/out_of_memory.h"
#include "strategies/strategy.h"
#include "strategies/training/evaluation.h"
#include "strategies/training/fit.h"
#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

MemoryQuestion question(const std::string& architecture, const std::string& strategy = "full") {
  MemoryQuestion q{.settings = {}, .info = {}, .device = {DeviceKind::cpu}};
  q.settings.strategy = strategy;
  q.settings.batch = 8;
  q.settings.threads = q.settings.loader_threads = 2;
  q.info.architecture = architecture;
  q.info.head = architecture == "vgg19" ? "gap" : "original";
  q.info.num_classes = 3;
  q.info.input_size = q.info.resize = 64;
  return q;
}

/// Three real updates, and an evaluation.
MemoryUse measured(const MemoryQuestion& q) {
  Context context(make_backend(
      q.device,
      {.threads = int(q.settings.threads), .allows_winograd = q.settings.winograd, .precision = q.precision}));
  const auto network = make_network(context, q.info);
  initialise_from_scratch(*network, 1);
  std::vector<Sample> samples(std::size_t(q.settings.batch * q.settings.accumulate));
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i].label = std::int32_t(i % 3);
  const Dataset dataset({"a", "b", "c"}, samples, std::make_shared<testing::BlankImages>());
  SplitBatches batches({*network, dataset, q.settings, transform_of(q.info), {}});
  const RunDirectory nowhere{{}};
  testing::RecordingSink sink;
  const auto starting_network = [&] { return make_network(context, q.info); };
  Fit fit({*network, dataset, q.settings, batches, nowhere, nullptr, starting_network}, sink);
  const auto lr = [](std::int64_t) { return 1e-6; };
  EXPECT_TRUE(fit.sweep({.steps = 3, .lr = lr, .take_loss = [](std::int64_t, double) { return true; }}));
  predict_batches(*network, batches.training(), {.name = "validate", .count = std::ssize(samples)}, sink);
  return context.backend().memory();
}

struct Variant {
  const char* architecture;
  const char* strategy;
  const char* recompute;
  Precision precision = Precision::f32;
  bool winograd = false;
};
void PrintTo(const Variant& v, std::ostream* out) {
  *out << v.architecture << " " << v.strategy << " " << v.recompute << " " << to_string(v.precision)
       << (v.winograd ? " winograd" : "");
}

class EstimatedMemory : public ::testing::TestWithParam<Variant> {};

INSTANTIATE_TEST_SUITE_P(Cpu, EstimatedMemory,
                         ::testing::Values(Variant{"resnet50", "full", "none"}, Variant{"resnet50", "full", "norms"},
                                           Variant{"densenet121", "full", "none"},
                                           Variant{"densenet121", "full", "norms"}, Variant{"vgg19", "full", "none"},
                                           Variant{"resnet50", "l2-sp", "none"}, Variant{"resnet50", "delta", "none"},
                                           Variant{"resnet50", "linear-probe", "none"},
                                           Variant{"resnet50", "full", "none", Precision::bf16},
                                           Variant{"densenet121", "full", "norms", Precision::bf16},
                                           Variant{"vgg19", "full", "none", Precision::bf16},
                                           Variant{"resnet50", "full", "none", Precision::f32, true}));

TEST_P(EstimatedMemory, IsWhatTheCpuTakes) {
  MemoryQuestion q = question(GetParam().architecture, GetParam().strategy);
  q.settings.recompute = GetParam().recompute;
  q.precision = GetParam().precision;
  q.settings.winograd = GetParam().winograd;
  if (const std::string reason = cpu_bf16_unavailable_reason(); !reason.empty() && q.precision == Precision::bf16)
    GTEST_SKIP() << "not run in bf16 on the CPU: " << reason;
  const StageMemory estimate = largest(estimate_memory(q));
  const MemoryUse use = measured(q);
  EXPECT_NEAR(double(estimate.peak.total()) / double(use.peak_bytes), 1, 0.05);
  // What stays reserved at the end is the arena and the rest; the estimate has the most that ever was.
  EXPECT_GE(double(estimate.reserved_bytes), 0.95 * double(use.reserved_bytes));
  EXPECT_LE(estimate.step.arena_bytes, use.arena_bytes);  // which evaluation may need larger
}

TEST(MemoryEstimate, SaysWhatMemoryIsFor) {
  MemoryQuestion q = question("resnet50", "l2-sp");
  q.settings.batch = 32;
  const MemoryPeak peak = largest(estimate_memory(q)).peak;
  const double parameters = 23.5e6 * 4;                                        // bytes, of ResNet-50 with 3 classes
  EXPECT_NEAR(double(peak.of(MemoryUseKind::weights)) / parameters, 1, 0.02);  // and running statistics
  EXPECT_NEAR(double(peak.of(MemoryUseKind::gradients)) / parameters, 1, 0.02);
  EXPECT_NEAR(double(peak.of(MemoryUseKind::moments)) / parameters, 2, 0.04);  // Adam
  EXPECT_NEAR(double(peak.of(MemoryUseKind::anchors)) / parameters, 1, 0.02);
  EXPECT_GT(peak.of(MemoryUseKind::activations), 150 << 20);
  EXPECT_EQ(peak.total(), std::accumulate(peak.bytes.begin(), peak.bytes.end(), std::int64_t{0}));
  EXPECT_FALSE(peak.range.empty());
}

TEST(MemoryEstimate, AProbeTakesNoGradientsAndMomentsOfWhatIsFrozen) {
  MemoryQuestion q = question("resnet50", "linear-probe");
  const double head = (2048 + 1) * 3 * 4;  // bytes
  for (const StageMemory& stage : estimate_memory(q)) {
    EXPECT_LT(double(stage.peak.of(MemoryUseKind::gradients)), 1.1 * head);
    EXPECT_LT(double(stage.peak.of(MemoryUseKind::moments)), 2.1 * head);
    EXPECT_LT(stage.reserved_bytes, std::int64_t{240} << 20) << "the weights are 90 MiB";
  }
}

TEST(MemoryEstimate, CountsTheImagesThatAreToStay) {
  MemoryQuestion q = question("densenet121");
  q.device = {DeviceKind::cuda};
  q.images = 1000, q.validation_images = 200;
  const auto images = [&](std::int64_t megabytes) {
    q.settings.device_image_cache_mb = megabytes;
    return largest(estimate_memory(q)).peak.of(MemoryUseKind::images);
  };
  const std::int64_t sent = images(0);  // through two buffers of a batch
  EXPECT_EQ(sent, 2 * q.settings.batch * 64 * 64 * 3);
  EXPECT_EQ(images(-1), sent) << "by default they take what the run leaves";
  EXPECT_EQ(images(3) - sent, 3 << 20);
  EXPECT_EQ(images(1000) - sent, 1200 * 64 * 64 * 3);
  q.settings.augment = "standard";  // decoded images may be larger
  EXPECT_EQ(images(1000) - sent, 1000 << 20);
}

TEST(MemoryEstimate, EveryStrategyCanBeAsked) {
  for (const StrategyInfo& strategy : strategies()) {
    SCOPED_TRACE(strategy.name);
    MemoryQuestion q = question("densenet121", std::string(strategy.name));
    choose_strategy(q.settings, strategy.name);
    q.device = {DeviceKind::cuda};  // which is not here
    const std::vector<StageMemory> stages = estimate_memory(q);
    ASSERT_FALSE(stages.empty());
    EXPECT_EQ(stages.front().first_epoch, 1);
    EXPECT_EQ(stages.back().last_epoch, q.settings.epochs);
    for (const StageMemory& stage : stages) {
      EXPECT_GT(stage.peak.total(), 30 << 20);
      EXPECT_GE(stage.reserved_bytes, stage.peak.total());
      EXPECT_GE(stage.step.arena_bytes, stage.step.most_live_bytes);
    }
  }
}

TEST(MemoryEstimate, GradualUnfreezingNeedsMostAtItsEnd) {
  MemoryQuestion q = question("resnet50", "gradual-last-first");
  choose_strategy(q.settings, "gradual-last-first");
  q.settings.batch = 64;
  const std::vector<StageMemory> stages = estimate_memory(q);
  ASSERT_EQ(stages.size(), 6u);
  EXPECT_EQ(&largest(stages), &stages.back());
  for (std::size_t i = 1; i < stages.size(); ++i)
    EXPECT_GT(stages[i].step.most_live_bytes, stages[i - 1].step.most_live_bytes);
}

TEST(MemoryEstimate, TheLargestBatchFitsAndTwiceAsManyDoNot) {
  MemoryQuestion q = question("densenet121");
  q.device = {DeviceKind::cuda};
  q.limit_bytes = std::int64_t{600} << 20;
  const std::int64_t batch = largest_batch(q);
  EXPECT_GT(batch, 8);
  q.settings.batch = batch;
  EXPECT_LE(largest(estimate_memory(q)).reserved_bytes, q.limit_bytes);
  q.settings.batch = 2 * batch;
  EXPECT_THROW(estimate_memory(q), OutOfMemory);
  q.settings.recompute = "norms";
  EXPECT_GT(largest_batch(q), batch);
  q.images = 5;
  EXPECT_EQ(largest_batch(q), 5);
  q.limit_bytes = 1 << 20;
  EXPECT_EQ(largest_batch(q), 0);
}

}  // namespace
}  // namespace graft
