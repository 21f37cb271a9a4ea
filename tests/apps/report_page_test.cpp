// The pictures and the page of graft study report: charts from hand-made numbers, examples, a page that stands any
// result, and one line for mistakes.
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
  const SeedBand band = seed_band(entry, &EpochReport::val_macro_accuracy);
  ASSERT_EQ(band.epoch, (std::vector<double>{1, 2}));
  double sum = 0;
  for (const CellResult* cell : entry.cells) sum += cell->curve[1].val_macro_accuracy;
  EXPECT_NEAR(band.mean[1], sum / 3, 1e-12);
  EXPECT_LT(band.low[1], band.mean[1]);
  EXPECT_GT(band.high[1], band.mean[1]);
  EXPECT_TRUE(contains(learning_curve_svg(entry, 0, kAccuracyPanel, {0, 1}, 2), "class=\"band s0\""));
}

TEST(StudyReportCharts, LinesEndWhereTheyCrossALimit) {
  const SeedBand band{.epoch = {1, 2, 3}, .mean = {5, 1, 1}, .low = {4, 1, 0}, .high = {9, 1, 3}};
  const SeedBand cut = cut_at(band, 2);
  // high crosses 2 at 1.875 and again at 2.5, mean at 1.75, low at 5/3.
  ASSERT_EQ(cut.epoch.size(), 7u);
  EXPECT_NEAR(cut.epoch[1], 5.0 / 3, 1e-12);
  EXPECT_NEAR(cut.epoch[2], 1.75, 1e-12);
  EXPECT_NEAR(cut.epoch[5], 2.5, 1e-12);
  EXPECT_TRUE(std::isnan(cut.mean[0]) && std::isnan(cut.mean[1]));
  EXPECT_NEAR(cut.mean[2], 2, 1e-9);
  for (std::size_t i = 0; i < cut.epoch.size(); ++i) EXPECT_LE(std::max(cut.low[i], cut.high[i]), 2);
  EXPECT_EQ(cut_at(band, 10).mean, band.mean);
}

TEST(StudyReportCharts, AnEpochFarOffDoesNotFlattenTheLosses) {
  StudyResults results = made_up_results({});
  const StudyReport report = quick_report(results);
  const ReportGroup& group = report.groups[0];
  const Axis usual = curve_axis(group, kLossPanel);
  EXPECT_LT(usual.high, 1.5);
  EXPECT_FALSE(is_cut(group, kLossPanel, usual));
  EXPECT_FALSE(contains(report_page(report, {}), "are cut off"));
  cell_of(results, "resnet50/chest/lp-ft/seed-1").curve[1].val_loss = 20;
  const Axis y = curve_axis(group, kLossPanel);
  EXPECT_TRUE(is_cut(group, kLossPanel, y));
  EXPECT_EQ(y.high, usual.high);  // 3 ln 2 is 2.08; all other losses are below 1
  const std::string cut = learning_curve_svg(group.entries[1], 1, kLossPanel, y, 4);
  EXPECT_TRUE(contains(cut, ">loss, up to 20<")) << cut;
  EXPECT_FALSE(contains(cut, " -")) << "above the panel: " << cut;
  EXPECT_TRUE(contains(learning_curve_svg(group.entries[0], 0, kLossPanel, y, 4), ">loss<"));
  EXPECT_TRUE(contains(report_page(report, {}), "Losses above "));
  // All of them high: nothing is far off.
  for (CellResult& cell : results.cells)
    for (EpochReport& row : cell.curve) row.val_loss = row.train_loss = 19;
  EXPECT_FALSE(is_cut(group, kLossPanel, curve_axis(group, kLossPanel)));
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

TEST(StudyReportCharts, DotsOfReliabilityLieInside) {
  const StudyResults results =
      answered({0.9999, 0.9999, 0.9999, 0.9999, 0.9999, 0.9999, 0.9999, 0.6}, {1, 1, 1, 1, 1, 1, 1, 1});
  const StudyReport report = quick_report(results);
  const std::string svg = reliability_svg(report.groups[0], 0);
  EXPECT_TRUE(contains(svg, ">1 answer at probability 0.60")) << svg;
  EXPECT_TRUE(contains(svg, ">7 answers at probability 1.00")) << svg;
  // The viewBox is 190 wide; a dot of radius 9.9 with its line, and half of the label "1.0", need 11 at the right.
  EXPECT_TRUE(contains(svg, "viewBox=\"0 0 190 ") && contains(svg, "cx=\"175.0\" cy=\"28.0\" r=\"9.9\"")) << svg;
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
  EXPECT_TRUE(chosen[0].is_error);
  EXPECT_NEAR(chosen[0].probability, 0.9, 1e-12);
  // Right answers have probabilities 0.95, 0.8, 0.7, 0.9, 0.8, median 0.8: one of each class, then the next.
  EXPECT_EQ(chosen[1].image, 3u);
  EXPECT_EQ(chosen[2].image, 6u);
  EXPECT_FALSE(chosen[3].is_error);
  EXPECT_TRUE(choose_examples({}, 3, 3).empty());
}

TEST(StudyReportExamples, OfSeveralLabelsTheAnswerThatIsWrongOrFound) {
  LabelNumbers numbers;
  ReportGroup group{.class_names = {"mass", "edema"}};
  for (const std::vector<std::int32_t>& classes : {std::vector{0}, {0, 1}, {}, {}, {1}})
    group.labels.push_back(numbers.label_of(classes));
  group.label_sets = numbers.sets();
  ReportEntry entry{.strategy = "full"};
  entry.seeds.push_back({.probabilities = {0.9, 0.1, 0.8, 0.3, 0.6, 0.2, 0.1, 0.2, 0.4, 0.7}});
  group.entries.push_back(entry);
  group.best = 0;
  const std::vector<Example> chosen = choose_examples(group, 5, 5);
  ASSERT_EQ(chosen.size(), 5U);
  const auto expect = [&](std::size_t at, std::size_t image, std::int64_t of, double p, bool is_error, bool is_missed) {
    EXPECT_EQ(chosen[at].image, image) << at;
    EXPECT_EQ(chosen[at].predicted, of) << at;
    EXPECT_NEAR(chosen[at].probability, p, 1e-12) << at;
    EXPECT_EQ(chosen[at].is_error, is_error) << at;
    EXPECT_EQ(chosen[at].is_missed, is_missed) << at;
  };
  expect(0, 1, 1, 0.7, true, true);    // edema was missed, as surely as that
  expect(1, 2, 0, 0.6, true, false);   // taken for a mass
  expect(2, 3, 1, 0.8, false, false);  // nothing there, nothing found: the map is of what came nearest
  const bool mass_first = chosen[3].image == 0;
  expect(mass_first ? 3 : 4, 0, 0, 0.9, false, false);
  expect(mass_first ? 4 : 3, 4, 1, 0.7, false, false);
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
          .pictures = {{{0, 0, 1, 0.9, true}, "data:image/jpeg;base64,AA==", "data:image/jpeg;base64,AA=="}}});
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

TEST(StudyReportPage, ConfusionsNameTheirColumnsWhereNamesFit) {
  const auto page = [](const std::vector<std::string>& classes) {
    const StudyResults results = made_up_results({.datasets = {{"a", classes, 60}}, .seeds = 1});
    return report_page(quick_report(results), {});
  };
  const std::string few = page({"background", "polyp"});
  EXPECT_TRUE(contains(few, "<th scope=\"col\" class=\"name\">background</th>"));
  EXPECT_TRUE(contains(few, "<th scope=\"row\">polyp</th>"));
  EXPECT_TRUE(contains(page({"ak", "bcc", "df", "mel", "nv"}), "<th scope=\"col\" class=\"name\">bcc</th>"));
  const std::string many = page({"ak", "bcc", "df", "melanoma", "nv"});
  EXPECT_TRUE(contains(many, "<th scope=\"col\" title=\"melanoma\">4</th>"));
  EXPECT_TRUE(contains(many, "<th scope=\"row\">4 melanoma</th>"));
}

TEST(StudyReportPage, PicturesOfOneNameHaveTheirFolders) {
  StudyResults results = made_up_results({.strategies = {"full"}, .seeds = 1});
  std::vector<std::string>& paths = results.cells[0].predictions.paths;
  paths[0] = "/home/someone/data/clear/1.jpg", paths[1] = "/home/someone/data/pneumonia/1.jpg";
  paths[2] = "/home/someone/data/clear/2.jpg";
  const StudyReport report = quick_report(results);
  PageMaterial material;
  material.examples.resize(1);
  for (std::size_t image : {0u, 1u, 2u})
    material.examples[0].pictures.push_back({{image, 0, 1, 0.9, true}, "data:", "data:"});
  const std::string page = report_page(report, material);
  for (const char* name : {">clear/1.jpg<", ">pneumonia/1.jpg<", ">2.jpg<"}) EXPECT_TRUE(contains(page, name)) << name;
  EXPECT_FALSE(contains(page, "someone"));
}

TEST(StudyReportPage, TimesHaveUnitsAndCountTrials) {
  StudyResults results = made_up_results({.epochs = 20, .trials = 2});
  const auto page = [&] { return report_page(quick_report(results), {}); };
  // 4 trainings of 20 epochs, 2.5 s each.
  EXPECT_TRUE(contains(page(), "<b>3 min 20 s</b>training and validation, with trials; start-up"));
  results.trials[0].curve = {{.epoch = 1, .seconds = 100}};
  EXPECT_TRUE(contains(page(), "<b>5 min 0 s</b>"));
  EXPECT_TRUE(contains(page(), "chosen by macro accuracy on validation images"));
  EXPECT_FALSE(contains(page(), "macro_accuracy"));
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
