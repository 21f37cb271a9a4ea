// By which score the best epoch is chosen, and the file in which an epoch's scores stand.
#include "strategies/monitor.h"

#include <fmt/format.h>

#include <cmath>

#include "strategies/training/resume_check.h"
#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

using testing::contains;
using testing::error_of;
using testing::Ran;
using testing::run;
using testing::short_run;
using testing::TemporaryFolder;

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

TEST(Monitor, SaysWhichOfTwoScoresIsBetter) {
  const Monitor &auc = monitor_named("auc"), &loss = monitor_named("loss");
  EXPECT_TRUE(is_better(auc, 0.8, 0.7));
  EXPECT_FALSE(is_better(auc, 0.7, 0.7));
  EXPECT_FALSE(is_better(auc, 0.6, 0.7));
  EXPECT_TRUE(is_better(loss, 0.6, 0.7));
  EXPECT_FALSE(is_better(loss, 0.7, 0.7));
  for (const Monitor& monitor : monitors()) {
    EXPECT_TRUE(is_better(monitor, 0.1, kNone)) << monitor.name;
    EXPECT_FALSE(is_better(monitor, kNone, 0.1)) << monitor.name;
    EXPECT_FALSE(is_better(monitor, kNone, kNone)) << monitor.name;
  }
  EXPECT_TRUE(contains(error_of([] { monitor_named("f2"); }), "'f2' is unknown"));
}

/// The epoch, from 1, that has the best value of a column of epochs.csv; of equal ones the first.
std::int64_t best_by(const Monitor& monitor, const std::vector<EpochReport>& epochs) {
  std::int64_t best = 1;
  for (const EpochReport& e : epochs)
    if (is_better(monitor, e.*monitor.score, epochs[std::size_t(best - 1)].*monitor.score)) best = e.epoch;
  return best;
}

class Monitors : public ::testing::TestWithParam<std::string> {};

TEST_P(Monitors, ChooseTheEpochThatIsTested) {
  const Monitor& monitor = monitor_named(GetParam());
  const TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run");
  s.epochs = 5, s.lr = 3, s.schedule = "constant", s.monitor = monitor.name;  // wild steps: epochs differ
  const Ran ran = run(s);
  const std::vector<EpochReport> epochs = parse_epochs_csv(read_text(folder / "run" / "epochs.csv"));
  ASSERT_EQ(epochs.size(), 5u);
  EXPECT_EQ(ran.result.best_epoch, best_by(monitor, epochs));
  for (std::size_t i = 0; i < epochs.size(); ++i) {
    EXPECT_EQ(ran.sink.epochs[i].monitor, &monitor);
    const double score = ran.sink.epochs[i].*monitor.score;  // in the file nine digits of it
    EXPECT_NEAR(epochs[i].*monitor.score, score, 1e-8 * std::abs(score));
  }
  const double best = ran.sink.epochs[std::size_t(ran.result.best_epoch - 1)].*monitor.score;
  EXPECT_EQ(ran.result.best_val_score, best);
  const auto summary = nlohmann::json::parse(ran.result.summary_json);
  EXPECT_EQ(summary.at("monitor"), monitor.name);
  EXPECT_EQ(summary.at("best_val_score").get<double>(), best);
  EXPECT_NEAR(summary.at("best_val_macro_accuracy").get<double>(),
              epochs[std::size_t(ran.result.best_epoch - 1)].val_macro_accuracy, 1e-8);
  // The weights that were tested are that epoch's: measured again they have its score.
  EXPECT_NEAR(summary.at("val").at(std::string(monitor.name)).get<double>(), best, 1e-6);
}
INSTANTIATE_TEST_SUITE_P(All, Monitors,
                         ::testing::Values("macro_accuracy", "accuracy", "macro_f1", "kappa", "auc",
                                           "average_precision", "loss"),
                         [](const auto& param) { return param.param; });

TEST(Monitor, EarlyStoppingWaitsForItsScore) {
  const TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run");
  s.lr = 1e-3, s.epochs = 8, s.patience = 2, s.schedule = "constant", s.monitor = "loss";
  const Ran falling = run(s);
  EXPECT_EQ(falling.result.epochs, 8) << "the loss falls in every epoch, whatever the accuracy does";
  s.output = (folder / "rising").string(), s.lr = 3;
  const Ran rising = run(s);
  EXPECT_LT(rising.result.epochs, 8);
  EXPECT_EQ(rising.result.epochs, rising.result.best_epoch + 2);
  EXPECT_TRUE(contains(rising.sink.notes, "no better validation loss than ")) << rising.sink.notes;
}

TEST(Monitor, ARunOfAnEarlierVersionHadMacroAccuracy) {
  const TemporaryFolder folder;
  folder.write("config.toml", "[train]\nlr = 0.1\n");
  const RunDirectory directory(folder.path());
  check_same_run(directory, "[train]\nlr = 0.1\nmonitor = \"macro_accuracy\"\n", "");
  const auto refusal = [&](const char* monitor, const char* split_csv) {
    return error_of(
        [&] { check_same_run(directory, fmt::format("[train]\nlr = 0.1\nmonitor = \"{}\"\n", monitor), split_csv); });
  };
  EXPECT_TRUE(contains(refusal("loss", ""), "train.monitor was \"macro_accuracy\" and is now \"loss\""));
  // What the data decides by itself is the same score.
  check_same_run(directory, "[train]\nlr = 0.1\nmonitor = \"auto\"\n", "path,label,split,group\n");
  EXPECT_TRUE(contains(refusal("auto", "path,labels,split,group\n"), "and is now \"auto\""));
  EXPECT_TRUE(is_same_setting("train.monitor", "\"auto\"", "\"auc\"", true));
  EXPECT_FALSE(is_same_setting("train.monitor", "\"auto\"", "\"auc\"", false));
  EXPECT_FALSE(is_same_setting("train.optimizer", "\"auto\"", "\"macro_accuracy\"", false));
}

TEST(Monitor, AScoreThatOneClassLeavesUndefinedIsRefusedBeforeAnythingIsWritten) {
  const TemporaryFolder folder;
  testing::draw_images(folder / "images");
  std::filesystem::remove_all(folder / "images/val/b");
  TrainSettings s = short_run(folder / "run");
  s.data = (folder / "images").string(), s.monitor = "auc";
  EXPECT_TRUE(contains(error_of([&] { run(s); }),
                       "all validation images are of class 'a', for which AUC is not defined; give"));
  EXPECT_FALSE(std::filesystem::exists(folder / "run"));
  s.monitor = "macro_f1";
  EXPECT_EQ(run(s).result.epochs, 2);
}

TEST(EpochsCsv, ReadsWhatItWrote) {
  const EpochReport report{.epoch = 7,
                           .lr = 1e-3,
                           .train_loss = 0.5,
                           .penalty = 0.25,
                           .train_accuracy = 0.75,
                           .val_loss = 0.4,
                           .val_accuracy = 0.8,
                           .val_macro_accuracy = 0.7,
                           .val_macro_f1 = 0.6,
                           .val_kappa = -0.1,
                           .val_average_precision = 0.9,  // and no AUC
                           .is_best = true,
                           .seconds = 1.5,
                           .images_per_second = 20};
  const std::string text = epochs_csv_header() + "\n" + epochs_csv_line(report) + "\n";
  EXPECT_EQ(text,
            "epoch,lr,train_loss,penalty,train_accuracy,val_loss,val_accuracy,val_macro_accuracy,is_best,seconds,"
            "images_per_second,val_macro_f1,val_kappa,val_auc,val_average_precision\n"
            "7,0.001,0.5,0.25,0.75,0.4,0.8,0.7,1,1.500,20.00,0.6,-0.1,,0.9\n");
  const std::vector<EpochReport> read = parse_epochs_csv(text + "8,0.001,0.5");  // the last line is being written
  ASSERT_EQ(read.size(), 1u);
  EXPECT_EQ(epochs_csv_line(read[0]), epochs_csv_line(report));
  EXPECT_TRUE(std::isnan(read[0].val_auc));
}

TEST(EpochsCsv, ReadsThoseOfEarlierVersions) {
  const std::string header =
      "epoch,lr,train_loss,penalty,train_accuracy,val_loss,val_accuracy,val_macro_accuracy,is_best,seconds,"
      "images_per_second";
  const std::string line = "1,0.001,0.5,0,0.75,0.4,0.8,0.7,1,1.500,20.00\n";
  const TemporaryFolder folder;
  const auto file = folder.write("epochs.csv", header + "\n" + line);
  const std::string before = read_text(file);
  GrowingCsv(file, epochs_csv_header(), 1);  // goes on with it
  const CsvTable continued = parse_csv(read_text(file), "epochs.csv");
  EXPECT_EQ(continued.rows.at(0).size(), continued.header.size());
  for (const std::string& text : {before, read_text(file)}) {
    const std::vector<EpochReport> read = parse_epochs_csv(text);
    ASSERT_EQ(read.size(), 1u);
    EXPECT_EQ(read[0].val_macro_accuracy, 0.7);
    EXPECT_EQ(read[0].seconds, 1.5);
    EXPECT_TRUE(read[0].is_best);
    EXPECT_TRUE(std::isnan(read[0].val_auc));
  }
  const std::vector<EpochReport> unvalidated = parse_epochs_csv(header + "\n2,0.001,0.5,0,0.75,,,,1,1.500,20.00\n");
  ASSERT_EQ(unvalidated.size(), 1u);
  EXPECT_FALSE(unvalidated[0].has_validation());
}

}  // namespace
}  // namespace graft
