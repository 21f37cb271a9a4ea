// Images that are opened while the device starts: the same run, and the same errors.
#include "strategies/batches/images_ahead.h"

#include <gtest/gtest.h>

#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

using testing::contains;
using testing::error_of;
using testing::short_run;
using testing::TemporaryFolder;

RunResult run_with_images_ahead(const TrainSettings& settings) {
  ImagesAhead images(settings);
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  testing::RecordingSink sink;
  return train(context, settings, {.config_toml = "", .images = &images}, sink);
}

TEST(ImagesAhead, GiveTheSameRun) {
  const TemporaryFolder folder;
  TrainSettings s = short_run(folder / "here");
  s.epochs = 1;
  testing::run(s);
  s.output = (folder / "ahead").string();
  EXPECT_EQ(run_with_images_ahead(s).steps, 4);
  for (const char* name : {"split.csv", "predictions.csv", "steps.csv"})
    EXPECT_EQ(read_text(folder / "ahead" / name), read_text(folder / "here" / name)) << name;
}

TEST(ImagesAhead, WhatNeedsNoImageFailsBeforeTheyAreOpened) {
  const TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run");
  s.data = (folder / "nowhere").string();
  s.epochs = 1;
  s.strategy = "lp-ft";  // has two stages
  EXPECT_TRUE(contains(error_of([&] { ImagesAhead images(s); }), "epoch"));
  s.strategy = "linear-probe";
  write_atomically(folder / "run/config.toml", std::string_view("[train]\n"));
  write_atomically(folder / "run/last.h5", std::string_view("a run"));
  EXPECT_TRUE(contains(error_of([&] { ImagesAhead images(s); }), "overwrite"));
}

TEST(ImagesAhead, WhatIsWrongWithThemIsSaidWhenTheyAreWanted) {
  const TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run");
  s.data = (folder / "nowhere").string();
  { const ImagesAhead unwanted(s); }
  EXPECT_TRUE(contains(error_of([&] { run_with_images_ahead(s); }), "nowhere"));
  EXPECT_FALSE(std::filesystem::exists(folder / "run"));
}

}  // namespace
}  // namespace graft
