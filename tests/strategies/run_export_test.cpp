// A run in the forms of MedMNIST and MLflow, from a run directory made by hand: the scores can be counted on fingers.
// The tools themselves read such files in tests/reference/check_run_exports.py.
#include "strategies/training/run_export.h"

#include <map>

#include "data/files.h"
#include "strategies_testing.h"

namespace graft::testing {
namespace {

namespace fs = std::filesystem;

/// A run on a .npz of two classes: four test images, not in order, and two of validation.
void write_run(const fs::path& run) {
  write_atomically(run / "config.toml",
                   std::string_view("[train]\n# where\ndata = \"sets/breastmnist_64.npz\"\nlr = 0.001\n"
                                    "\n[strategy]\nname = \"full\"\n"));
  write_atomically(
      run / "environment.json",
      std::string_view("{\"graft\": \"0.1.0\", \"started\": \"2026-01-02T03:04:05Z\", \"device\": \"cpu\"}"));
  write_atomically(run / "epochs.csv", std::string_view("epoch,lr,train_loss,val_loss,seconds\n1,0.001,0.7,0.6,2.5\n"
                                                        "2,0.0005,0.5,,2\n"));
  write_atomically(run / "steps.csv", std::string_view("step,loss,penalty,lr\n1,0.75,0,0.001\n"));
  write_atomically(run / "predictions.csv",
                   std::string_view("path,split,label,predicted,p_0,p_1\n"
                                    "val/0,val,0,0,0.9,0.1\nval/1,val,1,0,0.8,0.2\n"
                                    "test/2,test,1,0,0.5,0.5\ntest/0,test,0,0,0.75,0.25\n"
                                    "test/1,test,1,1,0.125,0.875\ntest/3,test,0,1,0.25,0.75\n"));
  write_atomically(run / "summary.json",
                   std::string_view("{\"best_epoch\": 1, \"test\": {\"n\": 4, \"auc\": 0.75, \"kappa\": null}}"));
}

TEST(RunExports, MedMnistsScoresAreItsEvaluators) {
  const TemporaryFolder folder;
  write_run(folder / "run");
  const std::vector<fs::path> files = export_medmnist(folder / "run", folder / "scores");
  // Test: of the pairs (0.875, 0.5) against (0.25, 0.75) three are in order; 0.5 is not above the threshold.
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[0].filename(), "breastmnist_64_test_[AUC]0.750_[ACC]0.500@run.csv");
  EXPECT_EQ(read_text(files[0]), "0,0.75,0.25\n1,0.125,0.875\n2,0.5,0.5\n3,0.25,0.75\n");
  EXPECT_EQ(files[1].filename(), "breastmnist_64_val_[AUC]1.000_[ACC]0.500@run.csv");
}

TEST(RunExports, CertainAnswersHaveProbabilitiesBelowTheUsualNumbers) {
  const TemporaryFolder folder;
  write_run(folder / "run");
  write_atomically(folder / "run/predictions.csv",
                   std::string_view("path,split,label,predicted,p_0,p_1\ntest/0,test,0,0,1,5.4e-317\n"
                                    "test/1,test,1,1,0.25,0.75\n"));
  const std::vector<fs::path> files = export_medmnist(folder / "run", folder / "scores");
  ASSERT_EQ(files.size(), 1u);
  EXPECT_EQ(read_text(files[0]), "0,1,5.4e-317\n1,0.25,0.75\n");
}

TEST(RunExports, MedMnistsScoresOfSeveralLabels) {
  const TemporaryFolder folder;
  write_run(folder / "run");
  write_atomically(folder / "run/predictions.csv",
                   std::string_view("path,split,labels,predicted,p_0,p_1\ntest/1,test,,1,0.25,0.75\n"
                                    "test/0,test,0|1,0,0.75,0.5\ntest/2,test,1,1,0.5,0.875\n"));
  const std::vector<fs::path> files = export_medmnist(folder / "run", folder / "scores");
  // Class 0: every pair in order and every answer right. Class 1: 0.5 is below the 0.75 of the image without it, and
  // not above the threshold.
  ASSERT_EQ(files.size(), 1u);
  EXPECT_EQ(files[0].filename(), "breastmnist_64_test_[AUC]0.750_[ACC]0.667@run.csv");
  EXPECT_EQ(read_text(files[0]), "0,0.75,0.5\n1,0.25,0.75\n2,0.5,0.875\n");
  write_atomically(folder / "run/predictions.csv",
                   std::string_view("path,split,labels,predicted,p_0,p_1\ntest/0,test,0|2,0,0.75,0.5\n"));
  expect_names(error_of([&] { export_medmnist(folder / "run", folder / "scores"); }), {"class '2'", "no column"});
}

TEST(RunExports, MedMnistSaysWhatItNeeds) {
  const TemporaryFolder folder;
  const auto refused = [&](const char* part) {
    expect_names(error_of([&] { export_medmnist(folder / "run", folder / "scores"); }), {part});
    EXPECT_FALSE(fs::exists(folder / "scores"));
  };
  refused("predictions.csv");
  write_run(folder / "run");
  write_atomically(folder / "run/predictions.csv",
                   std::string_view("path,split,label,predicted,p_0,p_1\ntest/a/x.png,test,0,0,0.9,0.1\n"));
  refused("test/a/x.png");
  write_atomically(folder / "run/predictions.csv",
                   std::string_view("path,split,label,predicted,p_0,p_1\ntest/0,test,0,0,0.9,0.1\n"));
  refused("AUC");
  write_atomically(folder / "run/config.toml", std::string_view("[train]\ndata = \"images\"\n"));
  refused("images");
}

TEST(RunExports, MlflowFindsSettingsAndCurves) {
  const TemporaryFolder folder;
  write_run(folder / "run");
  const fs::path run = export_mlflow(folder / "run", folder / "mlruns");
  EXPECT_EQ(run.parent_path().parent_path(), folder / "mlruns");
  const auto text = [&](const char* name) { return read_text(run / name); };
  EXPECT_EQ(text("params/train.data"), "sets/breastmnist_64.npz");
  EXPECT_EQ(text("params/strategy.name"), "full");
  EXPECT_EQ(text("metrics/train_loss"), "1767323047500 0.7 1\n1767323049500 0.5 2\n");  // started, plus the seconds
  EXPECT_EQ(text("metrics/val_loss"), "1767323047500 0.6 1\n");
  EXPECT_EQ(text("metrics/update/loss"), "1767323045000 0.75 1\n");
  EXPECT_EQ(text("metrics/test/auc"), "1767323049500 0.75 1\n");
  EXPECT_FALSE(fs::exists(run / "metrics/test/kappa"));
  EXPECT_EQ(text("tags/mlflow.runName"), "run");
  EXPECT_EQ(text("artifacts/summary.json"), read_text(folder / "run/summary.json"));
  EXPECT_TRUE(contains(text("meta.yaml"), "status: 3\n"));
  EXPECT_TRUE(contains(read_text(run.parent_path() / "meta.yaml"), "name: \"graft\"\n"));

  fs::remove(folder / "run/summary.json");
  EXPECT_EQ(export_mlflow(folder / "run", folder / "mlruns"), run);  // the same run, not another
  EXPECT_TRUE(contains(text("meta.yaml"), "status: 5\n"));
  EXPECT_FALSE(fs::exists(run / "metrics/test/auc"));
  expect_names(error_of([&] { export_mlflow(folder / "gone", folder / "mlruns"); }), {"config.toml"});
}

TEST(RunExports, DamagedFilesAreNotTakenForAnUnfinishedRun) {
  const TemporaryFolder folder;
  for (const char* name : {"summary.json", "environment.json"})
    for (const char* damage : {"garbage", "", "{\"best_epoch\": 1", "[1]"}) {
      write_run(folder / "run");
      write_atomically(folder / "run" / name, std::string_view(damage));
      expect_names(error_of([&] { export_mlflow(folder / "run", folder / "mlruns"); }), {name, "damaged"});
      EXPECT_FALSE(fs::exists(folder / "mlruns")) << name << ": " << damage;
    }
}

}  // namespace
}  // namespace graft::testing
