// A run that was stopped, in whatever moment, goes on to the same bits as one that was not.
#include <gtest/gtest.h>

#include "strategies/training/checkpoint.h"
#include "strategies/training/run_directory.h"
#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

using testing::contains;
using testing::csv;
using testing::differing_tensors;
using testing::Ran;
using testing::run;
using testing::short_run;
using testing::TemporaryFolder;

/// The files of two finished runs are the same, but for seconds.
void expect_same_bits(const std::filesystem::path& one, const std::filesystem::path& other) {
  for (const char* file : {"last.h5", "best.h5"})
    EXPECT_EQ(differing_tensors(one / file, other / file), std::vector<std::string>{}) << file;
  EXPECT_EQ(read_checkpoint(one / "last.h5").optimizer.arrays, read_checkpoint(other / "last.h5").optimizer.arrays);
  EXPECT_EQ(read_text(one / "steps.csv"), read_text(other / "steps.csv"));
  EXPECT_EQ(read_text(one / "predictions.csv"), read_text(other / "predictions.csv"));
  const CsvTable first = csv(one / "epochs.csv"), second = csv(other / "epochs.csv");
  ASSERT_EQ(first.rows.size(), second.rows.size());
  for (const char* name : {"train_loss", "train_accuracy", "val_loss", "val_macro_accuracy"})
    for (std::size_t i = 0; i < first.rows.size(); ++i)
      EXPECT_EQ(first.rows[i][*first.column(name)], second.rows[i][*second.column(name)]) << name;
}

/// Runs `s`, interrupts it when `stops` says so, continues, and expects the same files as without interruption.
void expect_resumes_to_the_same_bits(TrainSettings s, const std::function<bool(const PassProgress&)>& stops) {
  TemporaryFolder folder;
  s.output = (folder / "straight").string();
  run(s);
  s.output = (folder / "broken").string();
  ASSERT_TRUE(testing::run_until(s, stops).was_interrupted);
  EXPECT_FALSE(std::filesystem::exists(folder / "broken" / "summary.json"));
  s.resume = true;
  const Ran resumed = run(s);
  EXPECT_TRUE(contains(resumed.sink.notes, "continuing in epoch"));
  EXPECT_FALSE(resumed.result.was_finished_before);
  expect_same_bits(folder / "straight", folder / "broken");
  EXPECT_TRUE(run(s).result.was_finished_before);
}

TEST(Resume, ResumesToTheSameBitsFromTheMiddleOfAnEpoch) {
  TrainSettings s = short_run("", "full");
  s.epochs = 3, s.lr = 1e-3, s.augment = "standard", s.accumulate = 2;
  s.dropout = 0.3;  // DenseNet has none of its own
  expect_resumes_to_the_same_bits(s, [](const PassProgress& p) { return p.pass == "train" && p.epoch == 2; });
}

TEST(Resume, ResumesToTheSameBitsFromTheMiddleOfAValidation) {
  TrainSettings s = short_run("");
  s.feature_cache = false, s.batch = 3;
  expect_resumes_to_the_same_bits(s, [](const PassProgress& p) { return p.pass == "validate" && p.epoch == 1; });
}

TEST(Resume, ResumesToTheSameBitsWithKeptFeatures) {
  expect_resumes_to_the_same_bits(short_run(""),
                                  [](const PassProgress& p) { return p.pass == "train" && p.epoch == 2; });
}

TEST(Resume, AnInterruptedGradualUnfreezingContinuesInItsStageToTheSameBits) {
  TrainSettings s = short_run("", "gradual-last-first");
  s.epochs = 11, s.batch = 6, s.lr = 1e-3;  // nine stages of an epoch each
  expect_resumes_to_the_same_bits(s, [](const PassProgress& p) { return p.pass == "train" && p.epoch == 3; });
  // Before the first step of stage 3: its newly unfrozen tensors have no moments yet.
  expect_resumes_to_the_same_bits(s, [](const PassProgress& p) { return p.pass == "validate" && p.epoch == 3; });
}

TEST(Resume, AnInterruptedLpFtContinuesInItsPhaseToTheSameBits) {
  TrainSettings s = short_run("", "lp-ft");
  s.epochs = 4, s.strategy_settings["probe_epochs"] = std::int64_t{2};
  expect_resumes_to_the_same_bits(s, [](const PassProgress& p) { return p.pass == "validate" && p.epoch == 2; });
  expect_resumes_to_the_same_bits(s, [](const PassProgress& p) { return p.pass == "train" && p.epoch == 3; });
}

TEST(Resume, KilledBetweenBestWeightsAndCheckpointItContinuesToTheSameBits) {
  namespace fs = std::filesystem;
  TemporaryFolder folder;
  const fs::path straight = folder / "straight", early = folder / "early", late = folder / "late";
  testing::draw_images(folder / "images", 2, {.val = 0});
  TrainSettings s = short_run(straight, "lp-ft");
  s.data = (folder / "images").string(), s.val_fraction = 0;  // then every epoch is the best
  s.epochs = 2, s.strategy_settings["probe_epochs"] = std::int64_t{1}, s.lr = 1e-2;
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  testing::RecordingSink sink;
  sink.on_advance = [&](const PassProgress& p) {  // early: as the first stage has left it
    if (p.pass == "train" && p.epoch == 2 && !fs::exists(early)) fs::copy(straight, early);
  };
  ASSERT_EQ(train(context, s, {.config_toml = "", .command_line = ""}, sink).best_epoch, 2);
  ASSERT_TRUE(fs::exists(early / "best.h5"));
  EXPECT_NE(differing_tensors(straight / "best.h5", early / "best.h5").size(), 0u);

  fs::copy(straight, late);  // the checkpoint of epoch 2 is written, its weights are not yet the best
  fs::remove(late / "summary.json");
  const std::string next = RunDirectory("").next_best(2, std::stoll(csv(straight / "steps.csv").rows.back()[0]));
  fs::rename(late / "best.h5", late / next);
  fs::copy(early / "best.h5", late / "best.h5");
  fs::copy(straight / "best.h5", early / next);  // the weights were written, the checkpoint was not
  s.resume = true;
  for (const fs::path& broken : {early, late}) {
    SCOPED_TRACE(broken);
    s.output = broken.string();
    EXPECT_FALSE(run(s).result.was_finished_before);
    expect_same_bits(straight, broken);
    EXPECT_FALSE(fs::exists(broken / next));
  }
}

TEST(Resume, InterruptedPenaltiesAndMeasuredRatesContinueToTheSameBits) {
  const auto in_epoch_2 = [](const PassProgress& p) { return p.pass == "train" && p.epoch == 2; };
  for (const char* name : {"l2-sp", "auto-rgn", "auto-snr"}) {
    SCOPED_TRACE(name);
    TrainSettings s = short_run("", name);
    s.lr = 1e-3, s.epochs = 3, s.augment = "standard";
    expect_resumes_to_the_same_bits(s, in_epoch_2);
  }
  TrainSettings s = short_run("", "auto-rgn");
  s.lr = 1e-3, s.epochs = 3, s.strategy_settings["every"] = std::string("step");
  expect_resumes_to_the_same_bits(s, in_epoch_2);
}

TEST(Resume, InterruptedFrozenChannelsContinueToTheSameBits) {
  TrainSettings s = short_run("", "full");
  s.freeze_channels = "features.conv0.weight=0-31; features.denseblock*.norm?.*=0-7; classifier.*=0";
  s.lr = 1e-3, s.weight_decay = 0.1, s.batch = 6;
  expect_resumes_to_the_same_bits(s, [](const PassProgress& p) { return p.pass == "train" && p.epoch == 2; });
}

TEST(Resume, InterruptedDrawsFeatureMapsAndAdaptersContinueToTheSameBits) {
  for (const char* name : {"delta", "stoch-norm", "lora"}) {
    SCOPED_TRACE(name);
    TrainSettings s = short_run("", name);
    s.lr = 1e-3, s.bss = 0.1, s.augment = "standard", s.batch = 6;
    expect_resumes_to_the_same_bits(s, [](const PassProgress& p) { return p.pass == "train" && p.epoch == 2; });
  }
}

}  // namespace
}  // namespace graft
