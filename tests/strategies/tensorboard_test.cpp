// What a run writes for TensorBoard: the numbers of steps.csv and epochs.csv, and each step once however often the run
// was stopped.
#include "strategies/tensorboard.h"

#include <map>

#include "data/csv.h"
#include "strategies_testing.h"
#include "tests/data/event_testing.h"

namespace graft::testing {
namespace {

using namespace testing_events;

std::vector<std::pair<std::int64_t, float>> curve(const std::vector<ReadValue>& values, std::string_view tag) {
  std::vector<std::pair<std::int64_t, float>> points;
  for (const ReadValue& v : values)
    if (v.tag == tag) points.emplace_back(v.step, float(v.scalar));
  return points;
}

std::vector<std::pair<std::int64_t, float>> column(const std::filesystem::path& csv, const char* name) {
  const CsvTable table = parse_csv(read_text(csv), csv.string());
  std::vector<std::pair<std::int64_t, float>> points;
  for (const auto& row : table.rows) points.emplace_back(std::stoll(row[0]), std::stof(row[*table.column(name)]));
  return points;
}

TEST(Tensorboard, ShowsTheNumbersOfTheRun) {
  const TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run");
  s.tensorboard = true;
  run(s);
  const std::vector<ReadValue> values = shown(folder / "run");
  for (const char* name : {"loss", "penalty", "lr"})
    EXPECT_EQ(curve(values, std::string("train/") + name), column(folder / "run/steps.csv", name)) << name;
  const auto epochs = column(folder / "run/epochs.csv", "val_loss");
  const auto shown_epochs = curve(values, "epoch/val_loss");
  ASSERT_EQ(shown_epochs.size(), epochs.size());
  for (std::size_t i = 0; i < epochs.size(); ++i) EXPECT_EQ(shown_epochs[i].second, epochs[i].second);
  EXPECT_EQ(shown_epochs.back().first, column(folder / "run/steps.csv", "loss").back().first);

  // Every block as it was at the start; then what trains, here the head.
  std::map<std::string, std::vector<std::int64_t>> histograms;
  for (const ReadValue& v : values)
    if (!v.histogram.empty()) histograms[v.tag].push_back(v.step);
  EXPECT_EQ(histograms.size(), 9u);
  EXPECT_EQ(histograms["weights/denseblock1"], std::vector<std::int64_t>{0});
  EXPECT_EQ(histograms["weights/classifier"].size(), 1 + epochs.size());
}

TEST(Tensorboard, AStoppedRunShowsEveryStepOnce) {
  const TemporaryFolder folder;
  const auto settings = [&](const char* name) {
    TrainSettings s = short_run(folder / name);
    s.tensorboard = true, s.epochs = 3;
    return s;
  };
  run(settings("whole"));
  TrainSettings s = settings("parts");
  s.max_steps = 5;
  run(s);
  {
    // As if killed after the checkpoint, a step further.
    EventFile lost(folder / "parts", 6);
    lost.scalar("train/loss", 6, 123);
    lost.flush();
  }
  s.max_steps = -1, s.resume = true;
  run(s);
  const auto whole = shown(folder / "whole"), parts = shown(folder / "parts");
  EXPECT_EQ(curve(parts, "train/loss"), curve(whole, "train/loss"));
  EXPECT_EQ(curve(whole, "train/loss"), column(folder / "whole/steps.csv", "loss"));

  s.resume = false, s.overwrite = true, s.tensorboard = false;
  run(s);
  EXPECT_TRUE(shown(folder / "parts").empty());
}

}  // namespace
}  // namespace graft::testing
