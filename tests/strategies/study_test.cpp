// What a study consists of, how its trials differ from its cells, how a rate is chosen, what time it is said to take,
// what its folder refuses. Whole studies are run in tests/apps/study_test.cpp.
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <thread>

#include "strategies/study/budget.h"
#include "strategies/study/child_process.h"
#include "strategies/study/json.h"
#include "strategies/study/leaks.h"
#include "strategies/study/lock.h"
#include "strategies/study/splits.h"
#include "strategies/study/state.h"
#include "tests/strategies/strategies_testing.h"

namespace graft::testing {
namespace {

StudySpec small_study() {
  StudySpec spec;
  spec.title = "small";
  spec.networks = {{"densenet121", Workshop::get().model().string()}};
  spec.datasets = {{"colours", Workshop::get().images().string(), {}}};
  spec.strategies = {{"full", "full", {}},
                     {"lp-ft", "lp-ft", {{"strategy.probe_epochs", std::int64_t{9}}}},
                     {"gradual", "gradual-last-first", {}},
                     {"set", "full", {{"train.lr", 0.5}}, 1e-3, 1e-1}};
  spec.seeds = {4, 7};
  spec.tuning = {.trials = 4, .epochs = 4};
  spec.train = {{"train.epochs", std::int64_t{18}}, {"train.batch", std::int64_t{4}}};
  return spec;
}

StudyCell cell_of(const StudySpec& spec, const std::string& strategy) {
  return {spec.networks[0].name, spec.datasets[0].name, strategy, spec.seeds[0], -1};
}

TEST(Study, CellsAndTrialsHaveNamesAndAnOrder) {
  StudySpec spec = small_study();
  EXPECT_EQ(cells_of(spec).size(), 8U);
  EXPECT_EQ(cells_of(spec)[1].id(), "densenet121/colours/full/seed-7");
  const std::vector<StudyTrial> trials = trials_of(spec, cells_of(spec)[1]);
  ASSERT_EQ(trials.size(), 4U);
  EXPECT_EQ(trials[0].id(), "densenet121/colours/full/trial-1");
  EXPECT_EQ(trials[0].cell.seed, 4);
  // The middles of four parts of 1e-5 … 1e-1: one decade apart.
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(trials[i].lr, 3.16e-5 * std::pow(10.0, double(i)), 1e-9);
  EXPECT_TRUE(trials_of(spec, cell_of(spec, "set")).empty());
  const std::vector<StudyTask> tasks = tasks_of(spec);
  EXPECT_EQ(tasks.size(), 8U + 3 * 4);
  EXPECT_TRUE(tasks[3].trial && !tasks[4].trial);
  spec.folds = 3;
  EXPECT_EQ(cells_of(spec)[2].id(), "densenet121/colours/lp-ft/seed-4/fold-0");
  EXPECT_EQ(trials_of(spec, cells_of(spec)[0])[1].id(), "densenet121/colours/full/fold-0/trial-2");
  EXPECT_EQ(tasks_of(spec).size(), 3 * (8U + 3 * 4));  // every fold is tuned by itself
  EXPECT_THROW(task_named(spec, "densenet121/colours/fulll/seed-4/fold-0"), UsageError);
}

TEST(Study, ItsSpecificationSurvivesJson) {
  StudySpec spec = small_study();
  spec.train.emplace_back("train.augment", std::string("light \"quoted\""));
  spec.train.emplace_back("train.shuffle", false);
  spec.train.emplace_back("train.lr", 1.0);
  spec.datasets[0].allow = {"groups"};
  EXPECT_EQ(study_from_json(to_json(spec), "study.json"), spec);
  EXPECT_THROW(study_from_json("{}", "study.json"), Error);
}

TEST(Study, TrialsAreShortTrainingsOfTheSameKind) {
  const StudySpec spec = small_study();
  const StudyDirectory directory("study");
  const auto trial_of = [&](const char* strategy, std::int64_t images) {
    return trial_settings(spec, directory, trials_of(spec, cell_of(spec, strategy))[1], images);
  };
  const TrainSettings full = trial_of("full", 10);
  EXPECT_EQ(full.epochs, 4);
  EXPECT_EQ(full.patience, 0);
  EXPECT_EQ(full.max_steps, -1);
  EXPECT_EQ(full.seed, 4);
  EXPECT_NEAR(full.lr, 3.16e-4, 1e-12);
  EXPECT_TRUE(full.data.ends_with("splits/colours.tuning.csv")) << full.data;
  // Half of 18 epochs probe: half of 4.
  const TrainSettings lp_ft = trial_of("lp-ft", 10);
  EXPECT_EQ(lp_ft.epochs, 4);
  EXPECT_EQ(std::get<std::int64_t>(lp_ft.strategy_settings.at("probe_epochs")), 2);
  // Nine stages: the first 4 of 18 epochs, 2 per stage. 9 images are 3 batches, of which a last single image is left
  // out where batch statistics are used: not in the head's stage.
  const TrainSettings gradual = trial_of("gradual", 9);
  EXPECT_EQ(gradual.epochs, 18);
  EXPECT_EQ(gradual.max_steps, 2 * 3 + 2 * 2);
  EXPECT_EQ(trial_of("gradual", 10).max_steps, 4 * 3);
}

TEST(Study, CellsAreCheckedBeforeAnythingStarts) {
  const auto error = [](StudySpec spec, const std::function<void(StudySpec&)>& change) -> std::string {
    change(spec);
    try {
      check_study(spec);
    } catch (const Error& e) {
      return e.what();
    }
    return "none";
  };
  EXPECT_EQ(error(small_study(), [](StudySpec&) {}), "none");
  EXPECT_TRUE(contains(error(small_study(), [](StudySpec& s) { s.datasets[0].path = "x.npz", s.folds = 3; }),
                       "folds and per-class numbers need a folder or a CSV"));
  EXPECT_TRUE(contains(error(small_study(), [](StudySpec& s) { s.networks[0].name = "vgg19"; }),
                       "holds a densenet121, not a vgg19"));
  EXPECT_TRUE(contains(error(small_study(), [](StudySpec& s) { s.train[0].second = std::int64_t{9}; }),
                       "lp-ft: 9 epochs leave none for fine-tuning after 9 of probing"));
  EXPECT_TRUE(contains(error(small_study(),
                             [](StudySpec& s) {
                               s.strategies.erase(s.strategies.begin() + 1);
                               s.train[0].second = std::int64_t{8};
                             }),
                       "need at least 9 epochs"));
  EXPECT_TRUE(contains(error(small_study(), [](StudySpec& s) { s.train.emplace_back("train.lr", 0.1); }),
                       "study.tuning chooses"));
  EXPECT_TRUE(
      contains(error(small_study(), [](StudySpec& s) { s.strategies[1].name = "a/b"; }), "is no name for a folder"));
  EXPECT_TRUE(contains(error(small_study(), [](StudySpec& s) { s.score = "macro_acuracy"; }),
                       "did you mean 'macro_accuracy'?"));
}

TEST(Study, TheBestTrialIsChosenAndOfEqualsTheSmallestRate) {
  StudySpec spec = small_study();
  const auto chosen = [&](std::vector<double> scores, CellState last = CellState::finished) {
    std::vector<TrialResult> trials;
    for (double score : scores) trials.push_back({.state = CellState::finished, .score = score});
    trials.back().state = last;
    return chosen_trial(spec, trials);
  };
  const double none = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(chosen({0.5, 0.7, 0.7, 0.6}), 1);
  EXPECT_EQ(chosen({none, 0.2, none}), 1);
  EXPECT_EQ(chosen({none, none}), -1);
  EXPECT_EQ(chosen({0.5, 0.7}, CellState::failed), -1);
  EXPECT_EQ(chosen({0.5, 0.7}, CellState::partial), -1);
  spec.selection = "loss";
  EXPECT_EQ(chosen({0.5, 0.3, 0.3, 0.6}), 1);
}

TEST(Study, SplitsAreFoldsOrSubsetsOfTheImages) {
  StudySpec spec = small_study();  // 6 and 7 training, 3 validation, 3 test images of a class
  std::vector<StudySplit> splits = make_splits(spec, spec.datasets[0], true, 1);
  ASSERT_EQ(splits.size(), 1U);
  EXPECT_EQ(splits[0].count(Split::test), 6);
  EXPECT_TRUE(splits[0].samples[0].path.starts_with("/")) << splits[0].samples[0].path;
  EXPECT_FALSE(contains(to_csv(splits[0], true), ",test,"));
  spec.train_per_class = 4, spec.test_per_class = 2;
  splits = make_splits(spec, spec.datasets[0], false, 1);
  EXPECT_EQ(splits[0].count(Split::train), 8);
  EXPECT_EQ(splits[0].count(Split::val), 2);
  EXPECT_EQ(splits[0].count(Split::test), 4);
  EXPECT_NE(split_key(spec, spec.datasets[0]), split_key(small_study(), spec.datasets[0]));
  spec = small_study();
  spec.folds = 4;
  splits = make_splits(spec, spec.datasets[0], false, 1);
  ASSERT_EQ(splits.size(), 4U);
  std::map<std::string, int> tested;
  for (const StudySplit& split : splits) {
    EXPECT_GT(split.count(Split::val), 0);
    for (const Sample& sample : split.samples) tested[sample.path] += sample.split == Split::test;
  }
  EXPECT_EQ(tested.size(), 25U);
  for (const auto& [path, times] : tested) EXPECT_EQ(times, 1) << path;
}

/// One second a step, nothing else takes time.
StudyRates plain_rates() {
  StudyRates rates;
  rates.counts[{"colours", -1}] = {16, 0, 0};
  rates.networks["densenet121"] = {};
  rates.datasets["colours"] = {};
  for (const char* name : {"full", "lp-ft", "gradual", "set"})
    rates.tasks[{"densenet121", name}].stages.assign(9, {.step_seconds = 1});
  return rates;
}

TEST(Study, TimeIsThatOfItsSteps) {
  StudySpec spec = small_study();
  spec.strategies.resize(1);
  spec.train.emplace_back("train.patience", std::int64_t{0});
  // Two cells of 18 epochs, four trials of 4, 4 steps an epoch.
  const StudyEstimate one = estimate_study(spec, plain_rates(), 1);
  EXPECT_DOUBLE_EQ(one.seconds, 4 * (2 * 18 + 4 * 4));
  EXPECT_DOUBLE_EQ(one.shortest_seconds, one.seconds);
  EXPECT_DOUBLE_EQ(estimate_study(spec, plain_rates(), 2).seconds, one.seconds / 2);
  EXPECT_DOUBLE_EQ(estimate_study(spec, plain_rates(), 50).seconds, 4 * 18);  // the longest alone
  spec.train.back().second = std::int64_t{3};  // stops at the earliest after a first best epoch and three others
  EXPECT_DOUBLE_EQ(estimate_study(spec, plain_rates(), 1).shortest_seconds, 4 * (2 * 4 + 4 * 4));
}

TEST(Study, ABudgetSaysWhatToDrop) {
  StudySpec spec = small_study();
  const StudyRates rates = plain_rates();
  const double all = estimate_study(spec, rates, 1).seconds;
  const std::vector<StudyReduction> singles = reductions_for(spec, rates, {.seconds = 0.8 * all});
  ASSERT_GT(singles.size(), 2U);
  EXPECT_EQ(singles[0].changes, std::vector<std::string>{"seeds = [4] instead of 2"});
  for (const StudyReduction& r : singles) {
    EXPECT_EQ(r.changes.size(), 1U);
    EXPECT_TRUE(r.fits && r.seconds <= 0.8 * all);
  }
  const std::vector<StudyReduction> together = reductions_for(spec, rates, {.seconds = 0.1 * all});
  ASSERT_EQ(together.size(), 1U);
  EXPECT_GT(together[0].changes.size(), 2U);
  EXPECT_EQ(parse_duration("1h30m"), 5400);
  EXPECT_EQ(parse_duration("90s"), 90);
  EXPECT_EQ(parse_duration("1.5d"), 129600);
  for (const char* text : {"", "90", "h", "8x", "-3h", "0s", "8h!"})
    EXPECT_THROW(parse_duration(text), UsageError) << text;
}

TEST(Study, WhatIsFinishedCostsNothingInABudget) {
  const StudySpec spec = small_study();
  const StudyRates rates = plain_rates();
  StudyBudget budget{.seconds = 150};
  for (const StudyTask& task : tasks_of(spec))
    if (task.cell.strategy == "full" || task.cell.strategy == "lp-ft") budget.finished.insert(task.id());
  // Two cells of 72 s each, and four trials of 16 s of gradual unfreezing.
  const StudyEstimate estimate = estimate_study(spec, rates, 1);
  EXPECT_DOUBLE_EQ(seconds_left(spec, estimate, budget.finished), 2 * 72 + 2 * 72 + 4 * 16);
  EXPECT_DOUBLE_EQ(seconds_left(spec, estimate, {}), estimate.seconds);
  EXPECT_DOUBLE_EQ(seconds_left(spec, estimate_study(spec, rates, 50), budget.finished), 72);  // the longest alone
  // Leaving out what is finished saves nothing, and other epochs or trials would begin it anew.
  const std::vector<StudyReduction> found = reductions_for(spec, rates, budget);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].changes, std::vector<std::string>{"without gradual"});
  EXPECT_DOUBLE_EQ(found[0].seconds, 2 * 72);
  EXPECT_TRUE(found[0].fits);
}

/// What prepare_study() refuses; empty: nothing. Runs that pretend_run() made have no settings that could differ.
std::string refusal(const StudySpec& spec, const StudyDirectory& directory, bool overwrites = false) {
  try {
    prepare_study(spec, directory,
                  {.toml = "",
                   .overwrites = overwrites,
                   .to_toml = [](const TrainSettings&) { return std::string(); },
                   .note = [](std::string_view) {}});
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

void pretend_run(const StudyDirectory& directory, const std::string& id) {
  write_atomically(directory.path() / "runs" / id / "config.toml", std::string_view("[train]\n"));
  write_atomically(directory.path() / "runs" / id / "summary.json", std::string_view("{}\n"));
}

TEST(Study, ChangedSplitsConcernAllThatWasBegunWhateverTheFileNames) {
  const TemporaryFolder folder;
  const StudyDirectory directory(folder.path() / "study");
  StudySpec full = small_study(), others = small_study();
  full.strategies.resize(1);
  others.strategies.erase(others.strategies.begin());
  const std::string id = "densenet121/colours/full/seed-4";
  const std::filesystem::path result = directory.path() / "runs" / id / "summary.json";
  ASSERT_EQ(refusal(full, directory), "");
  pretend_run(directory, id);
  EXPECT_EQ(refusal(others, directory), "");  // it is left out for a while, nothing else changes
  others.train_per_class = 4;
  const std::string refused = refusal(others, directory);
  EXPECT_TRUE(contains(refused, "study: a training of ")) << refused;
  EXPECT_TRUE(contains(refused, "\n" + id + ": its splits had path ")) << refused;
  EXPECT_TRUE(contains(refused, "(not in the file now: --overwrite removes it)")) << refused;
  EXPECT_TRUE(std::filesystem::exists(result));
  EXPECT_EQ(refusal(full, directory), "");  // its splits are still there

  full.seeds = {7};
  full.test_per_class = 2;
  EXPECT_TRUE(contains(refusal(full, directory), id + ": its splits had"));
  EXPECT_EQ(refusal(others, directory, true), "");
  EXPECT_FALSE(std::filesystem::exists(result));
}

TEST(Study, FoldsGivenUpAreChangedSplitsToo) {
  const TemporaryFolder folder;
  const StudyDirectory directory(folder.path() / "study");
  StudySpec spec = small_study();
  spec.folds = 3;
  ASSERT_EQ(refusal(spec, directory), "");
  pretend_run(directory, "densenet121/colours/full/seed-4/fold-1");
  EXPECT_EQ(refusal(spec, directory), "");
  spec.folds = 0;
  const std::string refused = refusal(spec, directory);
  EXPECT_TRUE(contains(refused, "full/seed-4/fold-1: its splits had")) << refused;
}

TEST(Study, LeaksAreLookedForAsLongAsTheFileWantsIt) {
  const TemporaryFolder folder;
  const std::filesystem::path images = folder.path() / "images";
  std::filesystem::copy(Workshop::get().images(), images, std::filesystem::copy_options::recursive);
  std::filesystem::copy_file(images / "train/a/0.png", images / "test/b/copy.png");
  StudySpec checked = small_study();
  checked.datasets[0].path = images.string();
  StudySpec unchecked = checked, allowed = checked;
  unchecked.train.emplace_back("train.leak_check", false);
  allowed.datasets[0].allow = {"duplicates"};
  const StudyDirectory directory(folder.path() / "study");
  const auto foresee = [&](const StudySpec& spec, std::int64_t most) {
    return foresee_leaks(spec, spec.datasets[0], directory, {.most_images = most});
  };
  EXPECT_THROW(foresee(checked, 26), Error);
  EXPECT_FALSE(foresee(checked, 25));
  EXPECT_TRUE(foresee(unchecked, 25));
  EXPECT_TRUE(foresee(allowed, 26));
  EXPECT_FALSE(std::filesystem::exists(directory.leakage()));

  EXPECT_TRUE(contains(refusal(checked, directory), "share images"));
  EXPECT_EQ(refusal(unchecked, directory), "");
  EXPECT_EQ(refusal(unchecked, directory), "");                        // what the refused run has noted does not count
  EXPECT_TRUE(contains(refusal(checked, directory), "share images"));  // looked for now
  EXPECT_TRUE(contains(refusal(checked, directory), "share images"));  // known by now
  EXPECT_THROW(foresee(checked, 0), Error);
  EXPECT_EQ(refusal(allowed, directory), "");
}

TEST(Study, AGradientThatOverflowsInAProbeIsADivergence) {
  Context context(make_backend({DeviceKind::reference}));
  ParameterSet set;
  set.add("fc.weight", {2, 2, 1, 1}, Role::linear_weight, 0);
  set.allocate(context);
  Parameter& p = set.find("fc.weight");
  p.value.from_host(std::vector<double>{1, 1, 1, 1});
  TrainSettings settings;
  settings.strategy = "auto-rgn";
  const std::unique_ptr<Strategy> strategy = make_strategy(settings);
  const std::vector<std::string> blocks{"fc"};
  strategy->plan({0, 3, set, blocks, true}).freeze.apply(set);
  set.prepare_gradients();
  p.gradient().from_host(std::vector<double>{std::numeric_limits<double>::infinity(), 0, 0, 0});
  p.value.variable()->grad_written = true;
  std::string message = "none";
  try {
    strategy->observe(set);
  } catch (const Error& error) {
    message = error.what();
  }
  EXPECT_TRUE(is_divergence(message)) << message;
  EXPECT_FALSE(is_divergence("data: 3 files cannot be read"));
}

TEST(Study, CellsThatRunAreToldApartFromAProgramThatIsGone) {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "study.lock";
  {
    const StudyLock whole(file, StudyLock::Kind::whole);
    EXPECT_TRUE(is_held(file));
    EXPECT_TRUE(read_text(file).starts_with(std::to_string(getpid()) + " "));
  }
  EXPECT_FALSE(is_held(file));
  EXPECT_EQ(read_text(file), "");
  const pid_t gone = fork();
  if (gone == 0) _exit(0);
  waitpid(gone, nullptr, 0);
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  write_atomically(file, std::to_string(gone) + " " + host + "\n");  // as a program that was killed leaves it
  const StudyLock cell(file, StudyLock::Kind::one_cell);
  const StudyLock another(file, StudyLock::Kind::one_cell);
  std::string message = "none";
  try {
    const StudyLock whole(file, StudyLock::Kind::whole);
  } catch (const Error& error) {
    message = error.what();
  }
  EXPECT_TRUE(contains(message, "single cells of " + folder.path().string() + " are being run")) << message;
}

TEST(Study, AProcessIsAnExitCodeOrASignal) {
  const TemporaryFolder folder;
  const auto end_of = [&](const std::string& script) {
    ChildProcess process({.program = "/bin/sh", .arguments = {"-c", script}, .log = folder.path() / "log.txt"});
    std::optional<ChildProcess::End> end;
    while (!(end = process.poll())) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return *end;
  };
  EXPECT_EQ(end_of("echo one; echo two >&2; exit 3").exit_code, 3);
  EXPECT_EQ(read_text(folder.path() / "log.txt"), "one\ntwo\n");
  EXPECT_EQ(end_of("kill -9 $$").signal, 9);
  ChildProcess runs({.program = "/bin/sh", .arguments = {"-c", "sleep 60"}, .log = folder.path() / "log.txt"});
  EXPECT_THROW(ChildProcess({.program = "/bin/true", .arguments = {}, .log = folder.path() / "log.txt"}), Error);
}

}  // namespace
}  // namespace graft::testing
