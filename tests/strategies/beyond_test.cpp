// Runs of delta, bss, stoch-norm: their special cases, and that accumulation means the same as a bigger
// batch. Their numbers are held against PyTorch in reference_test.cpp, resuming in train_test.cpp.
#include <gtest/gtest.h>

#include <cmath>

#include "data/csv.h"
#include "strategies/strategy.h"
#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

using testing::contains;
using testing::differing_tensors;
using testing::error_of;
using testing::Ran;
using testing::run;
using testing::short_run;
using testing::TemporaryFolder;
using testing::Workshop;

constexpr std::int64_t kFew = 3;  // steps of most runs here

TrainSettings few_steps(const std::filesystem::path& output, const std::string& strategy) {
  TrainSettings s = short_run(output, strategy);
  s.lr = 1e-3, s.epochs = 1, s.max_steps = kFew;
  return s;
}

std::vector<double> column(const std::filesystem::path& run, std::string_view name) {
  const CsvTable table = parse_csv(read_text(run / "steps.csv"), "steps.csv");
  std::vector<double> values;
  for (const auto& row : table.rows) values.push_back(std::stod(row[table.column(name).value()]));
  return values;
}

void expect_near(const std::vector<double>& a, const std::vector<double>& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], tolerance * std::abs(b[i])) << i;
}

TEST(Delta, WithoutStrengthIsFullFineTuning) {
  TemporaryFolder folder;
  TrainSettings s = few_steps(folder / "full", "full");
  s.optimizer = "sgd", s.lr = 1e-5, s.max_steps = 2;
  run(s, DeviceKind::reference);
  s.strategy = "delta", s.output = (folder / "zero").string(), s.strategy_settings["alpha"] = 0.0;
  run(s, DeviceKind::reference);
  // A network that runs block by block adds its gradients in another order.
  expect_near(column(folder / "zero", "loss"), column(folder / "full", "loss"), 1e-8);
  EXPECT_EQ(column(folder / "zero", "penalty"), (std::vector<double>{0, 0}));
  s.output = (folder / "strong").string(), s.strategy_settings["alpha"] = 1.0;
  run(s, DeviceKind::reference);
  EXPECT_EQ(column(folder / "zero", "loss")[0], column(folder / "strong", "loss")[0]);
  for (double penalty : column(folder / "strong", "penalty")) EXPECT_GT(penalty, 0);
}

TEST(Delta, AccumulationEqualsABiggerBatch) {
  for (const char* reduction : {"sum", "mean"}) {
    TemporaryFolder folder;
    TrainSettings s = few_steps(folder / "big", "delta");
    // Fixed statistics, so that images do not see each other; unequal classes with weights.
    s.strategy_settings = {{"batch_norm", std::string("running")}, {"reduction", std::string(reduction)}};
    s.optimizer = "sgd", s.class_weights = "balanced", s.batch = 4, s.max_steps = 2;
    run(s, DeviceKind::reference);
    s.output = (folder / "small").string(), s.batch = 2, s.accumulate = 2;
    run(s, DeviceKind::reference);
    for (const char* name : {"loss", "penalty"})
      expect_near(column(folder / "small", name), column(folder / "big", name), 1e-10);
    EXPECT_GT(column(folder / "big", "penalty")[1], 0);
  }
}

TEST(Delta, ABlockThatDoesNotExistStopsBeforeAnythingIsWritten) {
  TemporaryFolder folder;
  TrainSettings s = few_steps(folder / "run", "delta");
  s.strategy_settings["blocks"] = std::string("stem, denseblok2");
  const std::string message = error_of([&] { run(s); });
  EXPECT_TRUE(contains(message, "'denseblok2' is unknown, did you mean 'denseblock2'?")) << message;
  s.strategy_settings["blocks"] = std::string("stem,");
  EXPECT_TRUE(contains(error_of([&] { run(s); }), "a name is missing"));
  EXPECT_FALSE(std::filesystem::exists(folder / "run"));
}

TEST(Bss, IsASettingOfEveryStrategyAndIsLeftOutWhereFeaturesAreFixed) {
  TemporaryFolder folder;
  TrainSettings s = few_steps(folder / "bss", "bss");
  EXPECT_EQ(s.bss, 0);  // the default comes with the name, where settings are parsed
  choose_strategy(s, "bss");
  EXPECT_EQ(s.bss, 1e-3);
  run(s);
  s = few_steps(folder / "full", "full");
  s.bss = 1e-3;
  run(s);
  EXPECT_EQ(differing_tensors(folder / "bss" / "last.h5", folder / "full" / "last.h5"), std::vector<std::string>{});
  for (double penalty : column(folder / "bss", "penalty")) EXPECT_GT(penalty, 0);
  s = few_steps(folder / "probe", "linear-probe");
  s.bss = 1e-3;
  const Ran ran = run(s);
  EXPECT_TRUE(contains(ran.sink.notes, "train.bss: the features cannot change")) << ran.sink.notes;
  EXPECT_EQ(column(folder / "probe", "penalty"), (std::vector<double>{0, 0, 0}));
}

TEST(StochNorm, WithCertaintyIsFullFineTuningAndOtherwiseDrawsByTheSeed) {
  TemporaryFolder folder;
  TrainSettings s = few_steps(folder / "full", "full");
  s.shuffle = false;
  run(s);
  s.strategy = "stoch-norm", s.output = (folder / "one").string(), s.strategy_settings["p"] = 1.0;
  run(s);
  EXPECT_EQ(differing_tensors(folder / "full" / "last.h5", folder / "one" / "last.h5"), std::vector<std::string>{});
  s.strategy_settings.clear();
  const Ran half = (s.output = (folder / "half").string(), run(s));
  EXPECT_TRUE(contains(half.sink.notes, "batch 0.5, updated")) << half.sink.notes;
  const Ran again = (s.output = (folder / "again").string(), s.threads = 1, run(s));
  EXPECT_NE(column(folder / "half", "loss")[0], column(folder / "full", "loss")[0]);
  expect_near(column(folder / "again", "loss"), column(folder / "half", "loss"), 1e-4);  // vendors' sums by threads
}

TEST(StochNorm, NeedsBatchNorm) {
  TrainSettings s;
  s.strategy = "stoch-norm";
  ParameterSet none;
  const std::vector<std::string> blocks{"conv1_x", "classifier"};
  EXPECT_TRUE(contains(error_of([&] { make_strategy(s)->plan({0, 1, none, blocks}); }), "has no batch norm"));
}

}  // namespace
}  // namespace graft
