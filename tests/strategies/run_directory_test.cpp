// What protects a run's files: from a second program, from a run that is finished, from damage; and what a run says of
// images that are not there, or there twice.
#include "strategies/training/run_directory.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

using testing::contains;
using testing::differing_tensors;
using testing::error_of;
using testing::expect_names;
using testing::Ran;
using testing::run;
using testing::short_run;
using testing::TemporaryFolder;

TrainSettings one_epoch(const std::filesystem::path& output) {
  TrainSettings s = short_run(output);
  s.epochs = 1;
  return s;
}

/// As run(), with the number of epochs in the configuration too.
RunResult run_with_epochs(const TrainSettings& s) {
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  testing::RecordingSink sink;
  const std::string config = "[train]\nlr = " + std::to_string(s.lr) + "\nepochs = " + std::to_string(s.epochs) + "\n";
  return train(context, s, {.config_toml = config, .command_line = "graft train"}, sink);
}

TEST(RunDirectories, AreWrittenByOneProgramAtATime) {
  TemporaryFolder folder;
  TrainSettings s = one_epoch(folder / "run");
  run(s);
  const std::string before = read_text(folder / "run" / "environment.json");
  {
    RunLock other;
    other.take(RunDirectory(folder / "run"));
    for (bool* how : {&s.resume, &s.overwrite}) {
      *how = true;
      expect_names(error_of([&] { run(s); }), {"another graft train is writing to", "run"});
      *how = false;
    }
  }
  EXPECT_EQ(read_text(folder / "run" / "environment.json"), before);
  s.overwrite = true;
  EXPECT_FALSE(run(s).result.was_finished_before);
}

TEST(RunDirectories, ThatAppearWhileImagesAreOpenedAreNotTouched) {
  TemporaryFolder folder;
  TrainSettings s = one_epoch(folder / "run");
  s.overwrite = true;
  RunLock other;
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  testing::RecordingSink sink;
  const std::string log = "step\n1\n";
  sink.on_note = [&](std::string_view line) {  // that of the new head, which comes before anything is written
    if (!line.starts_with("new head")) return;
    other.make_and_take(RunDirectory(folder / "run"));
    write_atomically(folder / "run" / "steps.csv", std::string_view(log));
  };
  expect_names(error_of([&] { train(context, s, {.config_toml = "", .command_line = "graft train"}, sink); }),
               {"another graft train is writing to"});
  EXPECT_EQ(read_text(folder / "run" / "steps.csv"), log);
}

TEST(RunDirectories, OfAFinishedRunAreKeptWithoutACheckpointToo) {
  TemporaryFolder folder;
  TrainSettings s = one_epoch(folder / "run");
  const RunResult first = run_with_epochs(s);
  std::filesystem::copy_file(folder / "run" / "best.h5", folder / "best.h5");
  std::filesystem::remove(folder / "run" / "last.h5");
  s.resume = true;
  const RunResult again = run_with_epochs(s);
  EXPECT_TRUE(again.was_finished_before);
  EXPECT_EQ(again.summary_json, first.summary_json);
  EXPECT_EQ(again.best_epoch, 1);
  EXPECT_EQ(again.test.n, first.test.n);
  EXPECT_EQ(again.test.loss, first.test.loss);
  s.epochs = 2;
  expect_names(error_of([&] { run_with_epochs(s); }), {"ended after 1 epochs and its last.h5 is gone", "--overwrite"});
  s.epochs = 1, s.lr = 0.5;
  expect_names(error_of([&] { run_with_epochs(s); }), {"train.lr was 0.010000 and is now 0.500000"});
  EXPECT_EQ(differing_tensors(folder / "best.h5", folder / "run" / "best.h5"), std::vector<std::string>{});
}

TEST(RunDirectories, ADamagedCheckpointLeavesAWayOut) {
  TemporaryFolder folder;
  TrainSettings s = one_epoch(folder / "run");
  run(s);
  std::filesystem::resize_file(folder / "run" / "last.h5", 100000);
  s.resume = true;
  expect_names(error_of([&] { run(s); }), {"last.h5", "best.h5 holds its best epoch", "--overwrite starts anew"});
}

TEST(RunDirectories, DoNotLieAmongTheImages) {
  TemporaryFolder folder;
  testing::draw_images(folder / "images");
  TrainSettings s = one_epoch(folder / "images");
  s.data = (folder / "images").string();
  for (const char* output : {"images", "other/../images/train"}) {
    s.output = (folder / output).string();
    expect_names(error_of([&] { run(s); }), {"train.output", "lies among the images"});
  }
  for (const char* output : {"images-run", "images/runs/first"}) {  // beside train/ other folders are no classes
    s.output = (folder / output).string();
    EXPECT_FALSE(run(s).result.was_finished_before);
  }
  testing::draw_images(folder / "classes");
  std::filesystem::rename(folder / "classes" / "train" / "a", folder / "classes" / "a");
  std::filesystem::rename(folder / "classes" / "train" / "b", folder / "classes" / "b");
  for (const char* split : {"train", "val", "test"}) std::filesystem::remove_all(folder / "classes" / split);
  s.data = (folder / "classes").string(), s.output = (folder / "classes" / "run").string();
  expect_names(error_of([&] { run(s); }), {"lies among the images"});
}

TEST(RunDirectories, SayWhichImagesNothingWasMeasuredBy) {
  TemporaryFolder folder;
  testing::draw_images(folder / "images", 2, {.train = 4, .val = 0, .test = 2});
  std::filesystem::remove_all(folder / "images" / "test" / "b");
  std::filesystem::copy_file(folder / "images" / "train" / "a" / "0.png",
                             folder / "images" / "train" / "b" / "copy.png");
  TrainSettings s = one_epoch(folder / "run");
  s.data = (folder / "images").string();
  s.val_fraction = 0;
  const Ran ran = run(s);
  EXPECT_TRUE(contains(ran.sink.notes, "no validation images: the last epoch's weights are kept")) << ran.sink.notes;
  EXPECT_TRUE(contains(ran.sink.notes, "test: no images of b: the scores tell nothing of it")) << ran.sink.notes;
  EXPECT_TRUE(contains(ran.sink.notes, "under two labels, such as train/a/0.png and train/b/copy.png"))
      << ran.sink.notes;
  EXPECT_TRUE(std::isnan(ran.result.best_val_score));
  EXPECT_TRUE(contains(ran.result.summary_json, "\"best_val_macro_accuracy\": null"));
}

}  // namespace
}  // namespace graft
