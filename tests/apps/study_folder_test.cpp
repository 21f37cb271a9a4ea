// graft study without a training: which folder it means, what it refuses before anything starts, what it prints for
// programs.
#include <nlohmann/json.hpp>

#include "apps/study_file.h"
#include "data/files.h"
#include "strategies/study/lock.h"
#include "tests/apps/program_testing.h"
#include "tests/apps/study_testing.h"

namespace graft::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// One cell from scratch; `more` follows [train].
std::string small_study(const std::string& path, const std::string& data, const std::string& more = "") {
  write_atomically(path,
                   "[study]\nfrom_scratch = true\nnetworks = [\"densenet121\"]\nstrategies = [\"full\"]\nseeds = "
                   "[1]\n[study.datasets]\nshapes = \"" +
                       data + "\"\n[train]\nlr = 1e-3\nepochs = 1\nsize = 32\nbatch = 8\ndevice = \"cpu\"\n" + more);
  return path;
}

TEST(StudyFolder, StatusTakesItOrTheFileInIt) {
  const TemporaryFolder folder;
  const std::string study = folder / "study";
  write_study(made_up_results({}), study);
  for (const std::string& name : {study, study + "/study.toml"}) {
    const Outcome outcome = graft({"study", "status", name, "--json"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const json status = json::parse(outcome.out);
    EXPECT_EQ(status["directory"], study);
    EXPECT_EQ(status["cells"].size(), 4U);
  }
  expect_error(graft({"study", "status", folder / ""}), 2, "is a folder; name the study's file");
  expect_error(graft({"study", "status", study, "-o", study}), 2, "is a folder; name the study's file");
}

TEST(StudyFolder, TrialsAreChosenByTheMonitoredScoreUnlessTold) {
  const TemporaryFolder folder;
  const auto selection = [&](const std::string& more) {
    return read_study_file(small_study(folder / "study.toml", "images", more)).spec.selection;
  };
  EXPECT_EQ(selection(""), "macro_accuracy");
  EXPECT_EQ(selection("monitor = \"auc\"\n"), "auc");
  const std::string path = small_study(folder / "study.toml", "images", "monitor = \"auc\"\n");
  std::string text = read_text(path);
  text.insert(text.find("seeds"), "selection = \"loss\"\n");
  write_atomically(path, std::string_view(text));
  EXPECT_EQ(read_study_file(path).spec.selection, "loss");
  text.replace(text.find("\"loss\""), 6, "\"acu\"");
  write_atomically(path, std::string_view(text));
  expect_error(graft({"study", "plan", path}), 2, "study.selection: 'acu' is unknown, did you mean 'auc'?");
  expect_error(graft({"study", "plan", small_study(path, "images", "monitor = \"acu\"\n")}), 2,
               "train.monitor: 'acu' is unknown, did you mean 'auc'?");
}

TEST(StudyFolder, StatusOfANameThatIsNotUtf8IsJson) {
  const TemporaryFolder folder;
  const std::string study = folder / "caf\xe9";
  StudyResults results = made_up_results({});
  CellResult& failed = cell_of(results, "resnet50/chest/full/seed-1");
  failed.state = CellState::failed;
  failed.error = study + "/runs: no space left";
  write_study(results, study);
  const Outcome outcome = graft({"study", "status", study, "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json status = json::parse(outcome.out);
  EXPECT_TRUE(status["directory"].get<std::string>().ends_with("caf\xef\xbf\xbd"));
  EXPECT_TRUE(status["cells"][0]["error"].get<std::string>().ends_with("/runs: no space left"));
}

TEST(StudyFolder, AFinishedCellHasTheRateThatItWasTrainedWith) {
  const TemporaryFolder folder;
  const std::string study = folder / "study", id = "resnet50/chest/full/seed-2";
  write_study(made_up_results({}), study);
  write_atomically(study + "/runs/" + id + "/config.toml", std::string_view("[train]\nlr = 0.0316\n"));
  StudyResults results = read_results(study);
  EXPECT_EQ(cell_of(results, id).lr, 0.0316);
  EXPECT_EQ(cell_of(results, "resnet50/chest/full/seed-1").lr, 1e-3);  // no configuration there: what is set
  fs::remove(study + "/runs/" + id + "/summary.json");
  results = read_results(study);
  EXPECT_EQ(cell_of(results, id).lr, 1e-3);  // to be trained with
}

TEST(StudyFolder, PlanRefusesLeaksAsRunDoes) {
  const TemporaryFolder folder;
  const std::string images = folder / "images", study = folder / "study";
  fs::copy(Workshop::get().images(), images, fs::copy_options::recursive);
  fs::copy_file(images + "/train/circles/000.png", images + "/test/waves/copy.png");
  const Outcome plan = graft({"study", "plan", small_study(folder / "study.toml", images), "-o", study});
  EXPECT_EQ(plan.exit_code, 1);
  EXPECT_EQ(plan.out, "");
  EXPECT_NE(plan.err.find("graft: error: study: the splits of shapes ("), std::string::npos) << plan.err;
  EXPECT_TRUE(plan.err.ends_with("allow = [\"duplicates\"] }\n")) << plan.err;
  EXPECT_EQ(plan.err.find("listed in"), std::string::npos) << plan.err;
  for (const char* name : {"plan.json", "leakage.json", "splits"}) EXPECT_FALSE(fs::exists(study + "/" + name)) << name;
}

TEST(StudyFolder, SlurmScriptsAreOneJsonObjectForPrograms) {
  const TemporaryFolder folder;
  const std::string study = folder / "study";
  const Outcome outcome = graft(
      {"study", "run", small_study(folder / "study.toml", Workshop::get().images()), "-o", study, "--slurm", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(json::parse(outcome.out), json({{"trials", 0}, {"cells", 1}, {"submit", study + "/slurm/submit.sh"}}));
  EXPECT_TRUE(fs::exists(study + "/slurm/submit.sh"));
}

TEST(StudyFolder, KeysThatWouldHaveNoEffectAreRefused) {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& more, const std::string& part) {
    const std::string file = small_study(folder / "study.toml", Workshop::get().images(), more);
    expect_error(graft({"study", "run", file, "-o", folder / "study"}), 2, part);
  };
  refused("allow_leaks = \"duplicates\"\n", "train.allow_leaks: a study allows leaks by data set");
  refused("[strategy.full]\nallow_leaks = \"duplicates\"\n", "a study allows leaks by data set");
  for (const char* line : {"val_fraction = 0.1", "test_fraction = 0.1", "skip_bad = true", "leak_check = false"}) {
    const std::string text(line), key = text.substr(0, text.find(' '));
    refused("[strategy.full]\n" + text + "\n",
            "strategy.full." + key + ": all strategies have the same images and splits; set " + key + " in [train]");
    refused("[strategy.full.train]\n" + text + "\n", "set " + key + " in [train]");
  }
}

TEST(StudyFolder, PlanAndRunSayThatSingleCellsAreAtWork) {
  const TemporaryFolder folder;
  const std::string study = folder / "study", file = small_study(folder / "study.toml", Workshop::get().images());
  fs::create_directories(study);
  const StudyLock lock(study + "/study.lock", StudyLock::Kind::one_cell);
  for (const char* verb : {"plan", "run"})
    expect_error(graft({"study", verb, file, "-o", study}), 1, "single cells of " + study + " are being run");
}

}  // namespace
}  // namespace graft::testing
