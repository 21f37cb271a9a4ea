// graft study end to end: run, killed at any moment, continued, changed, out of disk, by single cells; what it says.
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <thread>

#include "data/files.h"
#include "data/model_file.h"
#include "strategies/study/lock.h"
#include "strategies/study/results.h"
#include "tests/apps/program_testing.h"

namespace graft::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct StudyText {
  std::string seeds = "[1, 2]", strategies = R"(["full", "linear-probe", "lp-ft"])", more = "";
  std::string train = "epochs = 2\n";
};

/// A small study: DenseNet-121 at 32 px; full is tuned by two trials, the others have their rates.
std::string study_file(const std::string& path, const StudyText& text = {}) {
  const Workshop& shop = Workshop::get();
  std::ostringstream out;
  out << "[study]\nnetworks = [\"densenet121\"]\nstrategies = " << text.strategies << "\nseeds = " << text.seeds
      << "\ntuning = { trials = 2, epochs = 1, lr = [1e-4, 1e-2] }\n[study.weights]\ndensenet121 = \"" << shop.model()
      << "\"\n[study.datasets]\nshapes = \"" << shop.images()
      << "\"\n[train]\nbatch = 8\nthreads = 1\ndevice = \"cpu\"\npatience = 0\n"
      << text.train << "[strategy.linear-probe]\nlr = 0.01\n[strategy.lp-ft]\nlr = 0.003\n"
      << text.more;
  write_atomically(path, std::string_view(out.str()));
  return path;
}

/// Starts `graft study run` with its words on a file; the caller waits.
pid_t start_study(const std::string& file, const std::string& folder, const std::string& said,
                  rlim_t largest_file = RLIM_INFINITY) {
  const pid_t child = fork();
  if (child != 0) return child;
  std::freopen(said.c_str(), "w", stderr);
  std::freopen("/dev/null", "w", stdout);
  const rlimit limit{largest_file, RLIM_INFINITY};
  if (largest_file != RLIM_INFINITY) setrlimit(RLIMIT_FSIZE, &limit);
  setenv("OMP_WAIT_POLICY", "passive", 1);
  const std::string program = std::string(GRAFT_BINARY_DIR) + "/graft";
  execl(program.c_str(), program.c_str(), "study", "run", file.c_str(), "-o", folder.c_str(), "-j", "2", nullptr);
  _exit(127);
}

/// Exit code; -1: killed by a signal.
int wait_for(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> found;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream stat(entry.path() / "stat");
    std::string text;
    std::getline(stat, text);
    if (text.rfind(')') == std::string::npos) continue;
    std::istringstream rest(text.substr(text.rfind(')') + 1));
    std::string state;
    pid_t its_parent = 0;
    rest >> state >> its_parent;
    if (its_parent == parent) found.push_back(std::stoi(name));
  }
  return found;
}

/// epochs.csv without what the clock says.
std::string course(const std::string& epochs_csv) {
  std::string kept;
  for (EpochReport& epoch : parse_epochs_csv(epochs_csv)) {
    epoch.seconds = epoch.images_per_second = 0;
    kept += epochs_csv_line(epoch) + "\n";
  }
  return kept;
}

/// Every file of every cell and trial, but for seconds, is the same.
void expect_same_results(const std::string& a, const std::string& b) {
  const StudyResults left = read_results(a), right = read_results(b);
  ASSERT_EQ(left.cells.size(), right.cells.size());
  for (std::size_t i = 0; i < left.cells.size(); ++i) {
    const CellResult &l = left.cells[i], &r = right.cells[i];
    SCOPED_TRACE(l.cell.id());
    ASSERT_EQ(l.state, CellState::finished);
    ASSERT_EQ(r.state, CellState::finished);
    EXPECT_EQ(l.lr, r.lr);
    for (const char* name : {"predictions.csv", "steps.csv", "split.csv"})
      EXPECT_EQ(read_text(l.directory / name), read_text(r.directory / name)) << name;
    EXPECT_EQ(course(read_text(l.directory / "epochs.csv")), course(read_text(r.directory / "epochs.csv")));
    const WeightTable first = read_model_file(l.directory / "best.h5").weights,
                      second = read_model_file(r.directory / "best.h5").weights;
    for (const WeightTensor& t : first.tensors()) ASSERT_TRUE(second.find(t.name)->values == t.values) << t.name;
    for (const char* name : {"last.h5", "failed.txt"}) EXPECT_FALSE(fs::exists(r.directory / name)) << name;
  }
  ASSERT_EQ(left.trials.size(), right.trials.size());
  for (std::size_t i = 0; i < left.trials.size(); ++i) {
    EXPECT_EQ(left.trials[i].score, right.trials[i].score);
    EXPECT_EQ(left.trials[i].is_chosen, right.trials[i].is_chosen);
    EXPECT_FALSE(fs::exists(right.trials[i].directory / "best.h5"));
  }
}

/// A study that ran without interruption, made once.
class FinishedStudy {
 public:
  static const FinishedStudy& get() {
    static const FinishedStudy study;
    return study;
  }
  std::string folder() const { return folder_ / "study"; }
  const Outcome& outcome() const { return outcome_; }

 private:
  FinishedStudy() { outcome_ = graft({"study", "run", study_file(folder_ / "study.toml"), "-o", folder(), "-j", "2"}); }
  TemporaryFolder folder_;
  Outcome outcome_;
};

TEST(Study, RunsTrialsThenCellsAndItsResultsCanBeRead) {
  const FinishedStudy& study = FinishedStudy::get();
  ASSERT_EQ(study.outcome().exit_code, 0) << study.outcome().err;
  EXPECT_NE(study.outcome().err.find("[8/8]"), std::string::npos) << study.outcome().err;
  const StudyResults results = read_results(study.folder());
  EXPECT_FALSE(results.is_running);
  ASSERT_EQ(results.cells.size(), 6U);
  ASSERT_EQ(results.trials.size(), 2U);
  EXPECT_EQ(results.cells[0].cell.id(), "densenet121/shapes/full/seed-1");
  EXPECT_NE(read_text(std::string(study.folder()) + "/runs/densenet121/shapes/full/seed-1/config.toml")
                .find("arch = \"densenet121\""),
            std::string::npos);
  EXPECT_EQ(results.trials[0].trial.id(), "densenet121/shapes/full/trial-1");
  EXPECT_NE(results.trials[0].is_chosen, results.trials[1].is_chosen);
  for (const TrialResult& trial : results.trials) EXPECT_EQ(trial.is_chosen, results.cells[0].lr == trial.trial.lr);
  EXPECT_EQ(results.cells[2].lr, 0.01);
  for (const CellResult& cell : results.cells) {
    ASSERT_EQ(cell.state, CellState::finished);
    const json summary = json::parse(read_text(cell.directory / "summary.json"));
    EXPECT_EQ(cell.test.accuracy, summary["test"]["accuracy"].get<double>());
    EXPECT_EQ(cell.test.n, std::ssize(cell.predictions.labels));
    EXPECT_EQ(cell.predictions.probabilities.size(), cell.predictions.labels.size() * cell.class_names.size());
    EXPECT_EQ(cell.curve.size(), 2U);
    // The same images, in the same order, for every strategy and seed.
    EXPECT_EQ(cell.predictions.paths, results.cells[0].predictions.paths);
    EXPECT_EQ(read_text(cell.directory / "split.csv"), read_text(results.cells[0].directory / "split.csv"));
  }
  // Trials never see a test image.
  for (const TrialResult& trial : results.trials) {
    EXPECT_EQ(read_text(trial.directory / "split.csv").find(",test,"), std::string::npos);
    EXPECT_EQ(read_text(trial.directory / "predictions.csv").find(",test,"), std::string::npos);
  }
  // Frozen features were computed once: for both seeds of the probe and both of lp-ft.
  EXPECT_EQ(std::distance(fs::directory_iterator(study.folder() + "/shared/features"), fs::directory_iterator()), 1);
}

TEST(Study, KilledAtAnyMomentItEndsWithTheSameBits) {
  const TemporaryFolder folder;
  const std::string file = study_file(folder / "study.toml"), said = folder / "said.txt";
  std::mt19937 random(20);
  std::uniform_int_distribution<int> milliseconds(20, 1200);
  int kills = 0, studies = 1;
  std::string output = folder / "study-1";
  constexpr int kKills = 20;
  while (kills < kKills) {
    const pid_t study = start_study(file, output, said);
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds(random)));
    // Every other time its trainings are killed as well; else they end by themselves, with a checkpoint.
    std::vector<pid_t> all{study};
    if (kills % 2 == 0) {
      kill(study, SIGSTOP);
      for (pid_t child : children_of(study)) all.push_back(child);
    }
    for (pid_t process : all) kill(process, SIGKILL);
    if (const int code = wait_for(study); code == 0) {  // it came to its end meanwhile; another one is killed further
      expect_same_results(FinishedStudy::get().folder(), output);
      ASSERT_LT(studies, kKills) << "studies finish before they can be killed";
      output = folder / ("study-" + std::to_string(++studies));
      continue;
    }
    ++kills;
    EXPECT_TRUE(read_text(said).find("error") == std::string::npos) << read_text(said);
  }
  ASSERT_EQ(wait_for(start_study(file, output, said)), 0) << read_text(said);
  expect_same_results(FinishedStudy::get().folder(), output);
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(output))
    EXPECT_EQ(entry.path().filename().string().find(".tmp."), std::string::npos) << entry.path();
}

TEST(Study, InterruptedItWritesCheckpointsAndGoesOn) {
  const TemporaryFolder folder;
  const std::string file =
      study_file(folder / "study.toml", {.seeds = "[1]", .strategies = R"(["full"])", .train = "epochs = 40\n"});
  const std::vector<std::string> command{"study", "run", file, "-o", folder / "study"};
  const Outcome stopped = run({.arguments = command, .signal_after = "[2/3]", .signal = SIGINT});
  EXPECT_EQ(stopped.exit_code, 130) << stopped.err;
  EXPECT_NE(stopped.err.find("the same command continues"), std::string::npos) << stopped.err;
  const StudyResults results = read_results(folder / "study");
  EXPECT_NE(results.cells[0].state, CellState::failed);
  EXPECT_FALSE(is_held(folder / "study/study.lock"));
}

TEST(Study, AFailureIsListedTriedAgainAndLosesNothingElse) {
  const TemporaryFolder folder;
  StudyText text{.seeds = "[1]", .strategies = R"(["linear-probe", "lp-ft", "wild"])"};
  text.more = "[strategy.wild]\nname = \"full\"\nlr = 1e30\noptimizer = \"sgd\"\n";
  const std::string file = study_file(folder / "study.toml", text);
  for (int round = 0; round < 2; ++round) {
    const Outcome outcome = graft({"study", "run", file, "-o", folder / "study", "--json"});
    EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
    EXPECT_NE(outcome.err.find("graft: error: study: 1 training failed, 2 of 3 cells finished and kept"),
              std::string::npos)
        << outcome.err;
    const json result = json::parse(outcome.out);
    ASSERT_EQ(result["failed"].size(), 1U);
    EXPECT_EQ(result["failed"][0]["id"], "densenet121/shapes/wild/seed-1");
    EXPECT_NE(result["failed"][0]["error"].get<std::string>().find("lower train.lr"), std::string::npos);
    EXPECT_EQ(outcome.err.find("[1/3]") == std::string::npos, round == 1) << outcome.err;  // what is finished stays
  }
  const StudyResults results = read_results(folder / "study");
  EXPECT_EQ(results.cells[2].state, CellState::failed);
  EXPECT_NE(results.cells[2].error.find("lower train.lr"), std::string::npos);
  EXPECT_EQ(results.cells[1].state, CellState::finished);
}

TEST(Study, ATrialThatDivergesIsWorstNotAFailure) {
  const TemporaryFolder folder;
  StudyText text{.seeds = "[1]",
                 .strategies = R"(["full"])",
                 .more = "[strategy.full]\noptimizer = \"sgd\"\ntuning_lr = [1e-10, 1e20]\n"};
  const Outcome outcome = graft({"study", "run", study_file(folder / "study.toml", text), "-o", folder / "study"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const StudyResults results = read_results(folder / "study");
  ASSERT_EQ(results.trials.size(), 2U);
  EXPECT_TRUE(results.trials[0].is_chosen);
  EXPECT_TRUE(results.trials[1].diverged);
  EXPECT_EQ(results.cells[0].state, CellState::finished);
}

TEST(Study, AFullDiskLosesNothing) {
  const TemporaryFolder folder;
  const std::string output = folder / "study", said = folder / "said.txt";
  const std::string file = study_file(folder / "study.toml", {.seeds = "[1]", .strategies = R"(["linear-probe"])"});
  ASSERT_EQ(wait_for(start_study(file, output, said)), 0) << read_text(said);
  const std::string kept = read_text(output + "/runs/densenet121/shapes/linear-probe/seed-1/predictions.csv");
  study_file(folder / "study.toml", {.seeds = "[1, 2]", .strategies = R"(["linear-probe"])"});
  constexpr rlim_t kSmallerThanAModel = 20 << 20;
  EXPECT_EQ(wait_for(start_study(file, output, said, kSmallerThanAModel)), 1);
  // One line of the training's own, not a crash.
  EXPECT_NE(read_text(said).find("seed-2: hdf5 "), std::string::npos) << read_text(said);
  EXPECT_NE(read_text(said).find("check free space: File too large"), std::string::npos) << read_text(said);
  ASSERT_EQ(wait_for(start_study(file, output, said)), 0) << read_text(said);
  EXPECT_EQ(read_text(output + "/runs/densenet121/shapes/linear-probe/seed-1/predictions.csv"), kept);
  EXPECT_EQ(read_results(output).cells[1].state, CellState::finished);
}

TEST(Study, AChangedFileAddsCellsAndRefusesOthers) {
  const TemporaryFolder folder;
  const std::string output = folder / "study";
  fs::copy(FinishedStudy::get().folder(), output, fs::copy_options::recursive);
  const std::string file = study_file(folder / "study.toml", {.train = "epochs = 3\n"});
  const Outcome refused = graft({"study", "run", file, "-o", output});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.err.find("graft: error: study: 6 trainings of"), std::string::npos) << refused.err;
  EXPECT_NE(refused.err.find("densenet121/shapes/lp-ft/seed-2: train.epochs was 2 and is now 3"), std::string::npos)
      << refused.err;
  expect_same_results(FinishedStudy::get().folder(), output);

  study_file(folder / "study.toml", {.seeds = "[1, 2, 3]", .strategies = R"(["linear-probe"])"});
  const Outcome added = graft({"study", "run", file, "-o", output});
  EXPECT_EQ(added.exit_code, 0) << added.err;
  EXPECT_NE(added.err.find("[3/3]"), std::string::npos) << added.err;
  EXPECT_EQ(added.err.find("[2/3]"), std::string::npos) << added.err;
  study_file(folder / "study.toml", {.seeds = "[1]", .strategies = R"(["linear-probe"])", .train = "epochs = 3\n"});
  const Outcome again = graft({"study", "run", file, "-o", output, "--overwrite"});
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(read_results(output).cells[0].epochs, 3);
}

TEST(Study, OtherTrialsRepeatOnlyCellsWhoseRateTheyChange) {
  const TemporaryFolder folder;
  const std::string file = folder / "study.toml", output = folder / "study";
  const auto run = [&](const std::string& tuning, std::vector<std::string> more = {}) {
    std::string text = read_text(study_file(file, {.seeds = "[1]", .strategies = R"(["full"])"}));
    const std::size_t begin = text.find("tuning = ");
    text.replace(begin, text.find('\n', begin) - begin, "tuning = " + tuning);
    write_atomically(file, std::string_view(text));
    std::vector<std::string> words{"study", "run", file, "-o", output};
    words.insert(words.end(), more.begin(), more.end());
    return graft(words);
  };
  const auto cell = [&] { return read_results(output).cells.at(0); };
  ASSERT_EQ(run("{ trials = 1, epochs = 1, lr = [1e-4, 1e-2] }").exit_code, 0);
  EXPECT_EQ(cell().lr, 1e-3);
  const fs::path summary = fs::path(cell().directory) / "summary.json";
  const fs::file_time_type before = fs::last_write_time(summary);

  const Outcome same_rate = run("{ trials = 1, epochs = 2, lr = [1e-4, 1e-2] }", {"--overwrite"});
  EXPECT_EQ(same_rate.exit_code, 0) << same_rate.err;
  EXPECT_NE(same_rate.err.find("trial-1 begins anew"), std::string::npos) << same_rate.err;
  EXPECT_EQ(same_rate.err.find("seed-1 begins anew"), std::string::npos) << same_rate.err;
  EXPECT_EQ(fs::last_write_time(summary), before);

  const Outcome refused = run("{ trials = 2, epochs = 2, lr = [1e-5, 1e-3] }");
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_EQ(fs::last_write_time(summary), before);
  const Outcome other_rate = run("{ trials = 2, epochs = 2, lr = [1e-5, 1e-3] }", {"--overwrite"});
  EXPECT_EQ(other_rate.exit_code, 0) << other_rate.err;
  EXPECT_EQ(cell().lr, read_results(output).trials.at(read_results(output).trials[1].is_chosen ? 1 : 0).trial.lr);
  const std::size_t trials_end = other_rate.err.find("[3/3]"),  // the cell counts until its trials say otherwise
      begins = other_rate.err.find("seed-1 begins anew: train.lr was 0.001 and is now ");
  EXPECT_NE(begins, std::string::npos) << other_rate.err;
  EXPECT_LT(trials_end, begins) << other_rate.err;
}

TEST(Study, AResultOfAnotherRateThanItsTrialsChooseIsKeptUnlessAsked) {
  const TemporaryFolder folder;
  const std::string output = folder / "study";
  fs::copy(FinishedStudy::get().folder(), output, fs::copy_options::recursive);
  const std::string file = study_file(folder / "study.toml"), id = "densenet121/shapes/full/seed-1";
  const fs::path cell = output + "/runs/" + id;
  std::string config = read_text(cell / "config.toml");
  const std::size_t rate = config.find("\nlr = ") + 6;
  config.replace(rate, config.find_first_of(" \n", rate) - rate, "0.5");
  write_atomically(cell / "config.toml", config);
  fs::remove_all(output + "/tuning/densenet121/shapes/full/trial-2");
  const fs::file_time_type before = fs::last_write_time(cell / "summary.json");

  const Outcome kept = graft({"study", "run", file, "-o", output});
  EXPECT_EQ(kept.exit_code, 1);
  EXPECT_NE(kept.err.find("\n" + id + ": train.lr was 0.5"), std::string::npos) << kept.err;
  EXPECT_TRUE(kept.err.ends_with("graft: error: study: 1 training failed, 5 of 6 cells finished and kept\n"))
      << kept.err;
  EXPECT_EQ(fs::last_write_time(cell / "summary.json"), before);
  EXPECT_FALSE(fs::exists(cell / "failed.txt"));
  EXPECT_EQ(graft({"study", "run", file, "-o", output, "--cell", id}).exit_code, 1);
  EXPECT_EQ(fs::last_write_time(cell / "summary.json"), before);
  const Outcome again = graft({"study", "run", file, "-o", output, "--cell", id, "--overwrite"});
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(read_text(cell / "config.toml").find("lr = 0.5"), std::string::npos);
  expect_same_results(FinishedStudy::get().folder(), output);
}

TEST(Study, AProbeIsTheFirstStageOfOthersWhereThatGivesTheSame) {
  const TemporaryFolder folder;
  StudyText text{.seeds = "[1]", .strategies = R"(["lp-ft", "linear-probe"])", .train = "epochs = 3\n"};
  std::string with = read_text(study_file(folder / "with.toml", text));
  with.replace(with.find("lr = 0.01"), 9, "lr = 0.003\nepochs = 1");
  write_atomically(folder / "with.toml", std::string_view(with));
  text.strategies = R"(["lp-ft"])";
  const std::string without = study_file(folder / "without.toml", text);
  for (const char* name : {"with", "without"}) {
    const Outcome outcome = graft({"study", "run", (folder / name) + ".toml", "-o", folder / name, "-j", "2"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  }
  const std::string cell = "/runs/densenet121/shapes/lp-ft/seed-1/";
  EXPECT_NE(read_text((folder / "with") + cell + "log.txt").find("epochs 1 to 1 are those of"), std::string::npos);
  EXPECT_EQ(read_text((folder / "with") + cell + "predictions.csv"),
            read_text((folder / "without") + cell + "predictions.csv"));
  EXPECT_FALSE(fs::exists((folder / "with") + "/runs/densenet121/shapes/linear-probe/seed-1/last.h5"));
}

TEST(Study, OneRunsItAtATime) {
  const TemporaryFolder folder;
  const std::string output = folder / "study", file = study_file(folder / "study.toml");
  fs::create_directories(output);
  const StudyLock lock(output + "/study.lock", StudyLock::Kind::whole);
  expect_error(graft({"study", "run", file, "-o", output}), 1, "is being run already, by process");
}

TEST(Study, SingleCellsOfAClusterGiveTheSame) {
  const TemporaryFolder folder;
  const std::string output = folder / "study", file = study_file(folder / "study.toml");
  expect_error(graft({"study", "run", file, "-o", output, "--cell", "densenet121/shapes/full/seed-1"}), 1,
               "is not prepared");
  const Outcome prepared = graft({"study", "run", file, "-o", output, "--slurm"});
  ASSERT_EQ(prepared.exit_code, 0) << prepared.err;
  EXPECT_EQ(prepared.out, "2 trials and 6 cells as job arrays: " + output + "/slurm/submit.sh\n");
  for (const char* script : {"submit.sh", "trials.sbatch", "cells.sbatch"})
    EXPECT_EQ(std::system(("bash -n '" + output + "/slurm/" + script + "'").c_str()), 0) << script;
  EXPECT_NE(read_text(output + "/slurm/cells.sbatch").find("#SBATCH --array=1-6\n"), std::string::npos);
  EXPECT_NE(read_text(output + "/slurm/submit.sh").find("--dependency=afterany:"), std::string::npos);
  expect_error(graft({"study", "run", file, "-o", output, "--cell", "densenet121/shapes/full/seed-1"}), 1,
               "needs the rate of its trials");
  expect_error(graft({"study", "run", file, "-o", output, "--cell", "densenet121/shapes/full/seed-4"}), 2,
               "did you mean");
  // As Slurm does it: the script itself, an element at a time.
  for (const char* array : {"trials", "cells"}) {
    const std::string script = output + "/slurm/" + array + ".sbatch";
    const int count = array == std::string("trials") ? 2 : 6;
    for (int element = 1; element <= count; ++element)
      EXPECT_EQ(std::system(("SLURM_ARRAY_TASK_ID=" + std::to_string(element) + " bash '" + script + "' >" +
                             (folder / "log") + " 2>&1")
                                .c_str()),
                0)
          << read_text(folder / "log");
  }
  expect_same_results(FinishedStudy::get().folder(), output);
}

TEST(Study, StatusTellsStatesRatesAndFailures) {
  const FinishedStudy& study = FinishedStudy::get();
  const Outcome plain = graft({"study", "status", "study.toml", "-o", study.folder()});
  EXPECT_EQ(plain.exit_code, 0) << plain.err;
  EXPECT_NE(plain.out.find("6 of 6 cells finished, 0 failed; not running"), std::string::npos) << plain.out;
  const json status = json::parse(graft({"study", "status", "study.toml", "-o", study.folder(), "--json"}).out);
  ASSERT_EQ(status["cells"].size(), 6U);
  EXPECT_EQ(status["cells"][0]["state"], "finished");
  EXPECT_EQ(status["seconds_left"], 0);
  expect_error(graft({"study", "status", "study.toml", "-o", "/nowhere"}), 1, "holds no study");
}

TEST(Study, PlanSaysWhatRunsWhatItTakesAndWhatToDrop) {
  const TemporaryFolder folder;
  const std::string file = study_file(folder / "study.toml"), output = folder / "study";
  const std::vector<std::string> command{"study", "plan", file, "-o", output, "--probe-seconds", "1"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), command.begin(), command.end());
    return graft(more);
  };
  const Outcome outcome = with({"--json", "--budget", "0.01s"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json plan = json::parse(outcome.out);
  EXPECT_EQ(plan, json::parse(read_text(output + "/plan.json")));
  EXPECT_FALSE(fs::exists(output + "/probe.tmp"));
  ASSERT_EQ(plan["tasks"].size(), 4U);
  EXPECT_EQ(plan["tasks"][0]["kind"], "densenet121/shapes/full trial");
  EXPECT_EQ(plan["tasks"][0]["trainings"], 2);
  EXPECT_EQ(plan["tasks"][1]["trainings"], 2);
  for (const json& task : plan["tasks"]) EXPECT_GT(task["seconds"].get<double>(), 0);
  EXPECT_GT(plan["tasks"][1]["parts"]["training"], plan["tasks"][2]["parts"]["training"]);  // full, linear-probe
  EXPECT_EQ(plan["shared"][0]["files"], 1);
  EXPECT_EQ(plan["seconds"], plan["shortest_seconds"]);  // no early stopping
  ASSERT_EQ(plan["reductions"].size(), 1U);
  EXPECT_FALSE(plan["reductions"][0]["fits"].get<bool>());
  // Six cells keep a model each, and little else.
  const auto model = double(fs::file_size(Workshop::get().model()));
  EXPECT_NEAR(plan["disk_bytes"].get<double>(), 6 * model, 0.1 * 6 * model);

  for (const char* budget : {"8x", "8", "1h30"})
    expect_error(with({"--budget", budget}), 2, "expects a time such as 8h");
}

TEST(Study, BadFilesAreOneLineThatSaysWhatToDo) {
  const TemporaryFolder folder;
  const auto error_of = [&](const std::string& text, int code, const std::string& part) {
    write_atomically(folder / "study.toml", std::string_view(text));
    expect_error(graft({"study", "run", folder / "study.toml", "-o", folder / "study"}), code, part);
    EXPECT_FALSE(fs::exists(folder / "study")) << part;
  };
  const std::string good = read_text(study_file(folder / "good.toml"));
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    return text.replace(text.find(from), from.size(), to);
  };
  error_of("[study", 2, "not valid TOML");
  error_of("", 2, "expects a table [study]");
  error_of(with("seeds =", "sedes ="), 2, "unknown key 'study.sedes', did you mean 'study.seeds'?");
  error_of(with("trials = 2", "trails = 2"), 2, "did you mean 'study.tuning.trials'?");
  error_of(with("batch = 8", "bacth = 8"), 2, "study.toml:");
  error_of(with("batch = 8", "bacth = 8"), 2, "did you mean 'train.batch'?");
  error_of(with("batch = 8", "seed = 8"), 2, "train.seed: a study chooses it by itself");
  error_of(with("[strategy.lp-ft]\nlr", "[strategy.lp-ft]\nprobe_epoch"), 2, "did you mean 'probe_epochs'?");
  error_of(with("[strategy.lp-ft]", "[strategy.lpft]"), 2, "did you mean 'strategy.lp-ft'?");
  error_of(with("\"lp-ft\"]", "\"lp-tf\"]"), 2, "did you mean 'lp-ft'?");
  error_of(with("[1, 2]", "[1, 1]"), 2, "named twice");
  error_of(with("[1, 2]", "[]"), 2, "study.seeds: names none");
  error_of(with("epochs = 2\n", "epochs = 1\n"), 2, "densenet121, lp-ft: lp-ft: 1 epochs leave none");
  error_of(with("\"lp-ft\"]", "\"lp-ft\", \"gradual-last-first\"]"), 2,
           "9 stages, which need at least 9 epochs, got 2");
  error_of(with(Workshop::get().images(), "/nowhere"), 1, "shapes (/nowhere) does not exist");
  error_of(with(Workshop::get().model(), "/nowhere.h5"), 1, "/nowhere.h5");
  error_of(with("networks = [\"densenet121\"]", "networks = [\"resnet50\"]"), 2, "resnet50 has no weights");
  expect_error(graft({"study", "run"}), 2, "no file given");
  expect_error(graft({"study", "run", "/nowhere.toml"}), 1, "/nowhere.toml");
}

}  // namespace
}  // namespace graft::testing
