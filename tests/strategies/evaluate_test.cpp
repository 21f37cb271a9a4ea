// Which images `graft evaluate` scores: those that a run held out, or a split that is drawn now, which is said.
#include "strategies/training/evaluate.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

using testing::contains;
using testing::RecordingSink;
using testing::TemporaryFolder;

constexpr const char* kNote = "the split is drawn now (seed 0)";

struct Evaluated {
  EvaluationResult result;
  std::string notes;
};

Evaluated evaluated(const std::filesystem::path& model, const std::filesystem::path& data,
                    const std::string& split = "test") {
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  RecordingSink sink;
  const EvaluateSettings settings{
      .model = model.string(), .data = data.string(), .split = split, .batch = 4, .threads = 2};
  return {evaluate(context, settings, sink), sink.notes};
}

/// A run that drew its split with another seed than evaluation does.
class Evaluate : public ::testing::Test {
 protected:
  Evaluate() {
    for (int i = 0; i < 40; ++i)
      write_atomically(images() / (i % 2 ? "a" : "b") / (std::to_string(i) + ".png"),
                       encode_png(testing::drawn_image(i % 2, std::uint64_t(i))));
    TrainSettings s = testing::short_run(run_directory());
    s.data = images().string(), s.epochs = 1, s.seed = 5;
    own_ = testing::run(s).result.test;
  }
  std::filesystem::path images() const { return folder_ / "images"; }
  std::filesystem::path run_directory() const { return folder_ / "run"; }
  /// Whether these are the run's own test images, in their order.
  void expect_own(const Evaluated& found) const {
    EXPECT_EQ(found.result.n, own_.n);
    EXPECT_NEAR(found.result.loss, own_.loss, 1e-6 * std::max(1.0, own_.loss));  // batches may round otherwise
    EXPECT_FALSE(contains(found.notes, kNote)) << found.notes;
  }

  TemporaryFolder folder_;
  EvaluationResult own_;
};

TEST_F(Evaluate, ARunAndAModelFileInItMeanTheRunsOwnSplit) {
  expect_own(evaluated(run_directory(), images()));
  expect_own(evaluated(run_directory() / "best.h5", images()));
}

TEST_F(Evaluate, PredictionsCanBeKept) {
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  RecordingSink sink;
  const std::filesystem::path file = folder_ / "kept" / "predictions.csv";
  evaluate(context,
           {.model = run_directory().string(),
            .data = images().string(),
            .batch = 4,
            .threads = 2,
            .predictions = file.string()},
           sink);
  EXPECT_NE(testing::error_of([&] {
              evaluate(context, {.model = "nowhere", .data = "nowhere", .predictions = folder_.path().string()}, sink);
            }).find("it is a folder"),
            std::string::npos);
  const CsvTable kept = testing::csv(file);
  CsvTable own = testing::csv(run_directory() / "predictions.csv");
  EXPECT_EQ(kept.header, own.header);
  std::erase_if(own.rows, [](const std::vector<std::string>& row) { return row[1] != "test"; });
  ASSERT_EQ(kept.rows.size(), own.rows.size());
  for (std::size_t i = 0; i < kept.rows.size(); ++i) {
    for (std::size_t c = 0; c < 4; ++c) EXPECT_EQ(kept.rows[i][c], own.rows[i][c]) << i;
    for (std::size_t c = 4; c < kept.header.size(); ++c)
      EXPECT_NEAR(std::stod(kept.rows[i][c]), std::stod(own.rows[i][c]), 1e-5) << i;
  }
}

TEST_F(Evaluate, IntervalsAreOfImagesOrOfGroups) {
  const auto with_intervals = [&](const std::filesystem::path& data) {
    Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
    RecordingSink sink;
    return evaluate(
        context,
        {.model = run_directory().string(), .data = data.string(), .split = "all", .threads = 2, .intervals = true},
        sink);
  };
  EXPECT_TRUE(evaluated(run_directory(), images()).result.intervals.empty());
  const EvaluationResult by_itself = with_intervals(images());
  ASSERT_EQ(by_itself.intervals.size(), std::size(kScores));
  const Interval expected = wilson_interval(by_itself.accuracy * 40, 40, 0.95),
                 found = by_itself.intervals.at(Score::accuracy);
  EXPECT_DOUBLE_EQ(found.low, expected.low);
  EXPECT_DOUBLE_EQ(found.high, expected.high);
  EXPECT_EQ(by_itself.groups, 0);
  EXPECT_FALSE(contains(to_json(evaluated(run_directory(), images()).result), "intervals"));
  const auto json = nlohmann::json::parse(to_json(by_itself)).at("intervals");
  EXPECT_EQ(json.at("accuracy").at("method"), "Wilson");
  EXPECT_EQ(json.at("loss").at("high"), by_itself.intervals.at(Score::log_loss).high);

  // The same images, four to a patient, the last eight of nobody.
  std::string list = "path,label,group\n";
  for (int i = 0; i < 40; ++i)
    list += fmt::format("images/{}/{}.png,{},{}\n", i % 2 ? "a" : "b", i, i % 2 ? "a" : "b",
                        i < 32 ? std::to_string(i / 8 * 2 + i % 2) : std::string());
  const EvaluationResult grouped = with_intervals(folder_.write("list.csv", list));
  EXPECT_EQ(grouped.groups, 16);
  EXPECT_EQ(grouped.accuracy, by_itself.accuracy);
  EXPECT_EQ(grouped.intervals.at(Score::accuracy).method, "Wilson, effective cases");
  EXPECT_TRUE(grouped.intervals.at(Score::accuracy).is_doubtful) << "eight independent cases of each class";
  EXPECT_NE(grouped.intervals.at(Score::auc).low, by_itself.intervals.at(Score::auc).low);
}

TEST_F(Evaluate, ASplitThatIsDrawnNowIsSaid) {
  const std::filesystem::path model = folder_ / "elsewhere" / "best.h5";
  std::filesystem::create_directories(model.parent_path());
  std::filesystem::copy_file(run_directory() / "best.h5", model);
  // A list beside a model is a run's only in a run directory.
  std::filesystem::copy_file(run_directory() / "split.csv", model.parent_path() / "split.csv");
  const Evaluated found = evaluated(model, images());
  EXPECT_TRUE(contains(found.notes, kNote)) << found.notes;
  EXPECT_NE(found.result.loss, own_.loss);
  EXPECT_FALSE(contains(evaluated(model, images(), "all").notes, kNote));
  const std::filesystem::path with_splits = testing::Workshop::get().images();
  for (const char* split : {"train", "val", "test"})
    EXPECT_FALSE(contains(evaluated(model, with_splits, split).notes, kNote)) << split;
}

}  // namespace
}  // namespace graft
