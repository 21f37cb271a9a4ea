// The learning-rate range test: its updates are those of training, its average and suggestions are what they say, and
// nothing is left behind.
#include "strategies/analysis/find_lr.h"

#include <cmath>

#include "data/csv.h"
#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

using testing::contains;
using testing::error_of;
using testing::RecordingSink;
using testing::short_run;
using testing::TemporaryFolder;
using testing::Workshop;

RangeTest test_range(const TrainSettings& settings, const RangeTestSpec& spec, DeviceKind device = DeviceKind::cpu) {
  Context context(make_backend({device}, {.threads = 2}));
  RecordingSink sink;
  return find_lr(context, settings, spec, sink);
}

TEST(FindLr, AtOneRateItsLossesAreThoseOfTraining) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run");
  // Seven windows in an epoch of 13 images, so that the test goes through two orders of the images and into a third.
  s.batch = 1, s.accumulate = 2, s.schedule = "constant", s.optimizer = "sgd", s.weight_decay = 0.1, s.epochs = 3;
  s.class_weights = "balanced";
  testing::run(s);
  const CsvTable steps = parse_csv(read_text(folder / "run" / "steps.csv"), "steps.csv");
  ASSERT_EQ(steps.rows.size(), 21u);
  const RangeTest test = test_range(s, {.min_lr = s.lr, .max_lr = s.lr * (1 + 1e-12), .steps = 17, .divergence = 1e9});
  ASSERT_EQ(test.points.size(), 17u);
  EXPECT_EQ(test.end, RangeEnd::all_steps);
  for (std::size_t i = 0; i < test.points.size(); ++i)
    EXPECT_NEAR(test.points[i].loss, std::stod(steps.rows[i][1]), 1e-10) << i;  // the file has 12 digits
}

TEST(FindLr, RatesAreEvenInTheirLogarithmAndTheAverageHasNoBias) {
  const RangeTest test =
      test_range(short_run("unused"), {.min_lr = 1e-5, .max_lr = 1e-1, .steps = 9, .smoothing = 0.7});
  ASSERT_EQ(test.points.size(), 9u);
  for (std::size_t i = 0; i < 9; ++i) {
    EXPECT_NEAR(std::log10(test.points[i].lr), -5 + 0.5 * double(i), 1e-12);
    double sum = 0, weights = 0;
    for (std::size_t j = 0; j <= i; ++j) {
      const double weight = std::pow(0.7, double(i - j));
      sum += weight * test.points[j].loss, weights += weight;
    }
    EXPECT_NEAR(test.points[i].smoothed, sum / weights, 1e-12) << i;
  }
  EXPECT_EQ(test.strategy, "linear-probe");
  EXPECT_EQ(test.batch, 4);
}

TEST(FindLr, LeavesTheModelFileAndTheFolderAlone) {
  const std::vector<std::uint8_t> before = read_file(Workshop::get().model());
  TemporaryFolder folder;
  const std::filesystem::path start = std::filesystem::current_path();
  std::filesystem::current_path(folder / "");
  const RangeTest test = test_range(short_run("run", "full"), {.steps = 5});
  EXPECT_TRUE(std::filesystem::is_empty("."));
  std::filesystem::current_path(start);
  EXPECT_EQ(test.points.size(), 5u);
  EXPECT_EQ(read_file(Workshop::get().model()), before);
}

TEST(FindLr, KeepsFeaturesOfTrainingImagesAloneAndNamesItsOwnSetting) {
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  RecordingSink kept;
  find_lr(context, short_run("unused"), {.steps = 4}, kept);  // an epoch of 13 images
  EXPECT_TRUE(contains(kept.notes, "values for each of 13 images")) << kept.notes;
  RecordingSink few;
  find_lr(context, short_run("unused"), {.steps = 3}, few);
  EXPECT_TRUE(contains(few.notes, "not kept: --steps lets only 12 of 13 training images be used")) << few.notes;
  // A file for other runs is the one that training takes.
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run");
  s.feature_cache_dir = (folder / "features").string(), s.epochs = 1;
  RecordingSink shared;
  find_lr(context, s, {.steps = 4}, shared);
  EXPECT_TRUE(contains(shared.notes, "values for each of 19 images")) << shared.notes;
  EXPECT_TRUE(contains(testing::run(s).sink.notes, "was computed by an earlier run"));
}

TEST(FindLr, EndsWhereTheLossDiverges) {
  TrainSettings s = short_run("unused");
  s.optimizer = "sgd", s.momentum = 0;
  const RangeTest test = test_range(s, {.min_lr = 1e-3, .max_lr = 1e6, .steps = 40, .smoothing = 0.5});
  ASSERT_EQ(test.end, RangeEnd::diverged);
  ASSERT_LT(test.points.size(), 40u);
  double lowest = test.points[0].smoothed;
  for (std::size_t i = 0; i + 1 < test.points.size(); ++i) {
    lowest = std::min(lowest, test.points[i].smoothed);
    EXPECT_LE(test.points[i].smoothed, 4 * lowest) << i;
  }
  EXPECT_GT(test.points.back().smoothed, 4 * lowest);
  EXPECT_EQ(test.last_lr, test.points.back().lr);
}

TEST(FindLr, ALossThatIsNotFiniteEndsItWithoutAPoint) {
  TrainSettings s = short_run("unused", "full");
  s.optimizer = "sgd", s.momentum = 0;
  const RangeTest test = test_range(s, {.min_lr = 1e-3, .max_lr = 1e38, .steps = 8, .divergence = 1e300});
  EXPECT_EQ(test.end, RangeEnd::not_finite);
  ASSERT_LT(test.points.size(), 8u);
  for (const RangePoint& p : test.points) EXPECT_TRUE(std::isfinite(p.smoothed));
  EXPECT_GT(test.last_lr, test.points.back().lr);
}

TEST(FindLr, StopsWhenAsked) {
  std::atomic<bool> stop = false;
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  RecordingSink sink;
  sink.on_advance = [&](const PassProgress& p) { stop = p.pass == "range test" && p.done >= 3 * 4; };
  const RangeTest test = find_lr(context, short_run("unused"), {.steps = 50, .stop = &stop}, sink);
  EXPECT_EQ(test.end, RangeEnd::interrupted);
  EXPECT_EQ(test.points.size(), 3u);
}

TEST(FindLr, TestsOneStageWithItsFactorOnTheRate) {
  TrainSettings s = short_run("unused", "lp-ft");
  s.epochs = 6, s.shuffle = false, s.optimizer = "sgd", s.strategy_settings["probe_epochs"] = std::int64_t{2};
  s.strategy_settings["finetune_lr_factor"] = 0.25;
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  RecordingSink sink;
  const RangeTestSpec spec{.min_lr = 0.04, .max_lr = 0.04 * (1 + 1e-12), .steps = 3, .divergence = 1e9, .stage = 2};
  const RangeTest second = find_lr(context, s, spec, sink);
  EXPECT_EQ(second.stages, 2);
  EXPECT_EQ(second.first_epoch, 3);
  EXPECT_EQ(second.last_epoch, 6);
  EXPECT_TRUE(contains(sink.notes, "stage 2 of 2 is tested (epochs 3 to 6)")) << sink.notes;
  EXPECT_TRUE(contains(sink.notes, "of which this stage takes 0.25 times")) << sink.notes;
  EXPECT_TRUE(contains(error_of([&] { test_range(s, {.stage = 3}); }), "lp-ft has 2 stages in 6 epochs, got 3"));

  // The stage is full fine-tuning with fixed batch norm at a quarter of the rate.
  s.strategy = "full", s.strategy_settings = {{"batch_norm", std::string("running")}};
  const RangeTest full = test_range(s, {.min_lr = 0.01, .max_lr = 0.01 * (1 + 1e-12), .steps = 3, .divergence = 1e9});
  ASSERT_EQ(second.points.size(), 3u);
  ASSERT_EQ(full.points.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(second.points[i].loss, full.points[i].loss, 1e-6) << i;
  EXPECT_NE(full.points[0].loss, full.points[2].loss);
}

TEST(FindLr, MistakesAreNamed) {
  TrainSettings s = short_run("unused");
  EXPECT_TRUE(contains(error_of([&] { test_range(s, {.min_lr = 1, .max_lr = 0.5}); }), "--min-lr: expects less than"));
  EXPECT_TRUE(contains(error_of([&] { test_range(s, {.stage = 2}); }), "linear-probe has 1 stage in 2 epochs, got 2"));
  s.data.clear();
  EXPECT_TRUE(contains(error_of([&] { test_range(s, {}); }), "find-lr: no data given"));
}

/// A loss that falls along a logistic curve around 10^middle and rises again from 10^turn on.
RangeTest drawn_test(double middle, double turn, std::int64_t steps) {
  RangeTest test;
  for (std::int64_t i = 0; i < steps; ++i) {
    const double x = -7 + 8 * double(i) / double(steps - 1);
    const double loss = 2 - 1 / (1 + std::exp(-4 * (x - middle))) + (x > turn ? x - turn : 0);
    test.points.push_back({std::pow(10, x), loss, loss});
  }
  return test;
}

TEST(Suggest, SteepestDescentAndATenthOfTheMinimum) {
  RangeTest test = drawn_test(-3.5, -1.2, 161);
  suggest(test, 161);
  ASSERT_TRUE(test.steepest && test.tenth_of_min);
  EXPECT_NEAR(std::log10(*test.steepest), -3.5, 0.051);  // rates are 0.05 decades apart
  EXPECT_NEAR(std::log10(test.lowest_lr), -1.2, 0.051);
  EXPECT_NEAR(std::log10(*test.tenth_of_min), std::log10(test.lowest_lr) - 1, 1e-12);
  EXPECT_FALSE(test.falls_to_the_end);
}

TEST(Suggest, OneJumpIsNotASlope) {
  RangeTest test = drawn_test(-3.5, -1.2, 161);
  test.points[60].smoothed -= 0.15;  // steeper than the curve between two neighbours, but not over a tenth of the steps
  suggest(test, 161);
  EXPECT_NEAR(std::log10(test.steepest.value()), -3.5, 0.1);
}

TEST(Suggest, NothingWhereTheLossNeverFalls) {
  RangeTest test;
  for (int i = 0; i < 50; ++i) test.points.push_back({std::pow(10, i / 10.0), 1 + i / 10.0, 1 + i / 10.0});
  suggest(test, 50);
  EXPECT_EQ(test.lowest_lr, 1);
  EXPECT_FALSE(test.steepest);
  EXPECT_FALSE(test.tenth_of_min);
  RangeTest nothing;
  suggest(nothing, 50);
  EXPECT_EQ(nothing.lowest_lr, 0);
}

TEST(Suggest, SaysWhenTheLossFallsToTheEnd) {
  RangeTest test = drawn_test(0, 5, 81);
  suggest(test, 81);
  EXPECT_TRUE(test.falls_to_the_end);
  EXPECT_TRUE(test.steepest);
}

}  // namespace
}  // namespace graft
