// graft study report: numbers that agree in all forms, words that claim no more than the numbers, a page that stands
// any result, and one line for mistakes.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "apps/report/examples.h"
#include "apps/report/report_charts.h"
#include "apps/report/report_page.h"
#include "apps/report/report_tables.h"
#include "apps/report/report_words.h"
#include "data/csv.h"
#include "data/files.h"
#include "data/image.h"
#include "tests/apps/page_testing.h"
#include "tests/apps/program_testing.h"
#include "tests/apps/study_testing.h"

namespace graft::testing {
namespace {

using nlohmann::json;

/// Two strategies on one data set, with numbers put in by hand.
struct HandMade {
  StudyResults results = made_up_results({.datasets = {{"chest_x", {"clear", "pneu|monia"}, 10}}, .seeds = 1});
  StudyReport report;
  HandMade() {
    results.spec.title = "By_hand";
    report = quick_report(results);
    ReportGroup& group = report.groups[0];
    for (ReportEntry& e : group.entries) e.intervals.fill({.estimate = 0.5, .low = 0.4, .high = 0.6, .method = "BCa"});
    set(0, Score::macro_accuracy, {.estimate = 0.8125, .low = 0.75, .high = 0.8751, .method = "BCa"});
    set(1, Score::macro_accuracy, {.estimate = 0.84, .low = 0.78, .high = 0.9, .method = "BCa", .is_doubtful = true});
    set(1, Score::auc, {.estimate = kNaN, .low = kNaN, .high = kNaN, .method = "BCa"});
    group.best = 1;
    const Comparison c{-0.0275, -0.06, 0.005, 0.11, 0.11, false};
    group.pairs = {{0, 1, c}};
    group.entries[0].to_best = c;
    group.entries[1].to_best.reset();
    for (ReportEntry& e : group.entries) e.train_seconds = 61.5;
  }
  void set(std::size_t entry, Score score, const Interval& interval) {
    report.groups[0].entries[entry].intervals[std::size_t(score)] = interval;
  }
};

// Numbers.

TEST(StudyReport, ComparesStrategiesOnTheSameImages) {
  const StudyResults results =
      made_up_results({.datasets = {{"a", {"x", "y", "z"}, 90, 1.0, 3}, {"b", {"x", "y"}, 60, 1.5}},
                       .strategies = {"weak", "strong", "middle"},
                       .skills = {-1.5, 2.5, 0}});
  const StudyReport report = quick_report(results);
  ASSERT_EQ(report.groups.size(), 2u);
  EXPECT_TRUE(report.is_complete());
  EXPECT_TRUE(report.ranks.empty());
  const ReportGroup& a = report.groups[0];
  EXPECT_EQ(a.best, 1u);
  EXPECT_EQ(a.images(), 90);
  EXPECT_EQ(a.class_counts, (std::vector<std::int64_t>{30, 30, 30}));
  EXPECT_EQ(a.named_groups, 30);
  EXPECT_EQ(a.clusters[4], a.clusters[3]);
  EXPECT_NE(a.clusters[3], a.clusters[2]);
  EXPECT_TRUE(report.groups[1].clusters.empty());
  ASSERT_EQ(a.pairs.size(), 3u);
  for (const PairComparison& pair : a.pairs) EXPECT_GE(pair.result.p_holm, pair.result.p);
  for (std::size_t i : {0u, 1u, 2u}) {
    const ReportEntry& entry = a.entries[i];
    ASSERT_EQ(entry.seeds.size(), 2u);
    EXPECT_NEAR(entry.interval(report.score).estimate, (entry.seeds[0].score + entry.seeds[1].score) / 2, 1e-12);
    EXPECT_NEAR(entry.seeds[0].score, entry.cells[0]->test.macro_accuracy, 1e-12);
    EXPECT_EQ(entry.to_best.has_value(), i != 1);
  }
  EXPECT_TRUE(a.entries[0].to_best->is_distinguishable);
}

TEST(StudyReport, ASeedCountsWithAllItsFolds) {
  StudyResults results = made_up_results({.seeds = 2, .folds = 3});
  cell_of(results, "resnet50/chest/full/seed-2/fold-1").state = CellState::failed;
  const StudyReport report = quick_report(results);
  EXPECT_EQ(report.groups[0].images(), 180);
  EXPECT_EQ(report.groups[0].entries[0].seeds.size(), 1u);
  EXPECT_EQ(report.groups[0].entries[1].seeds.size(), 2u);
  EXPECT_EQ(report.groups[0].entries[0].failed, 1);
}

TEST(StudyReport, OtherImagesAreNotCompared) {
  StudyResults results = made_up_results({});
  cell_of(results, "resnet50/chest/lp-ft/seed-1").predictions.paths[3] = "another.jpg";
  const StudyReport report = quick_report(results);
  EXPECT_EQ(report.groups[0].excluded, std::vector<std::string>{"resnet50/chest/lp-ft/seed-1"});
  EXPECT_EQ(report.groups[0].entries[1].seeds.size(), 1u);
  EXPECT_TRUE(contains(report_page(report, {}), "left out"));
}

TEST(StudyReport, RanksFromFiveDatasetsOn) {
  MadeUpStudy study{.strategies = {"p", "q", "r"}, .skills = {0, 1.5, -1.5}, .seeds = 1};
  study.datasets.clear();
  for (const char* name : {"a", "b", "c", "d", "e"}) study.datasets.push_back({name, {"x", "y"}, 40});
  StudyResults results = made_up_results(study);
  const StudyReport report = quick_report(results);
  ASSERT_EQ(report.ranks.size(), 1u);
  EXPECT_LT(report.ranks[0].test.mean_ranks[1], report.ranks[0].test.mean_ranks[2]);
  EXPECT_TRUE(contains(verdict(report), "Friedman p"));
  // A strategy that lacks one data set is not ranked; with four data sets nothing is.
  cell_of(results, "resnet50/c/r/seed-1").state = CellState::pending;
  EXPECT_EQ(quick_report(results).ranks[0].strategies, (std::vector<std::string>{"p", "q"}));
  for (const char* id : {"resnet50/c/p/seed-1", "resnet50/c/q/seed-1"}) cell_of(results, id).state = CellState::pending;
  EXPECT_TRUE(quick_report(results).ranks.empty());
}

TEST(StudyReport, TheScoreMustExist) {
  StudyResults results = made_up_results({});
  results.spec.score = "luck";
  EXPECT_THROW(
      {
        try {
          quick_report(results);
        } catch (const Error& error) {
          EXPECT_TRUE(contains(error.what(), "'luck' is unknown; use one of accuracy,")) << error.what();
          throw;
        }
      },
      Error);
  results.spec.score = "loss";
  EXPECT_EQ(quick_report(results).score, Score::log_loss);
}

// Words.

TEST(StudyReportWords, Numbers) {
  EXPECT_EQ(number_text(0.81249), "0.812");
  EXPECT_EQ(number_text(kNaN), "–");
  EXPECT_EQ(range_text(0.1, 0.2), "0.100–0.200");
  EXPECT_EQ(range_text(-0.1, 0.2), "-0.100 to 0.200");
  EXPECT_EQ(range_text(kNaN, 1), "–");
  EXPECT_EQ(signed_text(0.01), "+0.010");
  EXPECT_EQ(rate_text(3e-4), "3e-4");
  EXPECT_EQ(rate_text(0.1), "1e-1");
  EXPECT_EQ(rate_text(3.162e-5), "3.2e-5");
  EXPECT_EQ(p_text(0.0004), "< 0.001");
  EXPECT_EQ(p_text(0.0312), "0.031");
  EXPECT_EQ(p_text(1), "1");
  EXPECT_EQ(listed({"a"}), "a");
  EXPECT_EQ(listed({"a", "b", "c"}), "a, b and c");
  EXPECT_EQ(counted(1, "seed", "seeds"), "1 seed");
  EXPECT_EQ(time_text(2.44), "2.4 s");
  EXPECT_EQ(time_text(20.4), "20 s");
  EXPECT_EQ(time_text(59.7), "1 min 0 s");
  EXPECT_EQ(time_text(200), "3 min 20 s");
  EXPECT_EQ(time_text(4325), "1 h 12 min");
  EXPECT_EQ(time_text(kNaN), "–");
}

TEST(StudyReportWords, TheVerdictClaimsNoMoreThanTheNumbers) {
  HandMade hand;
  EXPECT_EQ(verdict(hand.report),
            "On chest_x, lp-ft has the highest macro accuracy, 0.840 (95 % interval 0.780–0.900), but is not "
            "distinguishable from the other strategy.");
  hand.report.groups[0].entries[0].to_best->is_distinguishable = true;
  EXPECT_EQ(verdict(hand.report),
            "On chest_x, lp-ft has the highest macro accuracy, 0.840 (95 % interval 0.780–0.900), and is "
            "distinguishable from the other strategy.");
  hand.report.finished = 1;
  EXPECT_TRUE(verdict(hand.report).starts_with("So far, with 1 of 2 trainings: on chest_x, lp-ft has"));

  StudyResults nothing = made_up_results({});
  for (CellResult& cell : nothing.cells) cell.state = CellState::pending;
  EXPECT_EQ(verdict(quick_report(nothing)), "No training of this study has finished, so nothing can be said yet.");
}

/// A report in which the strategies' first seeds answer as `answers_of` says: entry i like strategy answers_of[i].
struct Equals {
  StudyResults results;
  StudyReport report;
  explicit Equals(const std::vector<std::size_t>& answers_of, std::vector<double> skills = {},
                  std::vector<MadeUpDataset> datasets = {{"mine", {"x", "y"}, 40}}) {
    MadeUpStudy study{.datasets = datasets, .skills = std::move(skills), .seeds = 1};
    const std::vector<std::string> names{"full", "linear-probe", "lp-ft", "l2-sp", "l1-sp"};
    study.strategies.assign(names.begin(), names.begin() + std::ssize(answers_of));
    results = made_up_results(study);
    for (const MadeUpDataset& data : datasets)
      for (std::size_t i = 0; i < answers_of.size(); ++i)
        cell(data.name, names[i]).predictions = cell(data.name, names[answers_of[i]]).predictions;
    report = quick_report(results);
  }
  CellResult& cell(const std::string& dataset, const std::string& strategy) {
    return cell_of(results, "resnet50/" + dataset + "/" + strategy + "/seed-1");
  }
  std::string score() const {
    const ReportGroup& group = report.groups[0];
    const Interval& i = group.entries[*group.best].interval(report.score);
    return fmt::format("{:.3f} (95 % interval {:.3f}–{:.3f})", i.estimate, i.low, i.high);
  }
};

TEST(StudyReportWords, EqualScoresShareTheVerdict) {
  const Equals three({0, 0, 0});
  EXPECT_EQ(verdict(three.report), "On mine, full, linear-probe and lp-ft share the highest macro accuracy, " +
                                       three.score() + ", and none of them is distinguishable from another.");
  const Equals above({0, 0, 2}, {3, 3, -3});
  EXPECT_EQ(verdict(above.report),
            "On mine, full and linear-probe share the highest macro accuracy, " + above.score() +
                ", and are distinguishable from the other strategy, though not from each other.");
  Equals near({0, 0, 2, 3}, {3, 3, -3, -3});
  near.report.groups[0].entries[2].to_best->is_distinguishable = false;
  EXPECT_EQ(verdict(near.report), "On mine, full and linear-probe share the highest macro accuracy, " + near.score() +
                                      ", but are distinguishable neither from each other nor from lp-ft.");
  const Equals five({0, 0, 0, 0, 0});
  EXPECT_TRUE(verdict(five.report).starts_with("On mine, all 5 strategies share the highest")) << verdict(five.report);
  // Equal scores of other intervals: what these span.
  HandMade hand;
  hand.set(0, Score::macro_accuracy, {.estimate = 0.84, .low = 0.7, .high = 0.88, .method = "BCa"});
  hand.report.groups[0].entries[0].to_best.reset();
  EXPECT_EQ(verdict(hand.report),
            "On chest_x, full and lp-ft share the highest macro accuracy, 0.840 (95 % intervals within 0.700–0.900), "
            "and none of them is distinguishable from another.");
}

TEST(StudyReportWords, EqualScoresOfManyPlaces) {
  const Equals two({0, 0}, {}, {{"a", {"x", "y"}, 40}, {"b", {"x", "y"}, 40}});
  EXPECT_EQ(
      verdict(two.report),
      "On none of the 2 data sets is the best strategy distinguishable from all others in macro accuracy; the best "
      "scores are those of full and linear-probe (equal) on a and full and linear-probe (equal) on b.");
  const std::vector<MadeUpDataset> four{
      {"a", {"x", "y"}, 40}, {"b", {"x", "y"}, 40}, {"c", {"x", "y"}, 40}, {"d", {"x", "y"}, 40}};
  Equals many({0, 0}, {3, -3}, four);
  many.cell("a", "linear-probe").predictions.labels.assign(40, 0);  // other labels: left out there
  many.report = quick_report(many.results);
  EXPECT_TRUE(contains(verdict(many.report), "full has or shares the best score most often (4 of 4)"))
      << verdict(many.report);
}

TEST(StudyReport, TheRestIsComparedWithTheHardestOfEqualBests) {
  Equals equals({0, 0, 2}, {3, 3, 2});
  const ReportGroup& group = equals.report.groups[0];
  EXPECT_EQ(group.best_entries(equals.report.score), (std::vector<std::size_t>{0, 1}));
  EXPECT_FALSE(group.entries[1].to_best);
  ASSERT_TRUE(group.entries[2].to_best);
  EXPECT_LT(group.entries[2].to_best->difference, 0);
  for (const PairComparison& pair : group.pairs)
    EXPECT_TRUE(pair.b != 2 || group.entries[2].to_best->p_holm >= pair.result.p_holm);
}

TEST(StudyReportWords, AStudyWithoutATitleHasOne) {
  StudyResults results = made_up_results({.datasets = {{"mine", {"x", "y"}}}, .strategies = {"a", "b", "c"}});
  results.spec.title.clear();
  const StudyReport report = quick_report(results);
  EXPECT_EQ(title_text(report), "Study of 3 strategies on mine");
  EXPECT_TRUE(report_markdown(report).starts_with("# Study of 3 strategies on mine\n"));
  EXPECT_TRUE(contains(report_page(report, {}), "<h1>Study of 3 strategies on mine</h1>"));
  EXPECT_EQ(json::parse(report_json(report))["title"], "Study of 3 strategies on mine");
  results.spec.strategies.resize(1);
  for (const char* name : {"b", "c", "d"}) results.spec.datasets.push_back({name, "/data", {}});
  EXPECT_EQ(title_text(report), "Study of a on 4 data sets");
}

TEST(StudyReportWords, WhatIsMissingIsSaid) {
  StudyResults results = made_up_results({.seeds = 3});
  cell_of(results, "resnet50/chest/full/seed-2").state = CellState::failed;
  cell_of(results, "resnet50/chest/full/seed-2").error = "the loss is not finite";
  cell_of(results, "resnet50/chest/lp-ft/seed-1").state = CellState::partial;
  cell_of(results, "resnet50/chest/lp-ft/seed-3").state = CellState::pending;
  const StudyReport report = quick_report(results);
  EXPECT_EQ(missing(report), (std::vector<std::string>{"resnet50/chest/full/seed-2 failed: the loss is not finite",
                                                       "lp-ft on chest: seed 1 (interrupted) and seed 3"}));
  EXPECT_TRUE(contains(listed(caveats(report)), "3 of 6 trainings are missing, 1 of them because they failed"));
  for (CellResult& cell : results.cells) cell.state = CellState::pending;
  EXPECT_EQ(missing(quick_report(results)), std::vector<std::string>{"chest: no training has begun"});
}

TEST(StudyReportWords, Caveats) {
  StudyResults results = made_up_results({.datasets = {{"a", {"x", "y"}, 16}}, .seeds = 1, .trials = 3});
  results.spec.datasets[0].allow = {"near-duplicates"};
  ReportSpec spec{.bootstrap = {.resamples = 200}};
  const std::string unchecked = listed(caveats(make_report(results, spec)));
  for (const char* part :
       {"One seed", "a: whether test images, or copies of them, are among the training images was not checked.",
        "16 test images in 2 classes", "Nothing is known of patients",
        "a: fewer than 10 test images of x (8) and y (8). Intervals on a may therefore be", "3 short trials for each",
        "may lie outside"})
    EXPECT_TRUE(contains(unchecked, part)) << part << "\n" << unchecked;
  const StudyReport report = make_report(results, spec);
  const auto interval = [&](std::size_t i) { return report.groups[0].entries[i].interval(report.score); };
  const Interval full = interval(0), lp_ft = interval(1);
  const Interval widest = full.high - full.low >= lp_ft.high - lp_ft.low ? full : lp_ft;
  EXPECT_TRUE(contains(unchecked, fmt::format("; the widest interval of macro accuracy reaches from {:.3f} to {:.3f} (",
                                              widest.low, widest.high)))
      << unchecked;
  EXPECT_TRUE(contains(unchecked, "chosen by macro accuracy on validation images"));
  EXPECT_TRUE(contains(unchecked, "full on a (") && contains(unchecked, "the highest)")) << unchecked;

  LeakageReport leaks{.images = 100};
  spec.leakage["a"] = leaks;
  EXPECT_TRUE(contains(listed(caveats(make_report(results, spec))),
                       "a: checked for leaks between the splits; none were found."));
  leaks.counts[std::size_t(LeakKind::near_duplicates)] = {7, 5};
  leaks.counts[std::size_t(LeakKind::groups)] = {2, 4};
  spec.leakage["a"] = leaks;
  const std::string leaking = listed(caveats(make_report(results, spec)));
  EXPECT_TRUE(
      contains(leaking, "7 near-duplicates (5 held-out images, allowed by name) and 2 groups (4 held-out images)"))
      << leaking;
}

// Tables.

TEST(StudyReportTables, CsvExactly) {
  const HandMade hand;
  const CsvTable table = parse_csv(scores_csv(hand.report), "report.csv");
  ASSERT_EQ(table.rows.size(), 2 * std::size(kScores));
  const auto row = [&](std::size_t entry, Score score) {
    std::string text;
    for (const std::string& field : table.rows[entry * std::size(kScores) + std::size_t(score)]) text += field + ";";
    return text;
  };
  EXPECT_EQ(row(0, Score::macro_accuracy),
            "resnet50;chest_x;full;1;1;macro_accuracy;0.8125;0.75;0.8751;BCa;0;;0;0.11;0;61.5;");
  EXPECT_EQ(row(1, Score::macro_accuracy), "resnet50;chest_x;lp-ft;1;1;macro_accuracy;0.84;0.78;0.9;BCa;1;;1;;;61.5;");
  EXPECT_EQ(row(1, Score::auc), "resnet50;chest_x;lp-ft;1;1;auc;;;;BCa;0;;;;;61.5;");
  EXPECT_EQ(comparisons_csv(hand.report),
            "network,dataset,a,b,score,difference,low,high,p,p_holm,is_distinguishable\n"
            "resnet50,chest_x,full,lp-ft,macro_accuracy,-0.0275,-0.06,0.005,0.11,0.11,0\n");
}

TEST(StudyReportTables, TextExactly) {
  HandMade hand;
  EXPECT_EQ(report_text(hand.report), verdict(hand.report) +
                                          "\n\nMacro accuracy of resnet50, 95 % intervals over test images\n"
                                          "strategy               chest_x\n"
                                          "full      0.812 0.750–0.875 ≈\n"
                                          "lp-ft     0.840 0.780–0.900 *!\n"
                                          "\n* best, ≈ not distinguishable from it, ! interval doubtful, since a class "
                                          "has fewer than 10 independent cases\n");
}

TEST(StudyReportTables, MarkdownExactly) {
  HandMade hand;
  const std::string text = report_markdown(hand.report);
  EXPECT_TRUE(text.starts_with("# By\\_hand\n\nOn chest\\_x, lp-ft has the highest")) << text;
  EXPECT_TRUE(contains(text,
                       "| strategy | chest\\_x |\n|---|---|\n"
                       "| full | 0.812 (0.750–0.875) ≈ |\n"
                       "| lp-ft | **0.840** (0.780–0.900) ! |\n"))
      << text;
  EXPECT_TRUE(contains(text, "pneu\\|monia (5)")) << text;
}

TEST(StudyReportTables, LatexExactly) {
  HandMade hand;
  EXPECT_EQ(
      report_latex(hand.report),
      "\\begin{table}\n\\centering\n"
      "\\caption{Macro accuracy of resnet50, 95 \\% intervals over test images; bold: best of a data set, "
      "$\\dagger$: not distinguishable from it, !: interval doubtful, since a class has fewer than 10 independent "
      "cases.}\n"
      "\\begin{tabular}{lc}\n\\toprule\nstrategy & chest\\_x \\\\\n\\midrule\n"
      "full & 0.812 (0.750--0.875)$^\\dagger$ \\\\\n"
      "lp-ft & \\textbf{0.840} (0.780--0.900)! \\\\\n"
      "\\bottomrule\n\\end{tabular}\n\\end{table}\n");
  hand.results.spec.strategies[0].name = "a\\b_{50%}~^<&$#";
  EXPECT_TRUE(
      contains(report_latex(hand.report),
               "\na\\textbackslash{}b\\_\\{50\\%\\}\\textasciitilde{}\\textasciicircum{}\\textless{}\\&\\$\\# & "))
      << report_latex(hand.report);
}

TEST(StudyReportTables, EveryFormMarksAllThatAreBest) {
  const Equals equals({0, 0, 2}, {3, 3, -3});
  const StudyReport& report = equals.report;
  EXPECT_EQ(count_of(report_text(report), "*\n"), 2u) << report_text(report);
  EXPECT_EQ(count_of(report_markdown(report), "| **"), 2u);
  EXPECT_EQ(count_of(report_latex(report), "\\textbf{"), 2u);
  EXPECT_EQ(count_of(score_map(report, "resnet50"), "★"), 2u);
  EXPECT_EQ(count_of(score_map(report, "resnet50"), "class=\"h5\""), 2u);
  std::size_t is_best = 0;
  for (const std::vector<std::string>& row : parse_csv(scores_csv(report), "report.csv").rows)
    is_best += row[12] == "1";
  EXPECT_EQ(is_best, 2u);
  const json best = json::parse(report_json(report))["results"][0]["best_strategies"];
  EXPECT_EQ(best, (json{"full", "linear-probe"}));
}

TEST(StudyReportTables, NothingFinishedHasNoLegend) {
  StudyResults results = made_up_results({});
  for (CellResult& cell : results.cells) cell.state = CellState::pending, cell.curve.clear();
  const StudyReport report = quick_report(results);
  for (const std::string& form :
       {report_text(report), report_markdown(report), report_latex(report), report_page(report, {})}) {
    EXPECT_FALSE(contains(form, "best")) << form;
    EXPECT_FALSE(contains(form, "not distinguishable")) << form;
  }
}

TEST(StudyReportTables, JsonHasTheSameNumbers) {
  const HandMade hand;
  const json all = json::parse(report_json(hand.report));
  const json& strategies = all["results"][0]["strategies"];
  EXPECT_EQ(all["verdict"], verdict(hand.report));
  EXPECT_EQ(all["results"][0]["best"], "lp-ft");
  EXPECT_EQ(strategies[1]["scores"]["macro_accuracy"]["estimate"], 0.84);
  EXPECT_TRUE(strategies[1]["scores"]["auc"]["estimate"].is_null());
  EXPECT_EQ(strategies[0]["to_best"]["p_holm"], 0.11);
  EXPECT_EQ(all["results"][0]["comparisons"][0]["difference"], -0.0275);
  EXPECT_EQ(strategies[0]["cells"][0]["confusion"].size(), 2u);
}

TEST(StudyReportTables, SpreadBetweenSeeds) {
  ReportEntry entry;
  EXPECT_TRUE(std::isnan(seed_deviation(entry)));
  for (double score : {0.7, 0.8, 0.9}) entry.seeds.push_back({.score = score});
  EXPECT_NEAR(seed_deviation(entry), 0.1, 1e-12);
}

}  // namespace
}  // namespace graft::testing
