// The drawn images: the same from the same seed, different from each other, and of the classes their folders say.
#include "apps/demo_images.h"

#include <gtest/gtest.h>

#include <set>

#include "apps/demo_runs.h"
#include "data/files.h"
#include "kernels/core.h"
#include "strategies/study/lock.h"
#include "tests/apps/program_testing.h"

namespace graft::testing {
namespace {

TEST(DemoImages, FollowFromTheSeed) {
  const DemoImage what{.task = DemoTask::target, .label = 3, .number = 7, .seed = 11};
  EXPECT_EQ(draw_demo_image(what, 48), draw_demo_image(what, 48));
  std::set<std::string> hashes;
  for (DemoTask task : {DemoTask::source, DemoTask::target}) {
    for (std::int64_t label = 0; label < std::ssize(demo_classes(task)); ++label) {
      for (std::int64_t number : {0, 1, 2}) {
        for (std::uint64_t seed : {0, 1})
          hashes.insert(sha256_hex(draw_demo_image({task, label, number, seed}, 32).rgb));
      }
    }
  }
  EXPECT_EQ(hashes.size(), (8u + 6u) * 3 * 2);
}

TEST(DemoImages, UseTheWholeRangeAndFillTheImage) {
  for (std::int64_t label = 0; label < 6; ++label) {
    const Image image = draw_demo_image({DemoTask::target, label, 0, 1}, 64);
    const std::set<std::uint8_t> values(image.rgb.begin(), image.rgb.end());
    EXPECT_GT(values.size(), 40u) << demo_classes(DemoTask::target)[static_cast<std::size_t>(label)];
  }
}

TEST(DemoImages, UnknownLabelsAreErrors) { EXPECT_THROW(draw_demo_image({DemoTask::target, 6, 0, 0}, 8), Error); }

TEST(DemoImages, SetsHaveFoldersPerSplitAndClass) {
  const TemporaryFolder folder;
  write_demo_set(folder / "set", DemoTask::source, {.train = 2, .val = 1, .test = 0}, 16, 3);
  EXPECT_TRUE(std::filesystem::exists(folder / "set/train/bricks/001.png"));
  EXPECT_TRUE(std::filesystem::exists(folder / "set/val/zigzag/000.png"));
  EXPECT_FALSE(std::filesystem::exists(folder / "set/test"));
  EXPECT_NE(read_file(folder / "set/train/bricks/000.png"), read_file(folder / "set/val/bricks/000.png"));
}

TEST(Demo, DrawsImagesAlone) {
  const TemporaryFolder folder;
  const Outcome outcome = graft({"demo", "--images-only", "-o", folder / "demo"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("/source"), std::string::npos) << outcome.out;
  EXPECT_TRUE(std::filesystem::exists(folder / "demo/target/test/spiral/000.png"));
  EXPECT_FALSE(std::filesystem::exists(folder / "demo/runs"));
}

TEST(Demo, LeavesForeignFoldersAlone) {
  const TemporaryFolder folder;
  write_atomically(folder / "mine/thesis.txt", std::string_view("precious"));
  expect_error(graft({"demo", "-o", folder / "mine"}), 1, "holds other files");
  EXPECT_EQ(read_text(folder / "mine/thesis.txt"), "precious");

  // Nor does any about.txt make a folder the demo's.
  write_atomically(folder / "project/about.txt", std::string_view("My project.\n"));
  write_atomically(folder / "project/source/main.cpp", std::string_view("int main() {}\n"));
  expect_error(graft({"demo", "--images-only", "-o", folder / "project"}), 1, "holds other files");
  EXPECT_EQ(read_text(folder / "project/source/main.cpp"), "int main() {}\n");
  EXPECT_EQ(read_text(folder / "project/about.txt"), "My project.\n");
  expect_error(graft({"demo", "--images-only", "-o", ""}), 2, "-o names no folder");
}

TEST(Demo, ReplacesAnEarlierOne) {
  const TemporaryFolder folder;
  write_atomically(folder / "demo/about.txt", std::string_view("Written by `graft demo`, some time ago.\n"));
  for (const char* old : {"demo/source/train/old/000.png", "demo/study/study.json", "demo/study.toml"})
    write_atomically(folder / old, std::string_view("old"));
  EXPECT_EQ(graft({"demo", "--images-only", "-o", folder / "demo"}).exit_code, 0);
  for (const char* old : {"demo/source/train/old", "demo/study", "demo/study.toml"})
    EXPECT_FALSE(std::filesystem::exists(folder / old)) << old;
  EXPECT_TRUE(std::filesystem::exists(folder / "demo/source/train/bricks/000.png"));
}

TEST(Demo, TwoInOneFolderAreRefused) {
  const TemporaryFolder folder;
  {
    const DemoFolder first(folder / "demo");
    write_atomically(folder / "demo/study/study.json", std::string_view("at work"));
    const Outcome second = graft({"demo", "--images-only", "-o", folder / "demo"});
    expect_error(second, 1, "a graft demo runs in");
    EXPECT_EQ(read_text(folder / "demo/study/study.json"), "at work");
  }
  {
    const StudyLock study(folder / "demo/study/study.lock", StudyLock::Kind::whole);
    expect_error(graft({"demo", "--images-only", "-o", folder / "demo"}), 1, "is being run");
    EXPECT_EQ(read_text(folder / "demo/study/study.json"), "at work");
  }
  EXPECT_EQ(graft({"demo", "--images-only", "-o", folder / "demo"}).exit_code, 0);
}

}  // namespace
}  // namespace graft::testing
