// Data whose splits share images: refused by name, let pass by name, and said either way.
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "tests/apps/program_testing.h"

namespace graft::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// The workshop's images, one of train once more among test's.
std::string leaking_images(const TemporaryFolder& folder) {
  const std::string images = folder / "images";
  fs::copy(Workshop::get().images(), images, fs::copy_options::recursive);
  fs::copy_file(images + "/train/circles/000.png", images + "/test/waves/copy.png");
  return images;
}

/// A list, then the one line of the error, which ends with the way out.
void expect_refusal(const Outcome& outcome, const std::string& way_out) {
  EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
  const std::size_t error = outcome.err.find("\ngraft: error: ");
  ASSERT_NE(error, std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find('\n', error + 1), outcome.err.size() - 1) << outcome.err;
  EXPECT_TRUE(outcome.err.ends_with(way_out + "\n")) << outcome.err;
}

TEST(Leaks, ARunOnLeakingDataIsRefusedUnlessAllowedByName) {
  const TemporaryFolder folder;
  const std::string images = leaking_images(folder), output = folder / "run";
  const auto train = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"--max-steps", "1", "--overwrite"});
    return graft(small_training(images, output, more));
  };
  const Outcome refused = train({});
  expect_refusal(refused, "--allow-leaks duplicates");
  EXPECT_NE(refused.err.find("duplicates: 1 pair of equal images in different splits (1 of 25 held-out images)"),
            std::string::npos)
      << refused.err;
  EXPECT_NE(refused.err.find("train/circles/000.png (train) = test/waves/copy.png (test)"), std::string::npos);
  EXPECT_FALSE(fs::exists(output));
  EXPECT_EQ(read_text(output + "-leaks.csv"),
            "kind,a,split_a,b,split_b,distance,similarity\n"
            "duplicates,train/circles/000.png,train,test/waves/copy.png,test,0,1.0000\n");
  expect_refusal(train({"--allow-leaks", "groups,near-duplicates"}), "--allow-leaks duplicates,near-duplicates,groups");
  expect_error(train({"--allow-leaks", "copies"}), 2, "unknown kind of leak 'copies'");
  EXPECT_FALSE(fs::exists(output));

  ASSERT_EQ(train({"--allow-leaks", "duplicates"}).exit_code, 0);
  const json leaks = json::parse(read_text(output + "/summary.json"))["leaks"];
  EXPECT_TRUE(leaks["checked"]);
  EXPECT_EQ(leaks["duplicates"], json({{"pairs", 1}, {"images", 1}}));
  EXPECT_EQ(leaks["groups"]["pairs"], 0);
  EXPECT_EQ(leaks["allowed"], json({"duplicates"}));
  EXPECT_EQ(read_text(output + "/leaks.csv"), read_text(output + "-leaks.csv"));
  // What was allowed is part of the run, so resuming needs no flag.
  EXPECT_EQ(graft({"train", "-o", output, "--resume"}).exit_code, 0);

  ASSERT_EQ(train({"--no-leak-check"}).exit_code, 0);
  EXPECT_EQ(json::parse(read_text(output + "/summary.json"))["leaks"], json({{"checked", false}}));
  EXPECT_FALSE(fs::exists(output + "/leaks.csv"));
}

TEST(Leaks, CleanDataSaysSo) {
  const TemporaryFolder folder;
  ASSERT_EQ(graft(small_training(Workshop::get().images(), folder / "run", {"--max-steps", "1"})).exit_code, 0);
  const json leaks = json::parse(read_text(folder / "run/summary.json"))["leaks"];
  EXPECT_TRUE(leaks["checked"]);
  EXPECT_EQ(leaks["held_out_images"], 24);
  EXPECT_EQ(leaks["duplicates"]["images"], 0);
}

TEST(Leaks, InspectListsThem) {
  const TemporaryFolder folder;
  const std::string images = leaking_images(folder);
  std::string csv = "path,label,split,patient\n";
  for (const char* line : {"train/circles/000.png,circles,train,p", "train/waves/000.png,waves,train,q",
                           "test/waves/copy.png,waves,test,p"})
    csv += std::string("images/") + line + "\n";
  write_atomically(folder / "list.csv", csv);
  const Outcome text = graft({"data", "inspect", folder / "list.csv", "--val-fraction", "0"});
  ASSERT_EQ(text.exit_code, 0) << text.err;
  EXPECT_NE(text.out.find("groups: 1 group in more than one split (1 of 1 held-out images)"), std::string::npos)
      << text.out;
  const json leaks =
      json::parse(graft({"data", "inspect", folder / "list.csv", "--val-fraction", "0", "--json"}).out)["leaks"];
  EXPECT_EQ(leaks["groups"]["list"], json({"p"}));
  EXPECT_EQ(leaks["duplicates"]["pairs"], 1);
  EXPECT_EQ(leaks["duplicates"]["list"][0]["b"], "images/test/waves/copy.png");
  EXPECT_NE(graft({"data", "inspect", Workshop::get().images()}).out.find("none between splits"), std::string::npos);
}

TEST(Leaks, AStudyRefusesThemBeforeAnythingTrains) {
  const TemporaryFolder folder;
  leaking_images(folder);
  const auto write = [&](const std::string& data) {
    write_atomically(folder / "study.toml",
                     "[study]\nfrom_scratch = true\nnetworks = [\"densenet121\"]\nstrategies = [\"full\"]\nseeds = "
                     "[1]\n[study.datasets]\nshapes = " +
                         data +
                         "\n[train]\nlr = 1e-3\nepochs = 1\nmax_steps = 1\nsize = 32\nbatch = 8\ndevice = \"cpu\"\n");
  };
  const std::vector<std::string> run{"study", "run", folder / "study.toml", "-o", folder / "study"};
  write("\"images\"");
  expect_refusal(graft(run), "allow = [\"duplicates\"] }");
  EXPECT_FALSE(fs::exists(folder / "study/runs"));
  EXPECT_EQ(json::parse(read_text(folder / "study/leakage.json"))["shapes"]["duplicates"]["pairs"], 1);
  write("{ path = \"images\", allow = [\"duplicates\"] }");
  const Outcome allowed = graft(run);
  EXPECT_EQ(allowed.exit_code, 0) << allowed.err;
  const Outcome report = graft({"study", "report", folder / "study", "--no-pictures", "-q"});
  EXPECT_EQ(report.exit_code, 0) << report.err;
  EXPECT_NE(read_text(folder / "study/report.html").find("1 duplicate (1 held-out image, allowed by name)"),
            std::string::npos);
}

}  // namespace
}  // namespace graft::testing
