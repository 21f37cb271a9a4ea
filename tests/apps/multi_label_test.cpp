// Several labels per image in every verb that shows or writes them.
#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "data/files.h"
#include "program_testing.h"

namespace graft::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// The workshop's images in a CSV, beside their pattern labelled `odd` or not, by their numbers.
std::string write_list(const std::string& path) {
  std::string text = "path,labels,split\n";
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(Workshop::get().images()))
    if (entry.is_regular_file()) files.push_back(entry.path());
  std::ranges::sort(files);
  for (const fs::path& file : files) {
    const bool is_odd = file.stem().string().back() % 2 != 0;
    text += fmt::format("{},{}{},{}\n", file.string(), file.parent_path().filename().string(), is_odd ? "|odd" : "",
                        file.parent_path().parent_path().filename().string());
  }
  std::ofstream(path) << text;
  return path;
}

TEST(MultiLabel, ReachesEveryVerb) {
  const TemporaryFolder folder;
  const std::string list = write_list(folder / "list.csv"), run = folder / "run";
  const auto says = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  };
  const Outcome inspected = graft({"data", "inspect", list});
  EXPECT_TRUE(says(inspected.out, "any number of them per image")) << inspected.out;
  EXPECT_TRUE(says(inspected.out, "odd")) << inspected.out;

  const Outcome trained = graft(small_training(list, run, {"--max-steps", "2"}));
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_TRUE(says(trained.out, "validation AUC")) << trained.out;
  EXPECT_TRUE(says(trained.out, "subset accuracy")) << trained.out;
  EXPECT_TRUE(says(trained.out, "average precision  sensitivity")) << trained.out;

  const json evaluated = json::parse(graft({"evaluate", run, list, "--json"}).out);
  EXPECT_EQ(evaluated.at("classes").size(), 7U);
  expect_error(graft({"evaluate", run, Workshop::get().images()}), 1,
               "the model gives any number of classes per image");

  const std::string image = Workshop::get().one_image();
  const auto probabilities = [&](const std::string& model) {
    std::map<std::string, double> of;
    const json all = json::parse(graft({"predict", model, image, "--top", "7", "--json"}).out);
    for (const json& one : all.at("images")[0].at("top")) of[one.at("label")] = one.at("probability");
    return of;
  };
  const auto expected = probabilities(run);
  const json logits = json::parse(graft({"predict", run, image, "--json", "--logits"}).out).at("images")[0];
  for (const json& one : logits.at("top")) {
    const double logit = logits.at("logits")[one.at("index").get<std::size_t>()];
    EXPECT_NEAR(one.at("probability").get<double>(), 1 / (1 + std::exp(-logit)), 1e-9);
  }
  std::vector<std::string> answers;
  for (const auto& [name, probability] : expected)
    if (probability > 0.5) answers.push_back(name);
  EXPECT_EQ(logits.at("predicted").size(), answers.size());
  const std::string table = graft({"predict", run, image, "--top", "7", "--csv", "--quiet"}).out;
  EXPECT_EQ(table.substr(0, table.find('\n')), "path,rank,index,label,probability,predicted");
  const std::string plain = graft({"predict", run, image, "--top", "1"}).out;
  EXPECT_EQ(std::size_t(std::ranges::count(plain, '*')), answers.size()) << plain;
  const json explained =
      json::parse(graft({"explain", run, image, "--class", "odd", "-o", folder / "maps", "--json"}).out);
  EXPECT_NEAR(explained.at("images")[0].at("probability"), expected.at("odd"), 1e-5);

  // A safetensors file brings it along.
  ASSERT_EQ(graft({"export", run, "-o", folder / "m.safetensors"}).exit_code, 0);
  const Outcome imported =
      graft({"weights", "import", folder / "m.safetensors", "-o", folder / "m.h5", "--arch", "densenet121"});
  EXPECT_TRUE(says(imported.out, "7 classes, any number of them per image")) << imported.out << imported.err;
  EXPECT_EQ(probabilities(folder / "m.h5"), expected);
  ASSERT_EQ(graft({"export", run, "-o", folder / "m.pth"}).exit_code, 0);  // has no room for it
  ASSERT_EQ(
      graft({"weights", "import", folder / "m.pth", "-o", folder / "p.h5", "--arch", "densenet121", "--multi-label"})
          .exit_code,
      0);
  EXPECT_TRUE(
      json::parse(graft({"predict", folder / "p.h5", image, "--json"}).out).at("images")[0].contains("predicted"));
  EXPECT_EQ(json::parse(graft({"weights", "inspect", folder / "m.h5", "--json"}).out).at("model").at("task"),
            "multi-label");
  ASSERT_EQ(graft({"export", run, "-o", folder / "m.onnx"}).exit_code, 0);
  EXPECT_TRUE(says(read_text(folder / "m.onnx"), "before sigmoids"));
}

TEST(MultiLabel, StudiesCompareStrategiesOnIt) {
  const TemporaryFolder folder;
  write_list(folder / "list.csv");
  const auto study =
      [&](const std::string& of_study, const std::string& of_train) {
        std::ofstream(folder / "study.toml")
            << "[study]\nfrom_scratch = true\nnetworks = [\"densenet121\"]\nstrategies = [\"full\", \"linear-probe\"]\n"
            << "seeds = [1]\n"
            << of_study << "[study.datasets]\nlist = \"list.csv\"\n"
            << "[train]\nepochs = 1\nmax_steps = 1\nsize = 32\nbatch = 8\ndevice = \"cpu\"\n"
            << of_train;
        return graft({"study", "run", folder / "study.toml", "-o", folder / "study"});
      };
  expect_error(study("", "monitor = \"auto\"\n"), 2,
               "has any number of labels per image, of which macro accuracy says little early on");
  EXPECT_FALSE(fs::exists(folder / "study"));
  // All validation images of the same class: every cell would fail.
  std::string flat;
  std::istringstream lines(read_text(folder / "list.csv"));
  for (std::string line; std::getline(lines, line);)
    flat += (line.ends_with(",val") ? line.substr(0, line.find(',')) + ",odd,val" : line) + "\n";
  std::ofstream(folder / "list.csv") << flat;
  expect_error(study("", "monitor = \"auc\"\n"), 1,
               "train.monitor: of each class either all validation images or none");
  write_list(folder / "list.csv");
  const Outcome ran = study("folds = 2\nscore = \"auc\"\n", "monitor = \"auc\"\n");
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  const Outcome planned = graft({"study", "plan", folder / "study.toml"});
  EXPECT_EQ(planned.exit_code, 0) << planned.err;
  const std::string split = read_text(folder / "study/splits/list-fold-1.csv");
  EXPECT_EQ(split.substr(0, 25), "path,labels,split,group\n/");
  EXPECT_NE(split.find("|odd,"), std::string::npos);

  const Outcome reported = graft({"study", "report", folder / "study"});
  ASSERT_EQ(reported.exit_code, 0) << reported.err;
  const std::string page = read_text(folder / "study/report.html");
  for (const char* part : {"Each class by itself", "Recall of each class", "Means over classes and seeds"})
    EXPECT_NE(page.find(part), std::string::npos) << part;
  EXPECT_EQ(page.find("<h3>Confusion"), std::string::npos);
  EXPECT_NE(page.find("48 test images"), std::string::npos) << "those of both folds";
  const json report = json::parse(read_text(folder / "study/report.json"));
  const json& group = report.at("results").at(0);
  EXPECT_EQ(group.at("test_images"), 48);
  std::int64_t odd = 0;
  for (std::size_t c = 0; c < group.at("class_names").size(); ++c)
    if (group.at("class_names")[c] == "odd") odd = group.at("class_counts")[c];
  EXPECT_EQ(odd, 24);
  const json& cell = group.at("strategies")[0].at("cells")[0];
  EXPECT_EQ(cell.at("classes").size(), 7U);
  EXPECT_FALSE(cell.contains("confusion"));
}

}  // namespace
}  // namespace graft::testing
