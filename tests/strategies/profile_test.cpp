// Profiles of real steps on the CPU: what they hold, that their parts add up, and what they refuse.
#include "strategies/analysis/profile.h"

#include <numeric>

#include "tests/strategies/strategies_testing.h"
#include "tests/support/capturing_device.h"

namespace graft::testing {
namespace {

const DeviceLimits kLimits{.flops_per_second = 1e11, .bytes_per_second = 1e10, .flops_call = "f", .bytes_call = "b"};

TrainSettings small_settings(const std::string& strategy) {
  TrainSettings s;
  s.weights = Workshop::get().model().string();
  s.strategy = strategy;
  s.batch = 4;
  s.threads = 1;
  return s;
}

/// On the CPU, or on the CPU in the guise of a device whose results are read late.
std::optional<Profile> profile(const TrainSettings& settings, const ProfileSpec& spec, bool is_asynchronous = false) {
  StepProfiler profiler;
  CapturingDevice late;
  std::unique_ptr<Backend> device = make_backend({DeviceKind::cpu}, {.threads = 1});
  if (is_asynchronous) device = std::make_unique<ObservedBackend>(std::move(device), late);
  Context context(std::make_unique<ObservedBackend>(std::move(device), profiler));
  RecordingSink sink;
  return profile_steps(
      context, profiler, settings, spec, [] { return kLimits; }, sink);
}

const LayerProfile& layer(const Profile& p, const std::string& name) {
  const auto it = std::ranges::find(p.layers, name, &LayerProfile::name);
  if (it == p.layers.end()) throw Error("no layer " + name);
  return *it;
}

TEST(Profile, PartsAndLayersAddUpToTheStep) {
  const std::optional<Profile> p = profile(small_settings("full"), {.steps = 3, .warmup = 1});
  ASSERT_TRUE(p);
  EXPECT_EQ(p->architecture, "densenet121");
  EXPECT_EQ(p->size, 32);
  EXPECT_EQ(p->steps.size(), 3u);
  EXPECT_EQ(p->plain_seconds.size(), 3u);
  EXPECT_GT(p->peak_bytes, 4 * 4 * 6'950'000);  // value, gradient and two moments, at least
  EXPECT_NEAR(p->layer_total().seconds + p->part_seconds[0] + p->outside_calls(), p->seconds, 1e-12);
  for (double part : p->part_seconds) EXPECT_GT(part, 0);

  double flops = 0;
  std::int64_t calls = 0;
  for (const CallProfile& c : p->calls) flops += c.cost.flops, calls += c.cost.calls;
  EXPECT_EQ(flops, p->layer_total().flops);
  EXPECT_EQ(calls, p->calls_per_step);
  EXPECT_EQ(p->layers.front().name, "features.conv0");

  // The update's time and bytes are divided among the layers, whole.
  Cost update, of_calls;
  std::int64_t trainable = 0;
  for (const LayerProfile& l : p->layers) update += l.update, trainable += l.trainable;
  for (const CallProfile& c : p->calls)
    if (c.part == StepPart::update) of_calls += c.cost;
  EXPECT_EQ(trainable, 6'953'856 + 5 * 1025);  // DenseNet-121 without and with its head of 5 classes
  EXPECT_NEAR(update.bytes, of_calls.bytes, 1);
}

TEST(Profile, CallsNestInTheirPartsWithoutOverlap) {
  const std::optional<Profile> p = profile(small_settings("full"), {.steps = 1, .warmup = 0});
  ASSERT_TRUE(p);
  EXPECT_GE(p->outside_calls(), -1e-12);  // of one step: medians of several may exceed their sum's
  const TimedStep& step = p->steps[0];
  double end = 0;
  for (const TimedCall& c : step.calls) {
    EXPECT_GE(c.begin, end);
    end = c.begin + c.seconds;
    EXPECT_TRUE(std::ranges::any_of(step.parts, [&](const TimedPart& part) {
      return part.part == c.part && part.begin <= c.begin && end <= part.begin + part.seconds + 1e-12;
    }));
  }
  EXPECT_LE(end, step.seconds);
}

TEST(Profile, AFrozenBackboneHasForwardAlone) {
  const std::optional<Profile> p = profile(small_settings("linear-probe"), {.steps = 1, .warmup = 0});
  ASSERT_TRUE(p);
  for (const LayerProfile& l : p->layers) {
    EXPECT_EQ(l.backward.calls > 0, l.name == "classifier" || l.name == "loss" || l.name == "network") << l.name;
    EXPECT_EQ(l.trainable > 0, l.name == "classifier") << l.name;
  }
  EXPECT_GT(layer(*p, "features.conv0").forward.calls, 0);
  EXPECT_GT(layer(*p, "classifier").update.seconds, 0);
}

TEST(Profile, TheFreezePlanIsTheEpochs) {
  TrainSettings settings = small_settings("gradual-last-first");
  settings.epochs = 9;  // one stage each
  const std::optional<Profile> first = profile(settings, {.steps = 1, .warmup = 0, .epoch = 1}),
                               last = profile(settings, {.steps = 1, .warmup = 0, .epoch = 9});
  ASSERT_TRUE(first && last);
  EXPECT_EQ(layer(*first, "features.conv0").backward.calls, 0);
  EXPECT_GT(layer(*last, "features.conv0").backward.calls, 0);
}

TEST(Profile, AccumulationMakesOneStepOfSeveralBatches) {
  TrainSettings settings = small_settings("full");
  settings.accumulate = 2;
  const std::optional<Profile> p = profile(settings, {.steps = 1, .warmup = 0});
  ASSERT_TRUE(p);
  EXPECT_EQ(p->images(), 8);
  EXPECT_EQ(p->steps[0].parts.size(), 9u);  // images, numbers, forward, backward twice, one update
  EXPECT_EQ(layer(*p, "features.conv0").forward.calls % 2, 0);
}

TEST(Profile, StepsWhoseResultsAreReadLateAreTheSame) {
  TrainSettings settings = small_settings("full");
  settings.data =
      Workshop::get().images().string();  // 13 images: three whole steps of four and a rest, again and again
  const ProfileSpec spec{.steps = 5, .warmup = 2};
  const std::optional<Profile> at_once = profile(settings, spec), late = profile(settings, spec, true);
  ASSERT_TRUE(at_once && late);
  ASSERT_EQ(late->steps.size(), 5u);
  EXPECT_EQ(late->plain_seconds.size(), 5u);
  for (std::size_t i = 0; i < 5; ++i) {
    ASSERT_EQ(late->steps[i].calls.size(), at_once->steps[i].calls.size()) << i;
    for (std::size_t c = 0; c < late->steps[i].calls.size(); ++c) {
      EXPECT_EQ(late->steps[i].calls[c].op, at_once->steps[i].calls[c].op);
      EXPECT_EQ(late->steps[i].calls[c].detail, at_once->steps[i].calls[c].detail);  // of a whole batch
    }
  }
}

TEST(Profile, LowRankAdaptersBelongToTheirConvolution) {
  const std::optional<Profile> p = profile(small_settings("lora"), {.steps = 1, .warmup = 0});
  ASSERT_TRUE(p);
  EXPECT_GT(layer(*p, "features.denseblock1.denselayer1.conv1").trainable, 0);
}

TEST(Profile, ThePreTrainedNetworkOfAPenaltyHasNamesOfItsOwn) {
  const std::optional<Profile> p = profile(small_settings("delta"), {.steps = 1, .warmup = 0});
  ASSERT_TRUE(p);
  EXPECT_GT(layer(*p, "pre-trained.features.conv0").forward.calls, 0);
  EXPECT_EQ(layer(*p, "pre-trained.features.conv0").backward.calls, 0);
}

TEST(Profile, InferenceIsForwardAlone) {
  TrainSettings settings = small_settings("full");
  settings.data = Workshop::get().images().string();
  const std::optional<Profile> p = profile(settings, {.steps = 2, .warmup = 1, .is_inference = true});
  ASSERT_TRUE(p);
  EXPECT_EQ(p->part_seconds[std::size_t(StepPart::backward)], 0);
  EXPECT_EQ(layer(*p, "classifier").update.bytes, 0);
  for (const CallProfile& c : p->calls) EXPECT_NE(c.op, "batch_statistics");
}

TEST(Profile, PartialBatchesDoNotCount) {
  TrainSettings settings = small_settings("full");
  settings.data = Workshop::get().images().string();  // 13 images: three batches of 4, and one image left
  const std::optional<Profile> p = profile(settings, {.steps = 4, .warmup = 0});
  ASSERT_TRUE(p);
  for (const TimedStep& step : p->steps) {
    const auto conv = std::ranges::find(step.calls, "conv", &TimedCall::op);
    EXPECT_NE(conv->detail.find("[4,3,32,32]"), std::string::npos) << conv->detail;
  }
}

TEST(Profile, RefusesWhatItCannotDo) {
  TrainSettings settings = small_settings("full");
  EXPECT_THROW(profile(settings, {.epoch = 31}), UsageError);
  settings.data = Workshop::get().images().string();
  settings.batch = 64;
  EXPECT_THROW(profile(settings, {}), Error);
  const std::atomic<bool> stop = true;
  settings.batch = 4;
  EXPECT_FALSE(profile(settings, {.stop = &stop}));
  EXPECT_FALSE(profile(settings, {.is_inference = true, .stop = &stop}));
}

TEST(Profile, BoundsFollowTheLimits) {
  EXPECT_EQ(bound_of({.flops = 2e11, .bytes = 1e9}, kLimits).seconds, 2);
  EXPECT_TRUE(bound_of({.flops = 2e11, .bytes = 1e9}, kLimits).is_compute);
  EXPECT_EQ(bound_of({.flops = 0, .bytes = 5e9}, kLimits).seconds, 0.5);
  EXPECT_FALSE(bound_of({.flops = 0, .bytes = 5e9}, kLimits).is_compute);
}

TEST(DeviceLimits, AreMeasuredInPlausibleUnits) {
  Context context(make_backend({DeviceKind::cpu}, {.threads = 1}));
  const DeviceLimits limits = measure_limits(context);
  EXPECT_GT(limits.flops_per_second, 1e8);
  EXPECT_LT(limits.flops_per_second, 1e13);
  EXPECT_GT(limits.bytes_per_second, 1e7);
  EXPECT_LT(limits.bytes_per_second, 1e12);
  EXPECT_TRUE(limits.bytes_call.starts_with("copy of ")) << limits.bytes_call;
}

}  // namespace
}  // namespace graft::testing
