// graft find-lr as users meet it: the curve on a terminal or in a pipe, the files, and one line for mistakes.
#include <signal.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "apps/lr_curve.h"
#include "data/csv.h"
#include "data/files.h"
#include "tests/apps/program_testing.h"

namespace graft::testing {
namespace {

using nlohmann::json;

std::vector<std::string> small_test(std::vector<std::string> more) {
  const Workshop& shop = Workshop::get();
  std::vector<std::string> arguments{"find-lr", shop.images(), "--weights", shop.model(), "--strategy", "linear-probe",
                                     "--batch", "8",           "--device",  "cpu",        "--threads",  "1"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

void expect_plain(const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    EXPECT_LE(line.size(), 79u) << line;
    EXPECT_TRUE(line.empty() || line.back() != ' ') << line;
  }
  for (char c : text) EXPECT_TRUE(c == '\n' || (c >= ' ' && c <= '~')) << int(c);
}

TEST(FindLr, DrawsInAPipeAndWritesWhatIsAskedFor) {
  const TemporaryFolder folder;
  const Outcome outcome = graft(small_test({"--steps", "30", "-o", folder / "out", "--svg", folder / "one.svg"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  expect_plain(outcome.out);
  EXPECT_NE(outcome.out.find("densenet121, linear-probe: "), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("1e-7"), std::string::npos) << outcome.out;
  EXPECT_EQ(outcome.err.find('\r'), std::string::npos);

  const std::string svg = read_text((folder / "out") + "/find-lr.svg");
  EXPECT_EQ(svg, read_text(folder / "one.svg"));
  EXPECT_TRUE(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
  EXPECT_EQ(svg.find("href"), std::string::npos);  // nothing from elsewhere
  EXPECT_EQ(svg.find("nan"), std::string::npos);

  const CsvTable csv = parse_csv(read_text((folder / "out") + "/find-lr.csv"), "find-lr.csv");
  EXPECT_EQ(csv.header, (std::vector<std::string>{"step", "lr", "loss", "smoothed_loss"}));
  ASSERT_GE(csv.rows.size(), 10u);
  EXPECT_EQ(csv.rows[0][0], "1");
  EXPECT_EQ(csv.rows[0][1], "1e-07");
}

TEST(FindLr, TestsStrategiesThatNeedMoreThanAPlan) {
  const Workshop& shop = Workshop::get();
  for (const char* strategy : {"auto-rgn", "delta", "bss", "stoch-norm", "lora"}) {
    const Outcome outcome =
        graft({"find-lr", shop.images(), "--weights", shop.model(), "--strategy", strategy, "--batch", "8", "--device",
               "cpu", "--threads", "1", "--steps", "12", "--min-lr", "1e-6", "--max-lr", "1e-4", "-q"});
    EXPECT_EQ(outcome.exit_code, 0) << strategy << ": " << outcome.err;
  }
}

TEST(FindLr, AsJson) {
  const Outcome outcome = graft(small_test({"--steps", "12", "--min-lr", "1e-4", "--max-lr", "1e-2", "--json", "-q"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 1);
  const json all = json::parse(outcome.out);
  ASSERT_EQ(all["points"].size(), 12u);
  EXPECT_EQ(all["end"], "all_steps");
  EXPECT_NEAR(all["points"][11]["lr"].get<double>(), 1e-2, 1e-12);
  EXPECT_EQ(all["strategy"], "linear-probe");
  EXPECT_EQ(all["stages"], 1);
  for (const char* key : {"steepest", "minimum", "tenth_of_minimum", "start_from", "last_lr"})
    EXPECT_TRUE(all.contains(key)) << key;
}

TEST(FindLr, MistakesGetOneLine) {
  expect_error(graft({"find-lr"}), 2, "find-lr: no data given");
  expect_error(graft({"find-lr", "data"}), 2, "find-lr: no weights given; add --weights MODEL.h5");
  expect_error(graft(small_test({"--min-lr", "1", "--max-lr", "0.1"})), 2, "--min-lr: expects less than --max-lr");
  expect_error(graft(small_test({"--min-lr", "0"})), 2, "--min-lr: expects more than 0");
  expect_error(graft(small_test({"--steps", "1"})), 2, "--steps: expects at least 2");
  expect_error(graft(small_test({"--smoothing", "1"})), 2, "--smoothing: expects at least 0 and less than 1");
  expect_error(graft(small_test({"--arch", "vgg19"})), 2, "holds a densenet121, not a vgg19; leave --arch out");
  expect_error(graft(small_test({"--lr", "0.1"})), 2, "unknown option '--lr'");
}

TEST(FindLr, AnUnwritablePlaceFailsAfterTheResult) {
  const Outcome outcome = graft(small_test({"--steps", "3", "-q", "--svg", "/dev/null/lr.svg"}));
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.out.find("3 updates"), std::string::npos) << outcome.out;
  EXPECT_TRUE(outcome.err.starts_with("graft: error: cannot create folder /dev/null")) << outcome.err;
}

TEST(FindLr, SaysOneHundredAndThirtyWhenInterrupted) {
  Call call{.arguments = small_test({"--steps", "100000", "--divergence", "1e9", "--max-lr", "1e-6"})};
  call.signal_after = "computed once", call.signal = SIGINT;
  const Outcome outcome = run(call);
  EXPECT_EQ(outcome.exit_code, 130) << outcome.err;
  EXPECT_EQ(outcome.out, "");
}

RangeTest drawn(const std::vector<double>& losses) {
  RangeTest test;
  for (std::size_t i = 0; i < losses.size(); ++i)
    test.points.push_back({std::pow(10, -7 + double(i) / 2), losses[i], losses[i]});
  suggest(test, std::ssize(losses));
  return test;
}

TEST(LrCurve, IsPlainForAnyLosses) {
  const std::vector<std::vector<double>> cases{{2.3, 2.2, 1.5, 0.5, 0.4, 90, 1e30},
                                               {1, 1, 1, 1},
                                               {0, 0},
                                               {1e-9, 1e-9, 2e-9},
                                               {1e12, 1e11, 1e10},
                                               {1, 2, 3, 1e308}};
  for (const std::vector<double>& losses : cases) {
    const RangeTest test = drawn(losses);
    const std::string curve = terminal_curve(test);
    expect_plain(curve);
    const std::int64_t lines = std::count(curve.begin(), curve.end(), '\n');
    EXPECT_GE(lines, 8) << curve;
    EXPECT_LE(lines, 21) << curve;
    const std::string svg = svg_curve(test);
    EXPECT_EQ(svg.find("nan"), std::string::npos) << svg;
    EXPECT_EQ(svg.find("inf"), std::string::npos) << svg;
  }
  EXPECT_EQ(terminal_curve(drawn({1})), "");
}

TEST(LrCurve, ShowsTheFallAndNotTheExplosion) {
  const std::string curve = terminal_curve(drawn({2.0, 2.0, 1.9, 1.2, 1.0, 50, 400}));
  EXPECT_NE(curve.find("    2 |"), std::string::npos) << curve;  // both ends of the fall are labelled
  EXPECT_NE(curve.find("    1 |"), std::string::npos) << curve;
  EXPECT_EQ(curve.find("0 |"), std::string::npos) << curve;  // no label such as 400 or 50
}

TEST(LrCurve, MarksTheSuggestions) {
  RangeTest test = drawn({2, 2, 2, 2, 1.8, 1.4, 1.0, 0.9, 0.9, 0.9, 1.5, 3});
  ASSERT_TRUE(test.steepest && test.tenth_of_min);
  const std::string curve = terminal_curve(test), svg = svg_curve(test);
  const std::string marks = curve.substr(curve.rfind('\n', curve.size() - 2) + 1);
  EXPECT_NE(marks.find('A'), std::string::npos) << curve;
  EXPECT_NE(marks.find('B'), std::string::npos) << curve;
  EXPECT_NE(svg.find("steepest descent: "), std::string::npos);
  EXPECT_NE(svg.find("minimum / 10: "), std::string::npos);
}

void expect_suggestions(const std::vector<double>& losses, const std::vector<std::string>& lines) {
  const std::string text = suggestions_text(drawn(losses), std::ssize(losses));
  expect_plain(text);
  for (const std::string& line : lines) EXPECT_NE(text.find(line + "\n"), std::string::npos) << line << "\n" << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), std::ssize(lines)) << text;
}

TEST(LrCurve, SaysWhichSuggestionToStartFrom) {
  expect_suggestions(
      {2, 2, 2, 1.9, 1.5, 1.1, 1.0, 0.95, 0.9, 0.88, 1.5, 3},
      {"A  steepest descent  1.0e-05", "B  minimum / 10      3.2e-04   (the smoothed loss is smallest at 3.2e-03)",
       "Start from A (1.0e-05), the lower; try up to the other if it trains slowly."});
  // Steepest where the average has not settled.
  expect_suggestions(
      {3, 2, 1.9, 1.9, 1.8, 1.8, 1.7, 1.6, 1.5, 1.8, 2, 3},
      {"A  steepest descent  3.2e-07   (at the edge of the curve: not reliable)",
       "B  minimum / 10      1.0e-04   (the smoothed loss is smallest at 1.0e-03)", "Start from B (1.0e-04)."});
  expect_suggestions({2, 2, 1.9, 1.8, 1.7, 1.6, 1.5, 1.4, 1.2, 1.0, 0.7, 0.3},
                     {"A  steepest descent  3.2e-02   (at the edge of the curve: not reliable)",
                      "B  minimum / 10      3.2e-03   (minimum at the edge of the curve: not reliable)",
                      "The loss still falls at the highest rate; a larger --max-lr may show more.",
                      "Start from neither; more --steps or a wider range of rates may show more."});
  // A minimum so early that its tenth was not tested.
  expect_suggestions({2, 1, 2, 3}, {"A  steepest descent  1.0e-07   (at the edge of the curve: not reliable)",
                                    "B  minimum / 10      3.2e-08   (below the rates tested: not reliable)",
                                    "Start from neither; more --steps or a wider range of rates may show more."});
}

}  // namespace
}  // namespace graft::testing
