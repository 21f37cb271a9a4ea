// Where the program writes: results on stdout and nothing else there, colours only for people, pipes that close.
#include <signal.h>

#include <nlohmann/json.hpp>

#include "apps/progress_display.h"
#include "data/files.h"
#include "data/safetensors.h"
#include "strategies/monitor.h"
#include "tests/apps/program_testing.h"

namespace graft::testing {
namespace {

using nlohmann::json;

/// Exactly one JSON object, on one line.
json only_object(const Outcome& outcome) {
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 1) << outcome.out;
  json parsed = json::parse(outcome.out, nullptr, false);
  EXPECT_TRUE(parsed.is_object()) << outcome.out;
  return parsed;
}

TEST(Output, DevicesAndStrategiesAsJson) {
  const json devices = only_object(graft({"devices", "--json"}));
  ASSERT_GE(devices["devices"].size(), 3u);
  for (const json& device : devices["devices"]) {
    EXPECT_NE(device["usable"].get<bool>(), device["description"].get<std::string>().empty()) << device;
    EXPECT_NE(device["usable"].get<bool>(), !device["reason"].get<std::string>().empty()) << device;
  }
  const json strategies = only_object(graft({"strategies", "--json"}));
  EXPECT_EQ(strategies["strategies"][0]["name"], "full");
  EXPECT_EQ(only_object(graft({"strategies", "linear-probe", "--json"}))["name"], "linear-probe");
}

TEST(Output, PredictAsJson) {
  const Workshop& shop = Workshop::get();
  const Outcome outcome = graft({"predict", shop.model(), shop.one_image(), shop.images() + "/val/waves", "--top", "2",
                                 "--logits", "--json", "--device", "cpu"});
  const json all = only_object(outcome);
  EXPECT_EQ(all["model"], shop.model());
  ASSERT_EQ(all["images"].size(), 3u);
  EXPECT_EQ(all["images"][0]["path"], shop.one_image());
  for (const json& image : all["images"]) {
    ASSERT_EQ(image["top"].size(), 2u);
    ASSERT_EQ(image["logits"].size(), 6u);
    // The most probable class is the one with the largest logit, and its probability is the softmax of that.
    double largest = -1e300, sum = 0;
    for (const json& logit : image["logits"]) largest = std::max(largest, logit.get<double>());
    for (const json& logit : image["logits"]) sum += std::exp(logit.get<double>() - largest);
    const std::size_t index = image["top"][0]["index"];
    EXPECT_EQ(image["logits"][index].get<double>(), largest);
    EXPECT_NEAR(image["top"][0]["probability"].get<double>(), 1 / sum, 1e-9);
    EXPECT_GE(image["top"][0]["probability"], image["top"][1]["probability"]);
  }
  const std::string label = all["images"][0]["top"][0]["label"];
  EXPECT_TRUE(label == "circles" || label == "crosses" || label == "honeycomb" || label == "spiral" ||
              label == "triangles" || label == "waves")
      << label;
  EXPECT_FALSE(
      only_object(graft({"predict", shop.model(), shop.one_image(), "--json"}))["images"][0].contains("logits"));
}

TEST(Output, PredictAsCsvAndAsText) {
  const Workshop& shop = Workshop::get();
  const Outcome csv = graft({"predict", shop.model(), shop.one_image(), "--top", "3", "--csv", "--quiet"});
  EXPECT_EQ(csv.exit_code, 0) << csv.err;
  EXPECT_EQ(csv.err, "");
  EXPECT_TRUE(csv.out.starts_with("path,rank,index,label,probability\n" + shop.one_image() + ",1,")) << csv.out;
  EXPECT_EQ(std::count(csv.out.begin(), csv.out.end(), '\n'), 4);
  const Outcome text = graft({"predict", shop.model(), shop.one_image()});
  EXPECT_EQ(std::count(text.out.begin(), text.out.end(), '\n'), 6) << text.out;  // the path and five classes
}

TEST(Output, PredictAnswersForTheGoodImagesAmongBadOnes) {
  const Workshop& shop = Workshop::get();
  const TemporaryFolder folder;
  const std::string empty = folder / "empty.png", text = folder / "text.png";
  write_atomically(empty, "");
  write_atomically(text, "no picture\n");

  const Outcome one = graft({"predict", shop.model(), text, shop.one_image(), "--json", "--quiet"});
  EXPECT_EQ(one.exit_code, 1);
  const json answers = json::parse(one.out)["images"];
  ASSERT_EQ(answers.size(), 1u);
  const Outcome twice = graft({"predict", shop.model(), shop.one_image(), shop.one_image(), "--json"});  // a batch of 2
  EXPECT_EQ(answers[0], json::parse(twice.out)["images"][1]);
  EXPECT_TRUE(one.err.starts_with("graft: error: predict: ")) << one.err;
  EXPECT_NE(one.err.find(text), std::string::npos) << one.err;
  EXPECT_EQ(std::count(one.err.begin(), one.err.end(), '\n'), 1) << one.err;

  const Outcome two = graft({"predict", shop.model(), text, shop.one_image(), empty, "--csv", "--quiet"});
  EXPECT_EQ(two.exit_code, 1);
  EXPECT_EQ(std::count(two.out.begin(), two.out.end(), '\n'), 6) << two.out;  // the header and five classes
  for (const std::string& part : {text, empty, std::string("graft: error: predict: 2 of 3 images cannot be read")})
    EXPECT_NE(two.err.find(part), std::string::npos) << two.err;
}

TEST(Output, EvaluateAsJsonAndAsText) {
  const Workshop& shop = Workshop::get();
  const json scores = only_object(graft({"evaluate", shop.model(), shop.images(), "--split", "val", "--json"}));
  EXPECT_EQ(scores["n"], 12);
  for (const char* key : {"loss", "accuracy", "macro_accuracy", "macro_f1", "kappa", "auc", "average_precision",
                          "weighted_f1", "sensitivity", "specificity", "brier", "calibration_error"}) {
    EXPECT_TRUE(scores.contains(key)) << key;
  }
  EXPECT_EQ(scores["confusion"].size(), 6u);
  const Outcome text = graft({"evaluate", shop.model(), shop.images(), "--quiet"});
  EXPECT_NE(text.out.find("test: 12 images"), std::string::npos) << text.out << text.err;
  EXPECT_EQ(text.err, "");
}

TEST(Output, DataInspectAsJsonAndAsText) {
  const Workshop& shop = Workshop::get();
  const json report = only_object(graft({"data", "inspect", shop.images(), "--json"}));
  EXPECT_EQ(report["images"], 48);
  EXPECT_EQ(report["counts"]["train"]["spiral"], 4);
  EXPECT_EQ(report["sizes"][0], (json{{"width", 36}, {"height", 36}, {"images", 48}}));
  EXPECT_EQ(report["duplicates"].size(), 0u);
  EXPECT_EQ(report["unreadable"].size(), 0u);
  const Outcome text = graft({"data", "inspect", shop.images()});
  EXPECT_NE(text.out.find("48 images, 6 classes"), std::string::npos) << text.out;
}

TEST(Output, WeightsInspectAsJsonAndAsText) {
  const Workshop& shop = Workshop::get();
  const json report = only_object(graft({"weights", "inspect", shop.model(), "--json"}));
  EXPECT_EQ(report["format"], "graft-model");
  EXPECT_EQ(report["architecture"], "densenet121");
  EXPECT_EQ(report["num_classes"], 6);
  EXPECT_EQ(report["missing"].size(), 0u);
  EXPECT_EQ(report["tensors"].size(), 606u);  // 364 parameters and 2 x 121 running statistics
  const Outcome text = graft({"weights", "inspect", shop.model()});
  EXPECT_NE(text.out.find("features.conv0.weight"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("[64,3,7,7]"), std::string::npos);
  EXPECT_NE(text.out.find(report["values_sha256"].get<std::string>()), std::string::npos);
}

TEST(Output, WeightsInspectShowsTheFirstOfManyClassNames) {
  const TemporaryFolder folder;
  json names = json::array();
  for (int i = 0; i < 1000; ++i) names.push_back("class number " + std::to_string(i));
  WeightTable weights;
  weights.add({.name = "a", .shape = {2}, .values = {1, 2}});
  weights.metadata = {{"class_names", names.dump()}, {"licence", std::string(1000, 'x')}, {"stride_on", "3x3"}};
  write_safetensors(folder / "many.safetensors", weights);

  const Outcome text = graft({"weights", "inspect", folder / "many.safetensors"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_NE(text.out.find("\n  class_names: \"class number 0\", \"class number 1\", \"class number 2\", … "
                          "(1000; --json has all)\n"),
            std::string::npos)
      << text.out;
  EXPECT_NE(text.out.find("xxx… (1000 bytes; --json has all)\n"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("\n  stride_on: 3x3\n"), std::string::npos) << text.out;
  EXPECT_LT(text.out.size(), 2000u);

  const json all = only_object(graft({"weights", "inspect", folder / "many.safetensors", "--json"}));
  EXPECT_EQ(all["metadata"]["class_names"], names.dump());
  EXPECT_EQ(all["metadata"]["licence"], std::string(1000, 'x'));
}

TEST(Output, DataInspectSaysWhatUnreadableImagesMeanForTraining) {
  const TemporaryFolder folder;
  const std::string images = folder / "images";
  std::filesystem::copy(Workshop::get().images(), images, std::filesystem::copy_options::recursive);
  EXPECT_NE(graft({"data", "inspect", images}).out.find("\nunreadable  0\n"), std::string::npos);
  write_atomically(images + "/train/spiral/001.png", std::string_view("broken"));
  const Outcome text = graft({"data", "inspect", images});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_NE(text.out.find("\nunreadable  1, among those counted above; graft train refuses this unless --skip-bad "
                          "leaves them out\n  train/spiral/001.png: "),
            std::string::npos)
      << text.out;
}

TEST(Output, ColoursAreForTerminalsAlone) {
  const std::string escape = "\033[";
  const Call plain{.arguments = {"strategies"}};
  EXPECT_EQ(run(plain).out.find(escape), std::string::npos);
  Call on_terminal{.arguments = {"strategies"}, .on_terminal = true};
  EXPECT_NE(run(on_terminal).out.find(escape), std::string::npos);
  on_terminal.environment = {{"NO_COLOR", "1"}};
  EXPECT_EQ(run(on_terminal).out.find(escape), std::string::npos);
  on_terminal.environment = {{"TERM", "dumb"}};
  EXPECT_EQ(run(on_terminal).out.find(escape), std::string::npos);
}

TEST(Output, ABarOnATerminalAndALinePerEpochElsewhere) {
  const Workshop& shop = Workshop::get();
  const TemporaryFolder folder;
  Call training{.arguments = small_training(shop.images(), folder / "bar", {"--epochs", "1"}), .on_terminal = true};
  const Outcome seen = run(training);
  EXPECT_EQ(seen.exit_code, 0) << seen.out;
  EXPECT_NE(seen.out.find("epoch 1/1 train ["), std::string::npos) << seen.out;
  EXPECT_NE(seen.out.find("\r\033[K"), std::string::npos);

  const Outcome plain = graft(small_training(shop.images(), folder / "plain", {"--epochs", "2"}));
  EXPECT_EQ(plain.err.find('\r'), std::string::npos) << plain.err;
  EXPECT_NE(plain.err.find("\nepoch 1/2  lr "), std::string::npos) << plain.err;
  EXPECT_NE(plain.err.find("\nepoch 2/2  lr "), std::string::npos) << plain.err;

  const Outcome quiet = graft(small_training(shop.images(), folder / "quiet", {"--epochs", "1", "--quiet", "--json"}));
  EXPECT_EQ(quiet.err, "");
  EXPECT_EQ(only_object({quiet.exit_code, json::parse(quiet.out).dump() + "\n", ""})["test"]["n"], 12);
}

TEST(Output, AnEpochsLineSaysWhatItsNumbersAre) {
  const EpochReport report{.epoch = 3,
                           .epochs = 30,
                           .lr = 9.8e-4,
                           .train_loss = 0.4321,
                           .train_accuracy = 0.812,
                           .val_loss = 0.5123,
                           .val_macro_accuracy = 0.781,
                           .is_best = true,
                           .seconds = 12.3,
                           .images_per_second = 41};
  EXPECT_EQ(epoch_text(report),
            "epoch  3/30  lr 9.80e-04  train loss 0.4321 acc 0.812  val loss 0.5123 macro acc 0.781  12.3 s  "
            "41 images/s  best");
  EpochReport monitored = report;
  monitored.monitor = &monitor_named("auc"), monitored.val_auc = 0.856;
  EXPECT_TRUE(epoch_text(monitored).find(" macro acc 0.781 AUC 0.856  12.3 s") != std::string::npos)
      << epoch_text(monitored);
}

TEST(Output, FeaturesThatAreComputedOnceAreTimed) {
  const Workshop& shop = Workshop::get();
  const TemporaryFolder folder;
  std::vector<std::string> arguments{
      "train",    shop.images(), "--weights", shop.model(), "--strategy", "linear-probe", "-o",        folder / "run",
      "--epochs", "1",           "--batch",   "8",          "--device",   "cpu",          "--threads", "1"};
  const Outcome outcome = graft(arguments);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const std::size_t line = outcome.err.find("\nfeatures: 36 images in ");  // 24 to train on and 12 of validation
  ASSERT_NE(line, std::string::npos) << outcome.err;
  EXPECT_LT(line, outcome.err.find("\nepoch 1/1  lr ")) << outcome.err;
  EXPECT_EQ(outcome.err.find("\nfeatures: ", line + 1), std::string::npos) << outcome.err;
}

TEST(Output, AClosedPipeIsNoError) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  close(ends[0]);
  const Outcome outcome = run({.arguments = {"--help"}, .stdout_path = "/dev/fd/" + std::to_string(ends[1])});
  close(ends[1]);
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.err, "");
}

TEST(Output, AFullDiskIsOne) {
  expect_error(run({.arguments = {"--help"}, .stdout_path = "/dev/full"}), 1, "No space left");
}

}  // namespace
}  // namespace graft::testing
