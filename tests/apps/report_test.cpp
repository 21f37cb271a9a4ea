// graft study report: numbers that agree in all forms, words that claim no more than the numbers, a page that stands
// any result, and one line for mistakes.
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

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

StudyReport quick_report(const StudyResults& results) {
  return make_report(results, {.bootstrap = {.resamples = 200}, .threads = 2});
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

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
}

TEST(StudyReportWords, Caveats) {
  StudyResults results = made_up_results({.datasets = {{"a", {"x", "y"}, 16}}, .seeds = 1, .trials = 3});
  results.spec.datasets[0].allow = {"near-duplicates"};
  ReportSpec spec{.bootstrap = {.resamples = 200}};
  const std::string unchecked = listed(caveats(make_report(results, spec)));
  for (const char* part :
       {"One seed", "a: whether test images, or copies of them, are among the training images was not checked.",
        "16 test images in 2 classes", "Nothing is known of patients", "fewer than 10 test images: x (8) and y (8)",
        "3 short trials for each", "may lie outside"})
    EXPECT_TRUE(contains(unchecked, part)) << part << "\n" << unchecked;
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
  EXPECT_EQ(report_latex(hand.report),
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

// Charts.

TEST(StudyReportCharts, BarsJoinWhatNemenyiDoesNotTellApart) {
  using Pairs = std::vector<std::pair<std::size_t, std::size_t>>;
  const auto cliques = [](std::vector<double> ranks, double distance) {
    return rank_cliques({.critical_difference = distance, .mean_ranks = std::move(ranks)});
  };
  EXPECT_EQ(cliques({1, 2, 3, 4}, 1.5), (Pairs{{0, 1}, {1, 2}, {2, 3}}));
  EXPECT_EQ(cliques({4, 1, 3.5, 1.2}, 1.0), (Pairs{{0, 1}, {2, 3}}));
  EXPECT_EQ(cliques({1, 1.5, 2}, 5), (Pairs{{0, 2}}));
  EXPECT_EQ(cliques({1, 3, 5}, 1), Pairs{});
  const ReportRanks ranks{.strategies = {"a", "b", "c"},
                          .datasets = {"1", "2", "3", "4", "5"},
                          .test = {.p = 0.2, .critical_difference = 1, .mean_ranks = {1, 2, 3}}};
  const std::string svg = critical_difference_svg(ranks, {.width = 500, .font = 10});
  // Labels take 150 px on each side, so ranks 1, 2 and 3 lie at 150, 250 and 350.
  for (const char* part : {"M150.0 42.0V", "M250.0 42.0V", "M350.0 42.0V", "M147.0 52.0L253.0 52.0",
                           "a 1.00, b 2.00 and c 3.00", "1 is best"})
    EXPECT_TRUE(contains(svg, part)) << part << "\n" << svg;
}

TEST(StudyReportCharts, SeedsBecomeALineAndABand) {
  const StudyResults results = made_up_results({.seeds = 3, .epochs = 2});
  const StudyReport report = quick_report(results);
  const ReportEntry& entry = report.groups[0].entries[0];
  const SeedBand band = seed_band(entry, &EpochRow::val_macro_accuracy);
  ASSERT_EQ(band.epoch, (std::vector<double>{1, 2}));
  double sum = 0;
  for (const CellResult* cell : entry.cells) sum += cell->curve[1].val_macro_accuracy;
  EXPECT_NEAR(band.mean[1], sum / 3, 1e-12);
  EXPECT_LT(band.low[1], band.mean[1]);
  EXPECT_GT(band.high[1], band.mean[1]);
  EXPECT_TRUE(contains(learning_curve_svg(entry, 0, kAccuracyPanel, {0, 1}, 2), "class=\"band s0\""));
}

/// Two classes; probabilities of class 1 as given.
StudyResults answered(const std::vector<double>& p1, const std::vector<std::int32_t>& labels) {
  StudyResults results =
      made_up_results({.datasets = {{"a", {"x", "y"}, std::ssize(p1)}}, .strategies = {"s"}, .seeds = 1});
  CellPredictions& p = results.cells[0].predictions;
  p.labels = labels;
  p.probabilities.clear();
  for (double v : p1) p.probabilities.insert(p.probabilities.end(), {1 - v, v});
  return results;
}

TEST(StudyReportCharts, CurvesOfProbabilities) {
  // One negative above the second positive: the ROC curve rises to 1/2, goes to 1/2, rises to 1.
  const StudyResults results = answered({0.9, 0.8, 0.7, 0.2}, {1, 0, 1, 0});
  const StudyReport report = quick_report(results);
  const ReportGroup& group = report.groups[0];
  const UnitCurve roc = mean_roc(group, group.entries[0]);
  ASSERT_EQ(roc.x.size(), 102u);
  EXPECT_EQ(roc.y[0], 0);
  EXPECT_EQ(roc.y[1], 0.5);   // at 0, after the rise
  EXPECT_EQ(roc.y[50], 0.5);  // at 0.49
  EXPECT_EQ(roc.y[51], 1);    // at 0.50
  const UnitCurve pr = mean_precision_recall(group, group.entries[0]);
  EXPECT_EQ(pr.y[0], 1);
  EXPECT_EQ(pr.y[50], 1);                 // recall 0.5 by the first image
  EXPECT_NEAR(pr.y[51], 2.0 / 3, 1e-12);  // above it two of three
  EXPECT_NEAR(pr.y[100], 2.0 / 3, 1e-12);
  EXPECT_TRUE(contains(unit_chart_svg(group, UnitChart::roc, {.width = 380, .height = 300}), "class=\"line s0\""));
}

TEST(StudyReportCharts, InternalsByEpochWithWhatIsFrozen) {
  Internals internals;
  internals.header.blocks = {"stem", "fc"};
  internals.header.parameters = {{"stem.w", 0, 4}, {"fc.w", 1, 2}};
  internals.records.step = {1, 2, 3};
  internals.records.epoch = {1, 1, 2};
  internals.records.lr = internals.records.loss = {1, 1, 1};
  internals.records.norms[0] = {kNaN, 1, kNaN, 3, 2, 4};  // gradients
  internals.records.norms[1] = {kNaN, 10, kNaN, 10, 10, 10};
  internals.records.norms[2] = {kNaN, 0.1, kNaN, 0.1, 0.1, 0.1};
  internals.records.norms[3] = {kNaN, 0, kNaN, 0, 0, 0};
  const InternalsMap map = internals_map(internals);
  EXPECT_EQ(map.epochs, (std::vector<std::int64_t>{1, 2}));
  EXPECT_TRUE(std::isnan(map.relative_gradient[0][0]));
  EXPECT_NEAR(map.relative_gradient[0][1], 0.2, 1e-12);
  EXPECT_NEAR(map.relative_gradient[1][0], 0.2, 1e-12);  // the mean of 0.1 and 0.3
  EXPECT_NEAR(map.update_ratio[1][1], 0.01, 1e-12);
  const Axis scale = internals_scale({map}, &InternalsMap::relative_gradient);
  EXPECT_NEAR(std::log10(scale.low), std::log10(0.2) - 0.12, 1e-12);
  EXPECT_NEAR(std::log10(scale.high), std::log10(0.4) + 0.12, 1e-12);
  const std::string svg = internals_svg(map, &InternalsMap::relative_gradient, {0.1, 1, true}, "full");
  EXPECT_TRUE(contains(svg, "class=\"frozen\" d=\"M78.0 22.0h108.0v15.0h-108.0z\"")) << svg;
  EXPECT_TRUE(contains(svg, "class=\"q2\" d=\"M186.0 22.0")) << svg;  // 0.2 is 0.3 of the way from 0.1 to 1
  EXPECT_TRUE(contains(svg, "class=\"q5\" d=\"M186.0 37.0")) << svg;  // 0.4 is 0.6 of it
}

// Examples.

TEST(StudyReportExamples, SurestErrorsAndUsualHits) {
  const StudyResults results = answered({0.9, 0.6, 0.95, 0.8, 0.7, 0.1, 0.2}, {0, 0, 1, 1, 1, 0, 0});
  const StudyReport report = quick_report(results);
  const std::vector<Example> chosen = choose_examples(report.groups[0], 1, 3);
  ASSERT_EQ(chosen.size(), 4u);
  EXPECT_EQ(chosen[0].image, 0u);
  EXPECT_TRUE(chosen[0].is_error());
  EXPECT_NEAR(chosen[0].probability, 0.9, 1e-12);
  // Right answers have probabilities 0.95, 0.8, 0.7, 0.9, 0.8, median 0.8: one of each class, then the next.
  EXPECT_EQ(chosen[1].image, 3u);
  EXPECT_EQ(chosen[2].image, 6u);
  EXPECT_FALSE(chosen[3].is_error());
  EXPECT_TRUE(choose_examples({}, 3, 3).empty());
}

TEST(StudyReportExamples, PicturesAreDataUris) {
  const std::string uri = jpeg_uri(Image::blank(16, 24, 200)), head = "data:image/jpeg;base64,";
  ASSERT_TRUE(uri.starts_with(head + "/9j/"));
  EXPECT_EQ((uri.size() - head.size()) % 4, 0u);
  const Image back = decode_image(encode_jpeg(Image::blank(16, 24, 200), 82), "picture");
  EXPECT_EQ(back.height, 16);
  EXPECT_EQ(back.width, 24);
  EXPECT_NEAR(back.rgb[0], 200, 2);
}

// The page.

TEST(StudyReportPage, FiveModalitiesEightStrategiesThreeSeeds) {
  MadeUpStudy study{.strategies = {"full", "linear-probe", "gradual-last-first", "gradual-first-last", "lp-ft", "l1-sp",
                                   "l2-sp", "auto-rgn"},
                    .seeds = 3,
                    .epochs = 12,
                    .trials = 4};
  study.datasets = {{"chest", {"clear", "pneumonia"}, 60, 1, 2},
                    {"brain", {"glioma", "meningioma", "pituitary", "none"}, 60},
                    {"lung", {"adeno", "normal", "squamous"}, 60},
                    {"skin", {"ak", "bcc", "df", "mel", "nv", "pbk", "sk", "scc", "vasc"}, 63},
                    {"bowel", {"background", "polyp"}, 60}};
  const StudyResults results = made_up_results(study);
  const StudyReport report = make_report(results, {.bootstrap = {.resamples = 100}, .threads = 2});
  PageMaterial material{.configuration = "[study]"};
  material.examples.assign(
      5, {.strategy = "full",
          .seed = 1,
          .pictures = {{{0, 0, 1, 0.9}, "data:image/jpeg;base64,AA==", "data:image/jpeg;base64,AA=="}}});
  const std::string page = report_page(report, material);
  expect_page(page);
  EXPECT_LT(page.size(), 1'600'000u);  // 1.4 MB stay for pictures
  for (const char* part :
       {"class=\"verdict\"", "class=\"map sortable\"", "Critical-difference diagram", "p, Holm", "Learning curves",
        "ROC curves", "Precision and recall", "Reliability", "Recall of each class", "Confusion",
        "Training time and score", "Inside training", "Errors it was surest of", "clear, taken for pneumonia (0.90)",
        "All 160 trials", "★ chosen", "To be read with care", "<pre>[study]</pre>"})
    EXPECT_TRUE(contains(page, part)) << part;
  EXPECT_FALSE(contains(page, "<h2>Missing</h2>"));
  material.is_brief = true;
  const std::string brief = report_page(report, material);
  expect_page(brief);
  EXPECT_LT(brief.size(), 2 * page.size() / 3);
  EXPECT_TRUE(contains(brief, "This study is large"));
}

TEST(StudyReportPage, HostileNamesAreEscaped) {
  const std::string evil = "</title><script>alert('x')</script>\"&\x01|_";
  StudyResults results = made_up_results({.networks = {evil + "n"},
                                          .datasets = {{evil + "d", {evil + "a", evil + "b"}, 20}},
                                          .strategies = {evil + "s", "t"}});
  results.spec.title = evil;
  results.cells[0].state = CellState::failed;
  results.cells[0].error = evil;
  const StudyReport report = quick_report(results);
  const std::string page = report_page(report, {.configuration = evil, .program = evil});
  expect_page(page);
  EXPECT_FALSE(contains(page, "alert('x')</script>"));
  EXPECT_FALSE(contains(page, "\x01"));
  EXPECT_TRUE(json::accept(report_json(report)));
  EXPECT_FALSE(contains(report_markdown(report), "<script>"));
  parse_csv(scores_csv(report), "report.csv");
}

TEST(StudyReportPage, AnUnfinishedStudyOpens) {
  StudyResults results = made_up_results({.datasets = {{"a", {"x", "y"}}, {"b", {"x", "y"}}}});
  for (CellResult& cell : results.cells)
    if (cell.cell.dataset == "b") cell.state = CellState::pending, cell.curve.clear();
  cell_of(results, "resnet50/a/full/seed-1").state = CellState::failed;
  cell_of(results, "resnet50/a/full/seed-2").state = CellState::partial;
  const StudyReport report = quick_report(results);
  const std::string page = report_page(report, {});
  expect_page(page);
  for (const char* part : {"<h2>Missing</h2>", "6 of 8 trainings have not finished", ">failed<", ">missing<",
                           "So far, with 2 of 8 trainings", "Nothing to score yet"})
    EXPECT_TRUE(contains(page, part)) << part;
  for (CellResult& cell : results.cells) cell.state = CellState::pending, cell.curve.clear();
  const StudyReport empty = quick_report(results);
  expect_page(report_page(empty, {}));
  EXPECT_TRUE(json::accept(report_json(empty)));
  EXPECT_TRUE(contains(report_text(empty), "nothing can be said yet"));
}

TEST(StudyReportPage, OneClassOneImageAndUndefinedScores) {
  StudyResults results = made_up_results({.datasets = {{"a", {"x", "y"}, 12}}, .seeds = 1});
  for (CellResult& cell : results.cells) {  // one class occurs: AUC is undefined
    cell.predictions.labels.assign(12, 0);
    cell.curve[1].val_loss = kNaN;
  }
  results.spec.score = "auc";
  const StudyReport undefined = quick_report(results);
  EXPECT_FALSE(undefined.groups[0].best);
  expect_page(report_page(undefined, {}));
  EXPECT_TRUE(contains(verdict(undefined), "nothing can be said"));
  results.spec.score = "accuracy";
  expect_page(report_page(quick_report(results), {}));

  const StudyResults single =
      made_up_results({.datasets = {{"a", {"x", "y"}, 1}}, .strategies = {"s"}, .seeds = 1, .epochs = 1});
  const StudyReport one = quick_report(single);
  expect_page(report_page(one, {}));
  EXPECT_TRUE(contains(verdict(one), "there is nothing to compare it with")) << verdict(one);
}

// The verb.

class StudyReportVerb : public ::testing::Test {
 protected:
  StudyReportVerb() {
    StudyResults results = made_up_results({});
    cell_of(results, "resnet50/chest/full/seed-2").state = CellState::failed;
    cell_of(results, "resnet50/chest/full/seed-2").error = "out of memory";
    write_study(results, study());
  }
  std::string study() const { return folder_ / "study"; }
  TemporaryFolder folder_;
};

TEST_F(StudyReportVerb, WritesAPageAndTables) {
  const Outcome outcome = graft({"study", "report", study(), "--resamples", "200", "--threads", "1"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_TRUE(outcome.out.starts_with("So far, with 3 of 4 trainings: on chest, ")) << outcome.out;
  const std::string page = read_text(study() + "/report.html");
  expect_page(page);
  EXPECT_TRUE(contains(page, "resnet50/chest/full/seed-2 failed: out of memory"));
  EXPECT_TRUE(contains(page, "# made up &lt;b&gt;"));
  EXPECT_TRUE(contains(page, "No pictures: resnet50/chest/")) << "no best.h5 there";
  // A second time, elsewhere: the same numbers to the last digit.
  const Outcome again = graft({"study", "report", study(), "-o", folder_ / "out", "--resamples", "200", "--threads",
                               "2", "--no-pictures", "-q"});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(again.err, "");
  for (const char* file : {"report.json", "report.csv", "comparisons.csv", "report.md", "report.tex"})
    EXPECT_EQ(read_text(study() + "/" + file), read_text((folder_ / "out/") + file)) << file;
}

TEST_F(StudyReportVerb, PrintsTheTableThatIsAskedFor) {
  const std::vector<std::string> call{"study", "report", study(), "--resamples", "200", "-q"};
  const auto with = [&](const char* flag) {
    std::vector<std::string> arguments = call;
    arguments.push_back(flag);
    const Outcome outcome = graft(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    return outcome.out;
  };
  EXPECT_EQ(json::parse(with("--json"))["finished"], 3);
  EXPECT_TRUE(with("--csv").starts_with("network,dataset,strategy,"));
  EXPECT_TRUE(with("--markdown").starts_with("# Made up\n"));
  EXPECT_TRUE(with("--latex").starts_with("\\begin{table}"));
  EXPECT_FALSE(std::filesystem::exists(study() + "/report.html"));
}

TEST_F(StudyReportVerb, MistakesGetOneLine) {
  expect_error(graft({"study", "report"}), 2, "no file given");
  expect_error(graft({"study", "report", folder_ / "absent.toml", "-o", folder_ / "nothing"}), 1, "holds no study");
  expect_error(graft({"study", "report", study(), "--json", "--csv"}), 2, "exclude each other");
  expect_error(graft({"study", "report", study(), "--resamples", "10"}), 2, "--resamples");
  std::ofstream(study() + "/leakage.json") << "{";
  expect_error(graft({"study", "report", study(), "-q"}), 1, "leakage.json is damaged");
}

}  // namespace
}  // namespace graft::testing
