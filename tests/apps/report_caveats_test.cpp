// What graft study report says of its own limits: seeds that are missing, what corrections and times cover, leaks of
// subsets, pictures that cannot be made, folders that cannot be written.
#include <fstream>
#include <nlohmann/json.hpp>

#include "apps/report/report_page.h"
#include "apps/report/report_tables.h"
#include "apps/report/report_words.h"
#include "data/files.h"
#include "tests/apps/page_testing.h"
#include "tests/apps/program_testing.h"
#include "tests/apps/study_testing.h"

namespace graft::testing {
namespace {

using nlohmann::json;

const std::vector<MadeUpDataset> kTwoSets{{"a", {"x", "y"}}, {"b", {"x", "y"}}};

/// Leaves one of three seeds to both strategies on b, and to full on a: 6 of 12 trainings.
StudyResults with_single_seeds() {
  StudyResults results = made_up_results({.datasets = kTwoSets, .seeds = 3});
  for (const char* strategy : {"a/full", "b/full", "b/lp-ft"})
    for (const char* seed : {"/seed-2", "/seed-3"})
      cell_of(results, std::string("resnet50/") + strategy + seed).state = CellState::pending;
  return results;
}

TEST(StudyReportCaveats, StrategiesWithOneSeedAreNamed) {
  const StudyResults results = with_single_seeds();
  const std::string notes = listed(caveats(quick_report(results)));
  EXPECT_TRUE(
      contains(notes,
               "Only one of 3 seeds is finished on a (full) and b: between strategies with one seed comparisons "
               "hold for these trained models alone."))
      << notes;
  EXPECT_TRUE(contains(notes, "comparisons count both where more than one seed is finished.")) << notes;
  const StudyResults whole = made_up_results({.datasets = kTwoSets, .seeds = 3});
  const std::string complete = listed(caveats(quick_report(whole)));
  EXPECT_FALSE(contains(complete, "Only one of")) << complete;
  EXPECT_TRUE(contains(complete, "comparisons count both.")) << complete;
  StudyResults first = made_up_results({.datasets = kTwoSets, .seeds = 2});
  for (CellResult& cell : first.cells)
    if (cell.cell.seed == 2) cell.state = CellState::pending;
  EXPECT_TRUE(contains(listed(caveats(quick_report(first))), "and comparisons hold for these trained models alone."));
}

TEST(StudyReportCaveats, EveryTableMarksMissingSeeds) {
  const StudyResults results = with_single_seeds();
  const StudyReport report = quick_report(results);
  const std::string text = report_text(report), markdown = report_markdown(report), latex = report_latex(report);
  for (const std::string& form : {text, markdown, latex}) {
    EXPECT_EQ(count_of(form, "[1/3]"), 3u) << form;
    EXPECT_EQ(count_of(form, "n of 3 seeds"), 1u) << form;
    EXPECT_TRUE(contains(form, "Macro accuracy of resnet50, mean over 3 seeds, 95 ")) << form;
    EXPECT_TRUE(contains(form, " intervals over test images, 6 of 12 trainings finished")) << form;
  }
  EXPECT_TRUE(contains(latex, "[n/3]: n of 3 seeds.}\n")) << latex;
  const StudyResults whole = made_up_results({.datasets = kTwoSets, .seeds = 3});
  const StudyReport complete = quick_report(whole);
  for (const std::string& form : {report_text(complete), report_markdown(complete), report_latex(complete)}) {
    EXPECT_FALSE(contains(form, "/3]")) << form;
    EXPECT_FALSE(contains(form, "trainings finished")) << form;
  }
}

TEST(StudyReportCaveats, AllPairsAndTheirResamplesAreSaid) {
  const StudyResults results = made_up_results({.datasets = kTwoSets, .strategies = {"p", "q", "r", "s"}, .seeds = 1});
  const StudyReport report = quick_report(results);  // 200 resamples; 12 pairs need 720
  EXPECT_EQ(report.pairs(), 12);
  const json all = json::parse(report_json(report));
  EXPECT_EQ(all["resamples"], 200);
  EXPECT_EQ(all["comparison_resamples"], 720);
  const std::string page = report_page(report, {});
  EXPECT_TRUE(contains(page, "as a whole; 200 resamples, seed 0."));
  EXPECT_TRUE(
      contains(page, "drawn 720 times; p values of 12 pairs of strategies, on all data sets, are corrected together"));
}

TEST(StudyReportCaveats, TheCalibrationErrorIsExplained) {
  StudyResults results = made_up_results({});
  const StudyReport report = quick_report(results);
  EXPECT_TRUE(contains(report_page(report, {}), kCalibrationNote));
  EXPECT_FALSE(contains(listed(caveats(report)), kCalibrationNote));
  results.spec.score = "calibration_error";
  EXPECT_TRUE(contains(listed(caveats(quick_report(results))), kCalibrationNote));
}

TEST(StudyReportCaveats, TimesLeaveOutWhatIsComputedBeforehand) {
  StudyResults results = made_up_results({.strategies = {"all", "probed"}});
  const StudyReport report = quick_report(results);
  EXPECT_EQ(time_note(report), "");
  results.spec.strategies[1].strategy = "lp-ft";
  EXPECT_TRUE(contains(time_note(report), "Run alone, probed would take longer.")) << time_note(report);
  EXPECT_TRUE(contains(report_page(report, {}), time_note(report)));
  results.spec.train.emplace_back("train.feature_cache", false);
  EXPECT_EQ(time_note(report), "");
}

TEST(StudyReportCaveats, AnotherRateThanTheChosenOneIsNamed) {
  StudyResults results = made_up_results({.seeds = 1, .trials = 2});
  for (const TrialResult& t : results.trials)
    if (t.is_chosen) cell_of(results, "resnet50/chest/" + t.trial.cell.strategy + "/seed-1").lr = t.trial.lr;
  EXPECT_FALSE(contains(listed(caveats(quick_report(results))), "Trained at another rate"));
  cell_of(results, "resnet50/chest/lp-ft/seed-1").lr = 2e-7;
  const std::string notes = listed(caveats(quick_report(results)));
  EXPECT_TRUE(
      contains(notes, "Trained at another rate than their trials choose now: resnet50/chest/lp-ft/seed-1 (2e-7; now "))
      << notes;
  EXPECT_FALSE(contains(notes, "chest/full/seed-1 ("));
}

TEST(StudyReportCaveats, LeaksAreThoseBeforeASubset) {
  StudyResults results = made_up_results({});
  ReportSpec spec{.bootstrap = {.resamples = 200}};
  spec.leakage["chest"].counts[std::size_t(LeakKind::near_duplicates)] = {7, 5};
  const auto notes = [&] { return listed(caveats(make_report(results, spec))); };
  EXPECT_TRUE(contains(notes(), "chest: the splits leak: 7 near-duplicates (5 held-out images). Its scores"));
  results.spec.train_per_class = 10;
  EXPECT_TRUE(contains(notes(),
                       "7 near-duplicates (5 held-out images) in the whole data set, before the subset was taken. Its "
                       "scores"))
      << notes();
}

TEST(StudyReportCaveats, ClassNamesMayEndInBlanks) {
  const TemporaryFolder folder;
  write_study(made_up_results({.datasets = {{"chest", {"clear ", "pneu\t"}}}}), folder / "study");
  EXPECT_EQ(read_results(folder / "study", true).cells[0].class_names[0], "clear ");
}

TEST(StudyReportCaveats, AnNpzHasNoPictures) {
  const TemporaryFolder folder;
  StudyResults results = made_up_results({});
  results.spec.datasets[0].path = "/data/chest.npz";
  write_study(results, folder / "study");
  const Outcome outcome = graft({"study", "report", folder / "study", "--resamples", "200", "--threads", "1", "-q"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_TRUE(contains(read_text(folder / "study/report.html"),
                       "No pictures: they are shown of image files only, and this data set is an .npz."));
}

TEST(StudyReportCaveats, AFolderThatCannotBeWrittenIsSaidFirst) {
  const TemporaryFolder folder;
  write_study(made_up_results({}), folder / "study");
  std::ofstream(folder / "file") << "no folder";
  expect_error(graft({"study", "report", folder / "study", "-o", folder / "file/report", "--resamples", "200", "-q"}),
               1, "cannot create folder");
  // What is printed needs no folder.
  EXPECT_EQ(graft({"study", "report", folder / "study", "-o", folder / "file/report", "--resamples", "200", "--csv"})
                .exit_code,
            0);
}

}  // namespace
}  // namespace graft::testing
