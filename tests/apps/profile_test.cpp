// graft profile as users meet it: the table within 100 columns, a trace that nests, a page that needs nothing else, and
// one line for mistakes.
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "apps/profile_page.h"
#include "apps/profile_table.h"
#include "apps/profile_trace.h"
#include "apps/roofline.h"
#include "data/csv.h"
#include "data/files.h"
#include "tests/apps/page_testing.h"
#include "tests/apps/program_testing.h"

namespace graft::testing {
namespace {

using nlohmann::json;

std::vector<std::string> small_profile(std::vector<std::string> more) {
  std::vector<std::string> arguments{"profile", "--arch",  "densenet121", "--size",   "32",
                                     "--batch", "4",       "--device",    "cpu",      "--threads",
                                     "1",       "--steps", "2",           "--warmup", "1"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

std::size_t columns_of(const std::string& line) {
  return std::size_t(std::ranges::count_if(line, [](char c) { return (c & 0xC0) != 0x80; }));
}

/// What chrome://tracing and Perfetto ask of a trace: known phases, numbers where numbers belong, and on one track
/// events that lie within or beside each other.
void expect_trace(const json& trace) {
  ASSERT_TRUE(trace["traceEvents"].is_array());
  std::map<int, std::vector<std::pair<double, double>>> open_on;  // by track
  std::map<std::string, int> categories;
  std::vector<json> events;
  for (const json& e : trace["traceEvents"]) {
    if (e["ph"] == "M") continue;
    ASSERT_EQ(e["ph"], "X");
    for (const char* key : {"ts", "dur", "pid", "tid"}) ASSERT_TRUE(e[key].is_number()) << key;
    ASSERT_TRUE(e["name"].is_string() && e["cat"].is_string());
    ASSERT_GE(e["dur"].get<double>(), 0);
    ++categories[e["cat"]];
    events.push_back(e);
  }
  // Outer events first, as the viewers sort them.
  std::ranges::stable_sort(events, [](const json& a, const json& b) {
    return a["ts"] != b["ts"] ? a["ts"] < b["ts"] : a["dur"] > b["dur"];
  });
  constexpr double kRounding = 2e-3;  // microseconds
  for (const json& e : events) {
    const double begin = e["ts"], end = begin + e["dur"].get<double>();
    auto& open = open_on[e["tid"]];
    while (!open.empty() && open.back().second <= begin + kRounding) open.pop_back();
    EXPECT_TRUE(open.empty() || end <= open.back().second + kRounding) << e.dump();
    open.emplace_back(begin, end);
  }
  for (const char* category : {"step", "pass", "layer", "call"}) EXPECT_GT(categories[category], 0) << category;
}

TEST(ProfileVerb, ATableAndFourFiles) {
  const TemporaryFolder folder;
  const std::string output = folder / "out";
  const Outcome outcome = graft(small_profile({"--top", "5", "-o", output}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  for (const char* part : {"densenet121, full with adam: training steps of 4 images of noise, 32x32", "\nlimits ",
                           "\nstep ", "\nprofile ", "more layers)", "(data)", "(outside device calls)", "100.0%"})
    EXPECT_NE(outcome.out.find(part), std::string::npos) << part << "\n" << outcome.out;
  std::istringstream lines(outcome.out);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(columns_of(line), 100u) << line;

  expect_trace(json::parse(read_text(output + "/trace.json")));
  expect_page(read_text(output + "/profile.html"));
  EXPECT_LT(std::filesystem::file_size(output + "/profile.html"), 1'000'000u);
  const CsvTable csv = parse_csv(read_text(output + "/profile.csv"), "profile.csv");
  double shares = 0;
  for (const auto& row : csv.rows) shares += std::stod(row[*csv.column("share")]);
  EXPECT_NEAR(shares, 1, 1e-6);
  const CsvTable calls = parse_csv(read_text(output + "/calls.csv"), "calls.csv");
  EXPECT_GT(calls.rows.size(), 100u);
}

TEST(ProfileVerb, AsJsonOfTheStepThatUsersName) {
  const Workshop& shop = Workshop::get();
  const Outcome outcome = graft({"profile",     shop.images(), "--weights", shop.model(), "--strategy", "linear-probe",
                                 "--optimizer", "sgd",         "--batch",   "4",          "--device",   "cpu",
                                 "--threads",   "1",           "--steps",   "1",          "--warmup",   "0",
                                 "--json",      "-q"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  const json all = json::parse(outcome.out);
  EXPECT_EQ(all["strategy"], "linear-probe");
  EXPECT_EQ(all["optimizer"], "sgd");
  double share = 0;
  for (const json& l : all["layers"]) {
    for (const char* pass : {"forward", "backward", "update"})
      if (l.contains(pass)) share += l[pass]["share"].get<double>();
    EXPECT_EQ(l.contains("update"), l["name"] == "classifier") << l["name"];
  }
  const double seconds = all["profiled_step_seconds"];
  EXPECT_NEAR(share + (all["parts"]["data"].get<double>() + all["outside_calls"].get<double>()) / seconds, 1, 1e-9);
}

TEST(ProfileVerb, Inference) {
  const Outcome outcome = graft(small_profile({"--infer", "--sort", "network", "--top", "0"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("densenet121: inference of 4 images of noise, 32x32"), std::string::npos) << outcome.out;
  EXPECT_EQ(outcome.out.find("bwd"), std::string::npos) << outcome.out;
  EXPECT_LT(outcome.out.find("\nfeatures.conv0 "), outcome.out.find("\nclassifier ")) << outcome.out;
}

TEST(ProfileVerb, MistakesGetOneLine) {
  expect_error(graft(small_profile({"--weights", "model.h5"})), 2, "--weights and --arch exclude each other");
  expect_error(graft(small_profile({"--steps", "0"})), 2, "--steps: expects at least 1");
  expect_error(graft(small_profile({"--sort", "name"})), 2, "--sort");
  expect_error(graft(small_profile({"--epoch", "99"})), 2, "--epoch: full has 30 epochs, got 99");
  expect_error(graft(small_profile({"--schedule", "cosine"})), 2, "unknown option '--schedule'");
  expect_error(graft({"profile", "--weights", "absent.h5"}), 1, "absent.h5");
  expect_error(graft({"profile", "absent", "--arch", "resnet50"}), 1, "absent does not exist");
}

TEST(ProfileTable, NumbersAreShort) {
  EXPECT_EQ(short_number(0), "-");
  EXPECT_EQ(short_number(0.01234), "0.012");
  EXPECT_EQ(short_number(0.99951), "1.00");
  EXPECT_EQ(short_number(9.999), "10.0");
  EXPECT_EQ(short_number(99.96), "100");
  EXPECT_EQ(short_number(12345.6), "12346");
}

/// A profile of names and numbers that no network has.
Profile strange_profile() {
  Profile p{.architecture = "a<b>&\"c\"",
            .strategy = "full",
            .device = "<script>",
            .precision = "f32",
            .optimizer = "sgd",
            .batch = 1};
  p.size = 1;
  p.limits = {.flops_per_second = 1e15, .bytes_per_second = 3e12, .flops_call = "f", .bytes_call = "b"};
  p.seconds = p.plain = 1;
  p.part_seconds = {0.1, 0.3, 0.5, 0.05};
  p.steps.resize(1);
  p.layers = {{.name = std::string(60, 'x') + ".y<", .forward = {0.3, 1e14, 1e9, 1}, .backward = {0.5, 0, 1e12, 2}},
              {.name = "zero", .forward = {0, 0, 0, 1}}};
  return p;
}

TEST(ProfileTrace, KernelsHaveATrackForEachStream) {
  Profile p = strange_profile();
  p.step_layers = {"layer1.conv"};
  p.steps[0] = {.seconds = 1e-3,
                .parts = {{.part = StepPart::forward, .begin = 0, .seconds = 9e-4}},
                .calls = {{.op = "conv", .detail = "3x3", .begin = 1e-4, .seconds = 5e-4, .kernels = 2}},
                .kernels = {{.name = "void f<int>(int)", .stream = 7, .begin = 1e-4, .seconds = 1e-4, .call = 0},
                            {.name = "g", .stream = 7, .begin = 2e-4, .seconds = 3e-4, .call = 0},
                            {.kind = DeviceActivity::Kind::copy, .stream = 13, .begin = 0, .seconds = 8e-4}}};
  const json trace = json::parse(profile_trace(p));
  expect_trace(trace);
  std::map<int, std::string> tracks;
  std::map<std::string, json> kernels;
  for (const json& e : trace["traceEvents"]) {
    if (e["name"] == "thread_name") tracks[e["tid"]] = e["args"]["name"];
    if (e["ph"] == "X" && e["cat"] == "kernel") kernels[e["name"]] = e;
  }
  EXPECT_EQ(tracks, (std::map<int, std::string>{{1, p.device}, {2, "kernels, stream 7"}, {3, "kernels, stream 13"}}));
  ASSERT_EQ(kernels.size(), 3u);
  EXPECT_EQ(kernels["f<int>"]["tid"], 2);
  EXPECT_EQ(kernels["f<int>"]["args"], (json{{"kernel", "void f<int>(int)"},
                                             {"call", "conv"},
                                             {"shapes", "3x3"},
                                             {"pass", "forward"},
                                             {"layer", "layer1.conv"}}));
  EXPECT_NEAR(kernels["g"]["dur"].get<double>(), 300, 1e-9);
  EXPECT_EQ(kernels["copy"]["tid"], 3);
}

TEST(ProfileTable, CountsKernelsWhereTheyWereTraced) {
  Profile p = strange_profile();
  EXPECT_EQ(profile_table(p, {}).find("kernels"), std::string::npos);
  p.kernels_per_step = 1234;
  p.calls_per_step = 567;
  p.layers[0].forward.kernels = 1000;
  p.layers[0].backward.kernels = 234;
  const std::string table = profile_table(p, {});
  EXPECT_NE(table.find("\nkernels  1234 a step, copies and fills"), std::string::npos) << table;
  EXPECT_NE(table.find("limit  kernels"), std::string::npos) << table;
  std::istringstream lines(table);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(columns_of(line), 100u) << line;
  EXPECT_EQ(json::parse(profile_json(p))["kernels_per_step"], 1234);
  const CsvTable csv = parse_csv(profile_csv(p), "profile.csv");
  EXPECT_EQ(csv.rows[0][*csv.column("kernels")], "1000");
}

TEST(ProfilePage, CountsKernelsWhereTheyWereTraced) {
  Profile p = strange_profile();
  EXPECT_EQ(profile_page(p).find("kernels"), std::string::npos);
  p.kernels_per_step = 1234;
  p.layers[0].forward.kernels = 1000;
  p.layers[0].backward.kernels = 234;
  p.calls = {{.op = "conv", .cost = {.kernels = 1000}}};
  const std::string page = profile_page(p);
  expect_page(page);
  const auto count = [&](const std::string& part) {
    std::size_t times = 0;
    for (std::size_t at = page.find(part); at != std::string::npos; at = page.find(part, at + 1)) ++times;
    return times;
  };
  EXPECT_EQ(count("<th>kernels</th>"), 2u);  // of layers and of operations
  EXPECT_EQ(count(">1234</td>"), 2u);        // the first layer, all layers
  EXPECT_EQ(count(">1000</td>"), 1u);
}

TEST(ProfilePage, EscapesNamesAndStandsOddNumbers) {
  const Profile p = strange_profile();
  expect_page(profile_page(p));
  EXPECT_NE(profile_page(p).find("a&lt;b&gt;&amp;&quot;c&quot;"), std::string::npos);
  EXPECT_NE(profile_table(p, {}).find("…"), std::string::npos);
  EXPECT_NE(profile_table(p, {}).find("TF/s"), std::string::npos);
  Profile empty = p;
  empty.layers.clear();
  expect_page(profile_page(empty));
  EXPECT_TRUE(json::accept(profile_json(p)));
}

}  // namespace
}  // namespace graft::testing
