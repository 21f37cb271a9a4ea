// Several ranks that train together come to what one process comes to with the same batches: in double precision to
// the last digits, whatever the strategy, with running statistics, dropout and features that are kept.
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>

#include "data/files.h"
#include "strategies/training/fit.h"
#include "tests/strategies/strategies_testing.h"
#include "tests/support/thread_ranks.h"

namespace graft {
namespace {

using testing::column;
using testing::contains;
using testing::csv;
using testing::RecordingSink;
using testing::short_run;
using testing::TemporaryFolder;
using testing::with_ranks;

struct RankRan {
  RunResult result;
  std::string notes, error;
  bool other_failed = false;
};

/// A run on so many ranks. `told` is called by each rank as it advances, with the flag that stops it.
std::vector<RankRan> run_on_ranks(
    int count, const TrainSettings& settings, DeviceKind device,
    const std::function<void(int rank, const PassProgress&, std::atomic<bool>&)>& told = nullptr) {
  std::vector<RankRan> all(static_cast<std::size_t>(count));
  with_ranks(count, [&](Ranks& ranks) {
    RankRan& ran = all[std::size_t(ranks.rank())];
    Context context(make_backend({device}, {.threads = 1}));
    RecordingSink sink;
    std::atomic<bool> stop = false;
    if (told) sink.on_advance = [&](const PassProgress& p) { told(ranks.rank(), p, stop); };
    try {
      ran.result = train(context, settings,
                         {.config_toml = "[train]\nlr = " + std::to_string(settings.lr) + "\n",
                          .command_line = "graft train",
                          .stop = &stop,
                          .ranks = ranks},
                         sink);
    } catch (const OtherRankFailed&) {
      ran.other_failed = true;
    } catch (const Error& error) {
      ran.error = error.what();
    }
    ran.notes = sink.notes;
  });
  return all;
}

/// 33 training images: an update of six batches of four, and one of the two that are left, in which the first rank
/// alone has a part. SGD, since Adam would blow rounding up where gradients are zero.
class SharedRun {
 public:
  explicit SharedRun(const std::string& strategy) : settings(short_run("", strategy)) {
    testing::draw_images(folder_ / "images", 2, {.train = 16});
    settings.data = (folder_ / "images").string();
    settings.optimizer = "sgd", settings.lr = 1e-4;
    settings.epochs = 1, settings.batch = 4, settings.accumulate = 6, settings.threads = 1;
    to("run");
  }
  std::filesystem::path to(const char* name) {
    settings.output = (folder_ / name).string();
    return settings.output;
  }
  TrainSettings settings;

 private:
  TemporaryFolder folder_;
};

void expect_columns_near(const std::filesystem::path& one, const std::filesystem::path& other, const char* file,
                         const std::vector<const char*>& names, double tolerance) {
  const CsvTable first = csv(one / file), second = csv(other / file);
  ASSERT_EQ(first.rows.size(), second.rows.size()) << file;
  ASSERT_FALSE(first.rows.empty()) << file;
  for (const char* name : names) {
    const std::vector<double> a = column(first, name), b = column(second, name);
    for (std::size_t i = 0; i < a.size(); ++i)
      EXPECT_NEAR(a[i], b[i], tolerance * std::max(1.0, std::abs(a[i]))) << file << " " << name << " " << i;
  }
}

void expect_same_run(const std::filesystem::path& one, const std::filesystem::path& other, double tolerance) {
  expect_columns_near(one, other, "steps.csv", {"loss", "penalty", "lr"}, tolerance);
  expect_columns_near(one, other, "epochs.csv",
                      {"train_loss", "penalty", "train_accuracy", "val_loss", "val_macro_accuracy", "is_best"},
                      tolerance);
  expect_columns_near(one, other, "predictions.csv", {"p_a", "p_b"}, tolerance);
  EXPECT_EQ(read_text(one / "split.csv"), read_text(other / "split.csv"));
  const CsvTable first = csv(one / "predictions.csv"), second = csv(other / "predictions.csv");
  for (std::size_t i = 0; i < first.rows.size(); ++i) EXPECT_EQ(first.rows[i][0], second.rows[i][0]);
  for (const char* file : {"best.h5", "last.h5"}) {
    const WeightTable a = read_model_file(one / file).weights, b = read_model_file(other / file).weights;
    for (const WeightTensor& t : a.tensors()) {
      const WeightTensor* const same = b.find(t.name);
      ASSERT_NE(same, nullptr) << t.name;
      double worst = 0;
      for (std::size_t i = 0; i < t.values.size(); ++i)
        worst = std::max(worst, std::abs(double(t.values[i]) - double(same->values[i])));
      EXPECT_LE(worst, tolerance) << file << " " << t.name;
    }
  }
}

class RanksOfAStrategy : public ::testing::TestWithParam<std::tuple<const char*, int>> {};

TEST_P(RanksOfAStrategy, TrainAsOneProcess) {
  const auto [strategy, count] = GetParam();
  SharedRun shared(strategy);
  TrainSettings& s = shared.settings;
  if (s.strategy == "lp-ft") s.epochs = 2;
  s.dropout = 0.3;  // DenseNet has none of its own
  s.class_weights = "balanced";
  const std::filesystem::path one = shared.to("one");
  run_on_ranks(1, s, DeviceKind::reference);
  const std::filesystem::path together = shared.to("together");
  const std::vector<RankRan> several = run_on_ranks(count, s, DeviceKind::reference);
  for (const RankRan& ran : several) {
    EXPECT_EQ(ran.error, "");
    EXPECT_EQ(ran.result.test.loss, several[0].result.test.loss);
  }
  expect_same_run(one, together, 1e-8);
  EXPECT_TRUE(contains(read_text(together / "environment.json"), "\"processes\": " + std::to_string(count)));
}

INSTANTIATE_TEST_SUITE_P(Some, RanksOfAStrategy,
                         ::testing::Values(std::tuple("full", 3), std::tuple("linear-probe", 3), std::tuple("lp-ft", 2),
                                           std::tuple("auto-rgn", 2), std::tuple("auto-snr", 2),
                                           std::tuple("delta", 2)));

TEST(RanksOfARun, StopTogetherAndAnotherNumberGoesOn) {
  SharedRun shared("full");
  TrainSettings& s = shared.settings;
  s.epochs = 2;
  const std::filesystem::path one = shared.to("one");
  run_on_ranks(1, s, DeviceKind::reference);
  const std::filesystem::path together = shared.to("together");
  const std::vector<RankRan> stopped =
      run_on_ranks(2, s, DeviceKind::reference, [](int rank, const PassProgress& p, std::atomic<bool>& stop) {
        stop = stop || (rank == 1 && p.pass == "train" && p.epoch == 1);
      });
  for (const RankRan& ran : stopped) EXPECT_TRUE(ran.result.was_interrupted);
  s.resume = true;
  for (const RankRan& ran : run_on_ranks(3, s, DeviceKind::reference)) EXPECT_EQ(ran.error, "");
  expect_same_run(one, together, 1e-8);
}

TEST(RanksOfARun, StopTogetherWhileTheyValidate) {
  const SharedRun shared("full");
  const std::vector<RankRan> stopped =
      run_on_ranks(2, shared.settings, DeviceKind::cpu, [](int rank, const PassProgress& p, std::atomic<bool>& stop) {
        stop = stop || (rank == 1 && p.pass == "validate");
      });
  for (const RankRan& ran : stopped) EXPECT_TRUE(ran.result.was_interrupted) << ran.error;
}

TEST(RanksOfARun, FailTogetherWhenTheLossIsNotFinite) {
  SharedRun shared("full");
  shared.settings.lr = 1e30;
  int said = 0;
  for (const RankRan& ran : run_on_ranks(2, shared.settings, DeviceKind::cpu)) {
    EXPECT_TRUE(ran.other_failed || contains(ran.error, "not finite") || contains(ran.error, "the loss is"))
        << ran.error;
    said += !ran.error.empty();
  }
  EXPECT_EQ(said, 1);
}

TEST(RanksOfARun, KeepFeaturesInFilesOrNowhere) {
  SharedRun shared("linear-probe");
  TrainSettings& s = shared.settings;
  const std::filesystem::path memory = shared.to("memory");
  run_on_ranks(2, s, DeviceKind::cpu);
  s.feature_cache_mb = 0;
  const std::filesystem::path file = shared.to("file");
  const std::vector<RankRan> two = run_on_ranks(2, s, DeviceKind::cpu);
  EXPECT_TRUE(contains(two[0].notes, "in a file in")) << two[0].notes;
  expect_same_run(memory, file, 0);
}

TEST(RanksOfARun, AreOfTheSameRun) {
  SharedRun shared("full");
  with_ranks(2, [&](Ranks& ranks) {
    Context context(make_backend({DeviceKind::cpu}, {.threads = 1}));
    RecordingSink sink;
    const RunCall call{.config_toml = "[train]\nseed = " + std::to_string(ranks.rank()) + "\n", .ranks = ranks};
    try {
      train(context, shared.settings, call, sink);
      ADD_FAILURE() << "two runs became one";
    } catch (const Error& error) {
      EXPECT_TRUE(contains(error.what(), "processes 0 and 1 were started together for runs that are not the same"))
          << error.what();
    }
  });
  EXPECT_FALSE(std::filesystem::exists(shared.settings.output));
}

TEST(RanksOfARun, RefuseStochNorm) {
  SharedRun shared("stoch-norm");
  for (const RankRan& ran : run_on_ranks(2, shared.settings, DeviceKind::cpu))
    EXPECT_TRUE(contains(ran.error, "several processes cannot share")) << ran.error;
}

TEST(RanksOfARun, NeedABatchEach) {
  SharedRun shared("full");
  shared.settings.batch = 8, shared.settings.accumulate = 1;
  for (const RankRan& ran : run_on_ranks(2, shared.settings, DeviceKind::cpu))
    EXPECT_TRUE(contains(ran.error, "use --accumulate 2 with --batch 4")) << ran.error;
  EXPECT_FALSE(std::filesystem::exists(shared.settings.output));
}

}  // namespace
}  // namespace graft
