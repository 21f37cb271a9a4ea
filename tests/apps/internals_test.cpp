// graft internals as users meet it: a table, CSV and JSON of a run that recorded; one line where there is nothing.
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "apps/internals_table.h"
#include "data/csv.h"
#include "data/files.h"
#include "tests/apps/program_testing.h"

namespace graft::testing {
namespace {

using nlohmann::json;

/// A recorded run, made once.
const std::string& recorded_run() {
  static const TemporaryFolder folder;
  static const std::string path = [] {
    const std::string output = folder / "run";
    const Outcome outcome = graft(
        small_training(Workshop::get().images(), output, {"--max-steps", "3", "--record-internals", "2", "--quiet"}));
    if (outcome.exit_code != 0) throw std::runtime_error("cannot make a run: " + outcome.err);
    return output;
  }();
  return path;
}

TEST(Internals, ATableOfBlocks) {
  const Outcome outcome = graft({"internals", recorded_run()});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  EXPECT_TRUE(outcome.out.starts_with("densenet121, full: 2 records of steps 1 to 3, one every 2\n")) << outcome.out;
  for (const char* part : {"\ndenseblock1 ", "\nclassifier ", "‖g‖/‖w‖", "Δvar"})
    EXPECT_NE(outcome.out.find(part), std::string::npos) << part << outcome.out;
  EXPECT_EQ(outcome.out.find("nan"), std::string::npos) << outcome.out;
  EXPECT_EQ(outcome.out.find("features."), std::string::npos) << "blocks alone: " << outcome.out;
}

TEST(Internals, ParametersByName) {
  const Outcome outcome = graft({"internals", recorded_run(), "--parameters", "*.norm0*"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("\nfeatures.norm0.weight "), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("\nfeatures.norm0 "), std::string::npos) << outcome.out;
  EXPECT_EQ(outcome.out.find("classifier.weight"), std::string::npos) << outcome.out;
}

TEST(Internals, AsCsvAndAsJson) {
  const TemporaryFolder folder;
  const Outcome outcome =
      graft({"internals", recorded_run(), "--parameters", "*", "--csv", "-o", folder / "internals.csv"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  const CsvTable csv = parse_csv(read_text(folder / "internals.csv"), "internals.csv");
  ASSERT_EQ(csv.rows.size(), 2u * (9 + 364 + 121));
  EXPECT_EQ(csv.rows[0][csv.column("step").value()], "1");
  EXPECT_EQ(csv.rows[0][csv.column("level").value()], "block");
  EXPECT_EQ(csv.rows.back()[csv.column("level").value()], "batch_norm");
  EXPECT_EQ(csv.rows.back()[csv.column("gradient_norm").value()], "");
  EXPECT_GT(std::stod(csv.rows.back()[csv.column("mean_drift").value()]), 0);

  const Outcome as_json = graft({"internals", recorded_run(), "--json"});
  const json all = json::parse(as_json.out);
  EXPECT_EQ(all["step"], (json{1, 3}));
  ASSERT_EQ(all["series"].size(), 9u);
  EXPECT_EQ(all["series"][0]["level"], "block");
  const double g = all["series"][0]["gradient_norm"][1], w = all["series"][0]["weight_norm"][1];
  EXPECT_DOUBLE_EQ(all["series"][0]["relative_gradient_norm"][1], g / w);
  EXPECT_NEAR(std::stod(csv.rows[0][csv.column("gradient_norm").value()]),
              all["series"][0]["gradient_norm"][0].get<double>(), 1e-7 * g);
}

TEST(Internals, MistakesGetOneLine) {
  const TemporaryFolder folder;
  expect_error(graft({"internals"}), 2, "no run given");
  expect_error(graft({"internals", recorded_run(), "--csv", "--json"}), 2, "exclude each other");
  expect_error(graft({"internals", recorded_run(), "--parameters", "layer9*"}), 2,
               "no parameter or batch norm matches");
  expect_error(graft({"internals", "/nowhere"}), 1, "/nowhere");
  write_atomically(folder / "run/summary.json", std::string_view("{}"));
  expect_error(graft({"internals", folder / "run"}), 1, "--record-internals");
  expect_error(graft({"internals", Workshop::get().model()}), 1, "not a file of graft's recorder");
  const std::vector<std::uint8_t> whole = read_file(recorded_run() + "/internals.h5");
  write_atomically(folder / "run/internals.h5", std::span(whole).first(whole.size() * 2 / 3));
  expect_error(graft({"internals", folder / "run"}), 1, "damaged or truncated");
  expect_error(graft({"train", "d", "-o", "r", "--weights", "w.h5", "--record-internals", "-1"}), 2,
               "train.record_every: expects at least 0");
}

TEST(Sparkline, ShowsTheCourseOnALogarithmicScale) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(sparkline(std::vector<double>{1, 10, 100}, 16), "▁▅█");
  EXPECT_EQ(sparkline(std::vector<double>{5, 5}, 16), "▅▅");
  EXPECT_EQ(sparkline(std::vector<double>{nan, 0, 1, 2}, 16), "  ▁█");
  EXPECT_EQ(sparkline(std::vector<double>{1, 100, 10, 10, 1e4, 1e4}, 3), "▁▁█");  // geometric means of pairs
  EXPECT_EQ(sparkline({}, 16), "");
}

}  // namespace
}  // namespace graft::testing
