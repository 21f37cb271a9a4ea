// Runs in 16 bits, on the reference device: every kind of strategy trains, near what it does in float64; resuming and
// kept features give the same bits as without; the loss scale is part of a checkpoint. In bf16 on the CPU likewise.
#include <cmath>
#include <nlohmann/json.hpp>

#include "data/csv.h"
#include "data/files.h"
#include "kernels/cpu/cpu_device.h"
#include "tests/strategies/strategies_testing.h"

namespace graft::testing {
namespace {

Ran run_in(Precision precision, const TrainSettings& settings,
           const std::function<bool(const PassProgress&)>& stops = {}, DeviceKind device = DeviceKind::reference) {
  Context context(make_backend({device}, {.threads = 2, .precision = precision}));
  Ran ran;
  std::atomic<bool> stop = false;
  if (stops) ran.sink.on_advance = [&](const PassProgress& p) { stop = stop || stops(p); };
  ran.result = train(context, settings, {.config_toml = "", .command_line = "graft train", .stop = &stop}, ran.sink);
  ran.sink.on_advance = nullptr;
  return ran;
}

/// The task's losses of a run, step by step.
std::vector<double> losses(const std::filesystem::path& run) {
  const CsvTable table = parse_csv(read_text(run / "steps.csv"), "steps.csv");
  std::vector<double> all;
  for (const std::vector<std::string>& row : table.rows) all.push_back(std::stod(row[*table.column("loss")]));
  return all;
}

TrainSettings short_half_run(const std::filesystem::path& output, const std::string& strategy) {
  TrainSettings s = short_run(output, strategy);
  s.lr = 1e-3;
  s.epochs = strategy.starts_with("gradual") ? 9 : 1;
  s.max_steps = 3;
  return s;
}

struct StrategyCase {
  std::string strategy;
  Precision precision;
  double bss = 0, clip_norm = 0;
  bool fixes_norms = false;
};
std::string name_of(const StrategyCase& c) {
  std::string name = c.strategy + "_" + std::string(to_string(c.precision)) + (c.bss > 0 ? "_bss" : "");
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

class HalfStrategies : public ::testing::TestWithParam<StrategyCase> {};

TEST_P(HalfStrategies, TrainNearFloat64) {
  const StrategyCase& c = GetParam();
  const TemporaryFolder folder;
  std::vector<double> of[2];
  for (const Precision precision : {Precision::f32, c.precision}) {
    const std::string name(to_string(precision));
    TrainSettings s = short_half_run(folder / name, c.strategy);
    s.bss = c.bss, s.clip_norm = c.clip_norm;
    if (c.fixes_norms)
      s.strategy_settings["batch_norm"] = std::string("running");
    else if (c.strategy == "full")  // all images at once: statistics of four pixels amplify roundings
      s.batch = 14, s.epochs = 3;
    const Ran ran = run_in(precision, s);
    EXPECT_TRUE(ran.result.has_test);
    const auto summary = nlohmann::json::parse(ran.result.summary_json);
    EXPECT_EQ(summary.at("activations"), precision == Precision::f32 ? "f64" : name);
    EXPECT_EQ(summary.value("skipped_steps", 0), 0);
    of[precision == c.precision] = losses(folder / name);
  }
  ASSERT_EQ(of[0].size(), 3u);
  ASSERT_EQ(of[1].size(), 3u);
  // One forward pass differs by its roundings; with each update differences grow.
  const double u = c.precision == Precision::bf16 ? 0x1p-9 : 0x1p-12;
  for (std::size_t i = 0; i < 3; ++i) {
    std::printf("  %s step %zu: %.6f, in 16 bits %.6f (%.3g u)\n", name_of(c).c_str(), i, of[0][i], of[1][i],
                std::abs(of[1][i] / of[0][i] - 1) / u);
    EXPECT_NEAR(of[1][i], of[0][i], (i == 0 ? 40 : 200) * u * of[0][i]) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Reference, HalfStrategies,
                         ::testing::Values(StrategyCase{"full", Precision::bf16, 0, 1.0},
                                           StrategyCase{"full", Precision::f16, 0.01, 0, true},
                                           StrategyCase{"linear-probe", Precision::bf16},
                                           StrategyCase{"lora", Precision::f16},
                                           StrategyCase{"delta", Precision::f16, 0, 0, true},
                                           StrategyCase{"stoch-norm", Precision::bf16},
                                           StrategyCase{"auto-rgn", Precision::f16}),
                         [](const auto& test) { return name_of(test.param); });

/// Batch statistics of four pixels, in a network drawn at random, make gradients that overflow f16 at the first scales.
TEST(HalfTrain, OverflowIsSkippedAndSaid) {
  const TemporaryFolder folder;
  const Ran ran = run_in(Precision::f16, short_half_run(folder / "run", "full"));
  EXPECT_TRUE(contains(ran.sink.notes, "epoch 1: 3 of 3 updates were skipped")) << ran.sink.notes;
  EXPECT_TRUE(contains(ran.sink.notes, "the loss scale is now 8192")) << ran.sink.notes;
  EXPECT_EQ(nlohmann::json::parse(ran.result.summary_json).at("skipped_steps"), 3);
  EXPECT_EQ(read_checkpoint(folder / "run" / "last.h5").optimizer.arrays.count("classifier.weight.moment1"), 0u);
}

TEST(HalfTrain, ResumesToTheSameBits) {
  const TemporaryFolder folder;
  TrainSettings s = short_half_run(folder / "whole", "full");
  s.epochs = 2, s.max_steps = -1;
  run_in(Precision::f16, s);
  s.output = (folder / "parts").string();
  const Ran stopped =
      run_in(Precision::f16, s, [](const PassProgress& p) { return p.pass == "train" && p.epoch == 2; });
  EXPECT_TRUE(stopped.result.was_interrupted);
  const Checkpoint checkpoint = read_checkpoint(folder / "parts" / "last.h5");
  EXPECT_TRUE(checkpoint.optimizer.arrays.contains("loss_scale"));
  s.resume = true;
  run_in(Precision::f16, s);
  EXPECT_EQ(read_text(folder / "whole" / "predictions.csv"), read_text(folder / "parts" / "predictions.csv"));
  EXPECT_TRUE(differing_tensors(folder / "whole" / "last.h5", folder / "parts" / "last.h5").empty());
  // Files hold the masters, not what was stored for the operations.
  const WeightTable weights = read_model_file(folder / "whole" / "last.h5").weights;
  const WeightTensor* head = weights.find("classifier.weight");
  ASSERT_TRUE(head);
  EXPECT_TRUE(std::ranges::any_of(head->values, [](float v) { return std::fmod(v, 0x1p-20) != 0; }));
}

TEST(HalfTrain, KeptFeaturesGiveTheBitsOfImages) {
  const TemporaryFolder folder;
  TrainSettings s = short_half_run(folder / "kept", "linear-probe");
  s.max_steps = -1, s.batch = 14;  // all training images at once, so that both ways group them alike
  const Ran kept = run_in(Precision::bf16, s);
  EXPECT_TRUE(contains(kept.sink.notes, "is computed once and kept, 1024 values for each of"));
  s.output = (folder / "images").string();
  s.feature_cache = false;
  run_in(Precision::bf16, s);
  EXPECT_EQ(losses(folder / "kept"), losses(folder / "images"));
  EXPECT_EQ(read_text(folder / "kept" / "predictions.csv"), read_text(folder / "images" / "predictions.csv"));
}

TEST(HalfTrain, FeatureFilesOfOneTypeAreNotTakenForAnothers) {
  const TemporaryFolder folder;
  const auto notes = [&](Precision precision, const char* name) {
    TrainSettings s = short_half_run(folder / name, "linear-probe");
    s.max_steps = -1, s.feature_cache_dir = (folder / "features").string();
    return run_in(precision, s).sink.notes;
  };
  EXPECT_TRUE(contains(notes(Precision::bf16, "a"), "is computed once"));
  EXPECT_TRUE(contains(notes(Precision::f16, "b"), "is computed once"));
  EXPECT_TRUE(contains(notes(Precision::bf16, "c"), "was computed by an earlier run"));
}

class HalfTrainOnTheCpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = cpu_bf16_unavailable_reason(); !reason.empty())
      GTEST_SKIP() << "not run in bf16 on the CPU: " << reason;
  }
  static Ran run_on_cpu(const TrainSettings& s, const std::function<bool(const PassProgress&)>& stops = {}) {
    return run_in(Precision::bf16, s, stops, DeviceKind::cpu);
  }
};

TEST_F(HalfTrainOnTheCpu, TrainsNearTheReference) {
  const TemporaryFolder folder;
  TrainSettings s = short_half_run(folder / "reference", "full");
  s.batch = 14, s.epochs = 3;  // all images at once: statistics of four pixels amplify roundings
  run_in(Precision::bf16, s);
  s.output = (folder / "cpu").string();
  const Ran ran = run_on_cpu(s);
  EXPECT_EQ(nlohmann::json::parse(ran.result.summary_json).at("activations"), "bf16");
  const std::vector<double> reference = losses(folder / "reference"), cpu = losses(folder / "cpu");
  ASSERT_EQ(reference.size(), 3u);
  ASSERT_EQ(cpu.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {  // the limits of HalfStrategies: both are that near to float64
    std::printf("  step %zu: %.6f, on the CPU %.6f\n", i, reference[i], cpu[i]);
    EXPECT_NEAR(cpu[i], reference[i], (i == 0 ? 40 : 200) * 0x1p-9 * reference[i]) << i;
  }
}

TEST_F(HalfTrainOnTheCpu, ResumesToTheSameBits) {
  const TemporaryFolder folder;
  TrainSettings s = short_half_run(folder / "whole", "full");
  s.epochs = 2, s.max_steps = -1;
  run_on_cpu(s);
  s.output = (folder / "parts").string();
  const Ran stopped = run_on_cpu(s, [](const PassProgress& p) { return p.pass == "train" && p.epoch == 2; });
  EXPECT_TRUE(stopped.result.was_interrupted);
  s.resume = true;
  run_on_cpu(s);
  EXPECT_EQ(read_text(folder / "whole" / "predictions.csv"), read_text(folder / "parts" / "predictions.csv"));
  EXPECT_TRUE(differing_tensors(folder / "whole" / "last.h5", folder / "parts" / "last.h5").empty());
}

TEST_F(HalfTrainOnTheCpu, FeatureFilesOfOneTypeAreNotTakenForAnothers) {
  const TemporaryFolder folder;
  const auto notes = [&](Precision precision, const char* name) {
    TrainSettings s = short_half_run(folder / name, "linear-probe");
    s.max_steps = -1, s.feature_cache_dir = (folder / "features").string();
    return run_in(precision, s, {}, DeviceKind::cpu).sink.notes;
  };
  EXPECT_TRUE(contains(notes(Precision::f32, "a"), "is computed once"));
  EXPECT_TRUE(contains(notes(Precision::bf16, "b"), "is computed once"));
  for (const auto& [precision, name] : {std::pair(Precision::f32, "c"), {Precision::bf16, "d"}})
    EXPECT_TRUE(contains(notes(precision, name), "was computed by an earlier run"));
}

TEST_F(HalfTrainOnTheCpu, KeptFeaturesGiveTheBitsOfImages) {
  const TemporaryFolder folder;
  TrainSettings s = short_half_run(folder / "kept", "linear-probe");
  s.max_steps = -1, s.batch = 14;
  EXPECT_TRUE(contains(run_on_cpu(s).sink.notes, "is computed once and kept, 1024 values for each of"));
  s.output = (folder / "images").string();
  s.feature_cache = false;
  run_on_cpu(s);
  EXPECT_EQ(losses(folder / "kept"), losses(folder / "images"));
  EXPECT_EQ(read_text(folder / "kept" / "predictions.csv"), read_text(folder / "images" / "predictions.csv"));
}

}  // namespace
}  // namespace graft::testing
