// A training step that is captured once and replayed gives the run that calling everything anew gives, bit for bit,
// whatever changes from step to step: rates, random numbers, labels, stages. No step waits for the device within what
// is captured: the capturing device makes that an error. How it captures: tests/support/capturing_device.h. Its memory
// is planned as a GPU's is, or apart from all other memory.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "data/csv.h"
#include "data/internals.h"
#include "optim/optimizer.h"
#include "strategies/training/checkpoint.h"
#include "strategies/training/train_step.h"
#include "tests/strategies/strategies_testing.h"
#include "tests/support/capturing_device.h"

namespace graft {
namespace {

using testing::CapturingDevice;
using testing::contains;
using testing::error_of;
using testing::short_run;
using testing::TemporaryFolder;
using testing::Workshop;

std::unique_ptr<Backend> plain(DeviceKind kind) { return make_backend({kind}, {.threads = 2}); }

std::unique_ptr<Backend> capturing(DeviceKind kind, CapturingDevice& device) {
  return std::make_unique<ObservedBackend>(plain(kind), device);
}

void train_on(std::unique_ptr<Backend> backend, const TrainSettings& settings) {
  Context context(std::move(backend));
  testing::RecordingSink sink;
  train(context, settings, {.config_toml = "", .command_line = ""}, sink);
}

/// epochs.csv without its times.
std::vector<std::vector<std::string>> epochs_of(const std::filesystem::path& run) {
  CsvTable table = parse_csv(read_text(run / "epochs.csv"), "epochs.csv");
  for (auto& row : table.rows) row.resize(table.column("seconds").value());
  return table.rows;
}

bool are_same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

void expect_same_files(const std::filesystem::path& a, const std::filesystem::path& b) {
  EXPECT_EQ(read_text(a / "steps.csv"), read_text(b / "steps.csv"));
  EXPECT_EQ(epochs_of(a), epochs_of(b));
  EXPECT_EQ(read_text(a / "predictions.csv"), read_text(b / "predictions.csv"));
  for (const char* file : {"last.h5", "best.h5"})
    EXPECT_EQ(testing::differing_tensors(a / file, b / file), std::vector<std::string>{}) << file;
  EXPECT_EQ(read_checkpoint(a / "last.h5").optimizer.arrays, read_checkpoint(b / "last.h5").optimizer.arrays);
  ASSERT_EQ(std::filesystem::exists(a / "internals.h5"), std::filesystem::exists(b / "internals.h5"));
  if (!std::filesystem::exists(a / "internals.h5")) return;
  const InternalsRecords x = read_internals(a / "internals.h5").records, y = read_internals(b / "internals.h5").records;
  EXPECT_EQ(x.step, y.step);
  for (std::size_t n = 0; n < x.norms.size(); ++n) EXPECT_TRUE(are_same_bits(x.norms[n], y.norms[n])) << n;
  EXPECT_TRUE(are_same_bits(x.mean_drift, y.mean_drift));
}

/// Runs `s` on a plain device and on two that capture and are read a step late.
void expect_replay_equals_eager(TrainSettings s, int replays, DeviceKind kind = DeviceKind::cpu,
                                CapturingDevice::Answers answers = {}) {
  TemporaryFolder folder;
  s.output = (folder / "eager").string(), s.graph = "off";
  train_on(plain(kind), s);
  for (const bool plans_memory : {false, true}) {
    SCOPED_TRACE(plans_memory ? "planned memory" : "memory of its own");
    answers.plans_memory = plans_memory;
    CapturingDevice device(answers);
    s.output = (folder / (plans_memory ? "planned" : "replay")).string(), s.graph = "on";
    train_on(capturing(kind, device), s);
    EXPECT_GE(device.replays, plans_memory ? 1 : replays);  // first steps are planned, and plans that grow move others
    EXPECT_LT(device.captures, device.replays + plans_memory) << "every step was captured anew";
    expect_same_files(folder / "eager", s.output);
  }
}

TrainSettings three_epochs(const std::string& strategy) {
  TrainSettings s = short_run("", strategy);  // 13 images: batches of 5, 5 and 3
  s.batch = 5, s.epochs = 3, s.lr = 1e-3;
  return s;
}

TEST(Replay, MomentumDropoutScheduleAndAccumulationEqualTheEagerRun) {
  TrainSettings s = three_epochs("full");
  s.optimizer = "sgd", s.nesterov = true, s.weight_decay = 0.01, s.dropout = 0.3, s.schedule = "one-cycle";
  s.lr = 1e-4, s.batch = 3, s.accumulate = 2, s.class_weights = "balanced", s.label_smoothing = 0.1,
  s.augment = "standard";
  expect_replay_equals_eager(s, 8);
}

TEST(Replay, SeveralLabelsPerImageEqualTheEagerRun) {
  const TemporaryFolder folder;
  std::string list = "path,labels,split\n";
  const std::filesystem::path images = Workshop::get().images();
  for (const char* split : {"train", "val", "test"})
    for (int i = 0; i < (split[1] == 'r' ? 6 : 3); ++i)
      for (const char* c : {"a", "b"})
        list += fmt::format("{}/{}/{}/{}.png,{}{},{}\n", images.string(), split, c, i, c, i % 2 ? "|odd" : "", split);
  TrainSettings s = three_epochs("full");
  s.data = folder.write("list.csv", list).string(), s.batch = 4, s.accumulate = 2, s.class_weights = "balanced";
  s.label_smoothing = 0.1;
  expect_replay_equals_eager(s, 6);
}

TEST(Replay, ClippingAndBiasCorrectionEqualTheEagerRun) {
  TrainSettings s = three_epochs("full");
  s.clip_norm = 0.5, s.optimizer = "adamw", s.weight_decay = 0.05, s.warmup_epochs = 1;
  expect_replay_equals_eager(s, 5);
}

TEST(Replay, InDoubleEqualsTheEagerRun) {
  TrainSettings s = three_epochs("full");
  s.max_steps = 5, s.clip_norm = 0.5;
  expect_replay_equals_eager(s, 2, DeviceKind::reference);
}

TEST(Replay, ImagesOfTheDeviceEqualTheEagerRun) {
  for (const std::int64_t megabytes : {0, 1}) {  // sent batch by batch, or kept there
    TrainSettings s = three_epochs("full");
    s.augment = "strong", s.device_image_cache_mb = megabytes;
    expect_replay_equals_eager(s, 5, DeviceKind::cpu, {.prepares_images = true});
  }
}

TEST(Replay, ImagesOfTheDeviceFollowTheListingAndAResume) {
  TemporaryFolder folder;
  TrainSettings s = three_epochs("linear-probe");
  s.shuffle = false, s.feature_cache = false, s.augment = "standard";
  s.output = (folder / "whole").string();
  train_on(plain(DeviceKind::cpu), s);
  s.output = (folder / "resumed").string(), s.device_image_cache_mb = 1;
  s.max_steps = 4;  // in the second epoch
  train_on(plain(DeviceKind::cpu), s);
  s.max_steps = -1, s.resume = true;
  CapturingDevice device({.prepares_images = true});
  train_on(capturing(DeviceKind::cpu, device), s);
  EXPECT_GT(device.replays, 0);
  expect_same_files(folder / "whole", folder / "resumed");
}

TEST(Replay, StochasticNormalisationEqualsTheEagerRun) { expect_replay_equals_eager(three_epochs("stoch-norm"), 5); }

TEST(Replay, PenaltiesEqualTheEagerRun) {
  expect_replay_equals_eager(three_epochs("l2-sp"), 5);
  TrainSettings s = three_epochs("l1-sp");
  s.strategy_settings["mode"] = std::string("proximal");
  expect_replay_equals_eager(s, 5);
}

TEST(Replay, RatesOfEveryStepAndRecordsEqualTheEagerRun) {
  TrainSettings s = three_epochs("auto-rgn");
  s.strategy_settings["every"] = std::string("step"), s.record_every = 2;
  expect_replay_equals_eager(s, 3);
}

TEST(Replay, RatesOfEveryEpochEqualTheEagerRun) { expect_replay_equals_eager(three_epochs("auto-rgn"), 3); }

TEST(Replay, FeatureMapsAndAdaptersEqualTheEagerRun) {
  expect_replay_equals_eager(three_epochs("delta"), 5);
  expect_replay_equals_eager(three_epochs("lora"), 5);
}

TEST(Replay, AFrozenPrefixEqualsTheEagerRun) {
  TrainSettings s = three_epochs("linear-probe");
  expect_replay_equals_eager(s, 5);
  s.feature_cache = false;
  expect_replay_equals_eager(s, 5);
}

TEST(Replay, StagesEqualTheEagerRun) {
  TrainSettings s = three_epochs("gradual-last-first");
  s.batch = 3, s.epochs = 10;  // nine stages
  expect_replay_equals_eager(s, 9);
  s = three_epochs("lp-ft");
  s.epochs = 4, s.strategy_settings["probe_epochs"] = std::int64_t{2};
  expect_replay_equals_eager(s, 4);
}

TEST(Replay, OtherNetworksEqualTheEagerRun) {
  for (const char* architecture : {"resnet50", "vgg19"}) {
    SCOPED_TRACE(architecture);
    TrainSettings s = three_epochs("full");
    s.weights = "", s.from_scratch = true, s.arch = architecture, s.size = 32, s.dropout = 0.4;
    if (s.arch == "vgg19") s.head = "gap";
    s.max_steps = 4;
    expect_replay_equals_eager(s, 2);
  }
}

TEST(Replay, ResumesToTheSameBits) {
  TemporaryFolder folder;
  TrainSettings s = three_epochs("l2-sp");
  s.graph = "on", s.output = (folder / "straight").string();
  CapturingDevice first, second, third;
  train_on(capturing(DeviceKind::cpu, first), s);
  s.output = (folder / "broken").string(), s.max_steps = 4;
  train_on(capturing(DeviceKind::cpu, second), s);
  s.max_steps = -1, s.resume = true;
  train_on(capturing(DeviceKind::cpu, third), s);
  EXPECT_EQ(read_text(folder / "straight" / "steps.csv"), read_text(folder / "broken" / "steps.csv"));
  EXPECT_EQ(testing::differing_tensors(folder / "straight" / "last.h5", folder / "broken" / "last.h5"),
            std::vector<std::string>{});
}

/// What a run that fails says, with the place of its directory left out.
std::string failure(std::unique_ptr<Backend> backend, TrainSettings s) {
  TemporaryFolder folder;
  s.output = (folder / "run").string();
  std::string message = error_of([&] { train_on(std::move(backend), s); });
  const std::string place = s.output;
  if (const std::size_t at = message.find(place); at != std::string::npos) message.replace(at, place.size(), "RUN");
  return message;
}

TEST(Replay, ALossThatIsNotFiniteIsNoticedLateAndNamesItsStep) {
  TrainSettings s = three_epochs("full");
  s.optimizer = "sgd", s.momentum = 0, s.schedule = "step", s.step_epochs = 1, s.step_gamma = 1e25, s.lr = 1e-4;
  CapturingDevice device;
  const std::string eager = failure(plain(DeviceKind::cpu), s), late = failure(capturing(DeviceKind::cpu, device), s);
  EXPECT_TRUE(contains(eager, "at step ")) << eager;
  EXPECT_EQ(late, eager);
  EXPECT_GT(device.replays, 0);
}

TEST(Replay, IsRefusedWhereTheDeviceOrASettingForbidsIt) {
  TrainSettings s = three_epochs("full");
  s.graph = "on";
  EXPECT_TRUE(contains(failure(plain(DeviceKind::cpu), s), "train.graph: on is not possible: cpu cannot capture"));
  s.bss = 1e-3;
  CapturingDevice device;
  EXPECT_TRUE(contains(failure(capturing(DeviceKind::cpu, device), s), "train.bss computes"));
  TemporaryFolder folder;
  s.graph = "auto", s.max_steps = 3, s.output = (folder / "run").string();
  train_on(capturing(DeviceKind::cpu, device), s);
  EXPECT_EQ(device.captures, 0);
}

/// A network, all that a step needs, and images of noise.
struct Steps {
  Steps(std::unique_ptr<Backend> backend, Strategy& strategy, bool captures, const TrainSettings& s = {})
      : context(std::move(backend)), settings(s), network(load_network(context, testing::Workshop::get().model())) {
    context.set_training(true);
    network->parameters().prepare_gradients();
    loss.emplace(context, TaskLossSpec{.num_classes = 5});
    optimizer.emplace(network->parameters(), OptimizerSpec{.kind = OptimizerKind::adam});
    step.emplace(TrainStep::Spec{.network = *network,
                                 .strategy = strategy,
                                 .optimizer = *optimizer,
                                 .loss = *loss,
                                 .settings = settings,
                                 .captures = captures});
    step->follow({.freeze = FreezePlan::trainable(network->parameters())}, 0);
  }

  StepResult run(std::int64_t number, double pixel = 0.5) {
    DeviceBatch& batch = step->inputs(4);
    batch.x = place_for(context, {4, 3, 32, 32}, batch.x);
    std::vector<float> pixels(std::size_t(batch.x.shape().size()));
    Random random({.seed = 5, .index = std::uint64_t(number)});
    for (float& p : pixels) p = float(pixel * random.uniform(-1, 1));
    batch.x.from_host(pixels);
    batch.labels = {1, 4, 0, std::int32_t(number % 5)};
    return step->run({.batch = batch, .lr = 1e-3 / double(1 + number), .random_step = number, .images_in_update = 4});
  }
  std::vector<double> values() const { return network->parameters().values().to_host(); }
  /// The values of parameters, without running statistics.
  std::vector<double> weights() const {
    std::vector<double> all = values();
    all.resize(std::size_t(network->parameters().statistics().front().offset));
    return all;
  }

  Context context;
  TrainSettings settings;
  std::unique_ptr<Network> network;
  std::optional<TaskLoss> loss;
  std::optional<Optimizer> optimizer;
  std::optional<TrainStep> step;
};

class Plain : public Strategy {
 public:
  EpochPlan plan(const EpochView& view) override { return {.freeze = FreezePlan::trainable(view.parameters)}; }
};

TEST(TrainStep, AfterALossThatIsNotFiniteNoWeightMoves) {
  for (const bool captures : {false, true}) {
    Plain strategy;
    CapturingDevice device;
    Steps s(capturing(DeviceKind::cpu, device), strategy, captures);
    for (std::int64_t i = 0; i < 3; ++i) EXPECT_TRUE(std::isfinite(s.run(i).loss()));
    const std::vector<double> before = s.weights();
    EXPECT_FALSE(std::isfinite(s.run(3, std::numeric_limits<double>::quiet_NaN()).loss()));
    EXPECT_EQ(s.weights(), before);
    s.run(4);  // begun before the host has noticed
    EXPECT_EQ(s.weights(), before);
    EXPECT_EQ(s.step->replays(), captures ? 4 : 0);
  }
}

TEST(TrainStep, ResultsAreThoseOfTheirStepHoweverLateTheyAreRead) {
  Plain strategy;
  CapturingDevice first, second;
  Steps late(capturing(DeviceKind::cpu, first), strategy, true),
      at_once(capturing(DeviceKind::cpu, second), strategy, true);
  std::vector<StepResult> results;
  std::vector<double> losses;
  for (std::int64_t i = 0; i < 5; ++i) {
    results.push_back(late.run(i));
    losses.push_back(at_once.run(i).loss());
  }
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(results[i].loss(), losses[i]) << i;
  EXPECT_NE(losses[3], losses[4]);
}

TEST(TrainStep, WaitingWithinACapturedStepIsAnErrorThatNamesTheCall) {
  class Waiting : public Plain {
   public:
    bool has_penalty() const override { return true; }
    Tensor penalty(const PenaltyView& view) override {
      const double mean = view.outputs[0].to_host()[0];  // a value of the device decides on the host
      return from_host(view.images.context(), {1, 1, 1, 1}, std::vector<double>{mean});
    }
  } strategy;
  CapturingDevice device;
  Steps s(capturing(DeviceKind::cpu, device), strategy, true);
  s.run(0);
  EXPECT_TRUE(contains(error_of([&] { s.run(1); }), "copy_out waits for the device"));
}

TEST(TrainStep, CountsCorrectAnswersAsTheHostDoes) {
  Plain strategy;
  Steps s(plain(DeviceKind::reference), strategy, false);
  std::int64_t found = 0;
  for (std::int64_t i = 0; i < 6; ++i) {
    s.run(i);
    const DeviceBatch& batch = s.step->inputs(4);
    std::vector<double> logits;
    {  // what the next step on this batch will answer
      const NoGrad no_grad(s.context);
      logits = s.step->logits(batch).to_host();
    }
    const std::vector<std::int32_t> predicted = predicted_classes(logits, 5);
    std::int64_t correct = 0;
    for (std::size_t k = 0; k < 4; ++k) correct += predicted[k] == batch.labels[k];
    EXPECT_EQ(s.run(i).correct(), correct) << i;
    found += correct;
  }
  EXPECT_GT(found, 0) << "the test needs a right answer";
}

/// Three parameters' worth of update steps with another rate each, by a capture of the first or by calling anew.
std::vector<double> updated(bool replays, bool is_baked) {
  CapturingDevice device;
  Context context(capturing(DeviceKind::reference, device));
  ParameterSet set;
  Parameter& p = set.add("p", {3, 2, 1, 1}, Role::linear_weight, 0);
  set.allocate(context);
  set.prepare_gradients();
  p.value.from_host(std::vector<double>{1, 2, 3, 4, 5, 6});
  Optimizer optimizer(set, {.kind = OptimizerKind::adam});
  const Tensor clock(context, {1, 2, 1, 1}, kNhwc, DType::f64);
  p.value.variable()->grad.from_host(std::vector<double>{1, -1, 2, -2, 3, -3});
  p.value.variable()->grad_written = true;
  std::unique_ptr<CapturedStep> captured;
  for (int step = 1; step <= 4; ++step) {
    const double numbers[] = {0.1 / step, double(step)};
    context.backend().copy_in(clock.view().data, numbers, sizeof numbers);
    optimizer.begin_step({.lr = 0.1 / step, .clock = is_baked ? View{} : clock.view()});
    if (!replays) {
      optimizer.run_step();
      continue;
    }
    if (!captured) {
      context.backend().begin_capture();
      optimizer.run_step();
      captured = context.backend().end_capture();
    }
    captured->replay();
  }
  return p.value.to_host();
}

// The tests above would not notice a rate that is captured with the step if it made no difference.
TEST(Replay, ARateThatIsCapturedWithTheStepIsCaught) {
  EXPECT_EQ(updated(true, false), updated(false, false));
  EXPECT_EQ(updated(false, true), updated(false, false));
  EXPECT_NE(updated(true, true), updated(false, true));
}

}  // namespace
}  // namespace graft
