// The verbs at work, end to end: train, interrupt, resume, refuse to overwrite, import; and bad input that leaves
// nothing behind.
#include <signal.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "tests/apps/program_testing.h"

namespace graft::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

void expect_no_temporaries(const std::string& folder) {
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    EXPECT_EQ(entry.path().filename().string().find(".tmp."), std::string::npos) << entry.path();
  }
}

TEST(Work, ARunHoldsWhatTheContractNames) {
  const TemporaryFolder folder;
  const std::string output = folder / "run";
  const Outcome outcome = graft(small_training(Workshop::get().images(), output, {"--epochs", "2", "--json"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(json::parse(outcome.out), json::parse(read_text(output + "/summary.json")));
  for (const char* name : {"config.toml", "environment.json", "split.csv", "epochs.csv", "predictions.csv",
                           "summary.json", "best.h5", "last.h5"}) {
    EXPECT_TRUE(fs::exists(output + "/" + name)) << name;
  }
  EXPECT_TRUE(read_text(output + "/split.csv").starts_with("path,label,split,group\n"));
  EXPECT_TRUE(read_text(output + "/predictions.csv").starts_with("path,split,label,predicted,p_circles,"));
  // The recorded configuration is the resolved one: reading it back gives the same run.
  const Outcome again = graft({"train", "--config", output + "/config.toml", "-o", folder / "again", "--quiet"});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(read_text(output + "/predictions.csv"), read_text((folder / "again") + "/predictions.csv"));

  expect_error(graft(small_training(Workshop::get().images(), output, {"--epochs", "2"})), 1, "--overwrite");
  const json evaluated = json::parse(graft({"evaluate", output, Workshop::get().images(), "--json"}).out);
  EXPECT_NEAR(evaluated["loss"].get<double>(), json::parse(outcome.out)["test"]["loss"].get<double>(), 1e-5);
}

TEST(Work, InterruptedRunsResumeToTheSameBits) {
  const TemporaryFolder folder;
  const auto arguments = [&](const char* name) {
    return small_training(Workshop::get().images(), folder / name, {"--epochs", "4", "--patience", "0"});
  };
  ASSERT_EQ(graft(arguments("whole")).exit_code, 0);
  const Outcome stopped = run({.arguments = arguments("parts"), .signal_after = "epoch 2/4  lr", .signal = SIGINT});
  EXPECT_EQ(stopped.exit_code, 130) << stopped.err;
  EXPECT_NE(stopped.err.find("--resume"), std::string::npos) << stopped.err;
  EXPECT_FALSE(fs::exists(folder / "parts/summary.json"));
  // Everything else is in the run's own config.toml.
  const Outcome resumed = graft({"train", "-o", folder / "parts", "--resume"});
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_EQ(read_text(folder / "whole/predictions.csv"), read_text(folder / "parts/predictions.csv"));
  EXPECT_EQ(graft({"train", "-o", folder / "parts", "--resume"}).exit_code, 0);
  expect_no_temporaries(folder / "parts");
}

TEST(Work, AFinishedRunThatGoesOnSaysWhatItIsNot) {
  const TemporaryFolder folder;
  ASSERT_EQ(graft(small_training(Workshop::get().images(), folder / "run", {"--epochs", "1"})).exit_code, 0);
  const Outcome longer = graft({"train", "-o", folder / "run", "--resume", "--epochs", "2"});
  ASSERT_EQ(longer.exit_code, 0) << longer.err;
  EXPECT_NE(longer.err.find("train.epochs was 1 and is now 2"), std::string::npos) << longer.err;
  EXPECT_NE(longer.err.find("was finished and tested before"), std::string::npos) << longer.err;
  const Outcome finished = graft({"train", "-o", folder / "run", "--resume"});
  EXPECT_EQ(finished.err.find("tested before"), std::string::npos) << finished.err;
}

TEST(Work, TheWeightsDecideTheArchitectureThatIsRecorded) {
  const Workshop& shop = Workshop::get();
  const TemporaryFolder folder;
  const auto from_weights = [&](const std::string& output, std::vector<std::string> more) {
    std::vector<std::string> arguments{"train",   shop.images(), "--weights", shop.model(), "-o",        output,
                                       "--batch", "8",           "--device",  "cpu",        "--threads", "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return graft(arguments);
  };
  const auto named_in = [](const std::string& run) {
    const std::string config = read_text(run + "/config.toml");
    const std::size_t at = config.find("\narch = ") + 1;
    return config.substr(at, config.find('\n', at) - at);
  };
  const auto rename = [&](const std::string& to) {
    std::string config = read_text(folder / "run/config.toml");
    config.replace(config.find("arch = \"densenet121\""), 20, "arch = \"" + to + "\"");
    write_atomically(folder / "run/config.toml", std::string_view(config));
  };
  for (std::vector<std::string> arch : {std::vector<std::string>{"--arch", "resnet50"}, {"--set", "train.arch=vgg19"}})
    expect_error(from_weights(folder / "none", arch), 2, shop.model() + " holds a densenet121, not a ");
  EXPECT_FALSE(fs::exists(folder / "none"));

  const Outcome none = from_weights(folder / "run", {"--max-steps", "0"});
  ASSERT_EQ(none.exit_code, 0) << none.err;
  EXPECT_NE(none.out.find("no steps: nothing was tested"), std::string::npos) << none.out;
  EXPECT_EQ(named_in(folder / "run"), "arch = \"densenet121\"");
  // A file always names one: the default says nothing, another is overruled with a note.
  for (const std::string name : {"resnet50", "vgg19"}) {
    rename(name);
    const Outcome again = graft({"train", "--config", folder / "run/config.toml", "-o", folder / name});
    ASSERT_EQ(again.exit_code, 0) << again.err;
    EXPECT_EQ(named_in(folder / name), "arch = \"densenet121\"");
    EXPECT_EQ(again.err.find("train.arch is vgg19 in a file") != std::string::npos, name == "vgg19") << again.err;
    fs::copy_file(folder / name + "/config.toml", folder / "run/config.toml", fs::copy_options::overwrite_existing);
  }
  // A run goes on whatever its record or a file names, but not against the command line.
  rename("resnet50");
  const Outcome goes_on =
      graft({"train", "-o", folder / "run", "--resume", "--max-steps", "1", "--config", folder / "vgg19/config.toml"});
  EXPECT_EQ(goes_on.exit_code, 0) << goes_on.err;
  expect_error(graft({"train", "-o", folder / "run", "--resume", "--max-steps", "2", "--arch", "vgg19"}), 2,
               "last.h5 holds a densenet121, not a vgg19");
}

TEST(Work, PrecisionIsSaidRecordedAndKept) {
  const TemporaryFolder folder;
  const std::string output = folder / "run";
  const Outcome first = graft(small_training(Workshop::get().images(), output,
                                             {"--device", "reference", "--precision", "f16", "--max-steps", "1"}));
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_NE(first.err.find("precision: f16, float64 masters"), std::string::npos) << first.err;
  EXPECT_NE(read_text(output + "/config.toml").find("precision = \"f16\""), std::string::npos);
  EXPECT_EQ(json::parse(read_text(output + "/summary.json"))["activations"], "f16");
  expect_error(graft({"train", "-o", output, "--resume", "--max-steps", "2", "--precision", "bf16"}), 1,
               "train.precision was \"f16\" and is now \"bf16\"");
  expect_error(graft({"train", "-o", output, "--resume", "--max-steps", "2", "--device", "cpu"}), 2,
               "or a GPU; this run goes on where there is f16, with which it began");

  const Outcome plain =
      graft(small_training(Workshop::get().images(), folder / "plain", {"--device", "cpu", "--max-steps", "1"}));
  ASSERT_EQ(plain.exit_code, 0) << plain.err;
  EXPECT_NE(plain.err.find("precision: f32\n"), std::string::npos) << plain.err;
  EXPECT_NE(read_text((folder / "plain") + "/config.toml").find("precision = \"f32\""), std::string::npos);
}

TEST(Work, TerminatedProgramsSayOneHundredAndThirty) {
  const Workshop& shop = Workshop::get();
  const TemporaryFolder folder;
  const Outcome outcome = run({.arguments = small_training(shop.images(), folder / "run", {"--epochs", "50"}),
                               .signal_after = "epoch  1/50  lr",
                               .signal = SIGTERM});
  EXPECT_EQ(outcome.exit_code, 130) << outcome.err;
  EXPECT_TRUE(fs::exists(folder / "run/last.h5"));
}

TEST(Work, BadInputIsOneLineAndLeavesNothing) {
  const Workshop& shop = Workshop::get();
  const TemporaryFolder folder;
  const std::string damaged = folder / "damaged.h5", text = folder / "text.png", corrupt = folder / "set";
  const std::vector<std::uint8_t> model = read_file(shop.model());
  write_atomically(damaged, std::span(model).first(model.size() / 2));
  write_atomically(text, std::string_view("not an image"));
  expect_error(graft({"predict", damaged, shop.one_image()}), 1, "damaged.h5");
  expect_error(graft({"predict", shop.model(), text}), 1, "text.png");
  expect_error(graft({"predict", folder / "gone", shop.one_image()}), 1, "gone: no such model file or run directory");
  expect_error(graft({"weights", "import", text, "-o", folder / "out.h5", "--arch", "resnet50"}), 1, "text.png");
  EXPECT_FALSE(fs::exists(folder / "out.h5"));

  fs::copy(shop.images(), corrupt, fs::copy_options::recursive);
  write_atomically(fs::path(corrupt) / "train/spiral/001.png", std::string_view("broken"));
  const Outcome refused = graft(small_training(corrupt, folder / "refused", {"--epochs", "1"}));
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.err.find("001.png"), std::string::npos) << refused.err;
  EXPECT_FALSE(fs::exists(folder / "refused"));
  const Outcome skipped = graft(small_training(corrupt, folder / "skipped", {"--max-steps", "0", "--skip-bad"}));
  EXPECT_EQ(skipped.exit_code, 0) << skipped.err;
  EXPECT_NE(skipped.err.find("train/spiral/001.png"), std::string::npos) << skipped.err;

  expect_error(graft(small_training(shop.images(), "/dev/null/run")), 1, "/dev/null/run");
  expect_error(graft({"weights", "import", shop.model(), "-o", "/dev/null/out.h5", "--arch", "densenet121"}), 1, "");
  expect_no_temporaries(folder / "skipped");
}

TEST(Work, ImportReplacesNothingButModelFiles) {
  const TemporaryFolder folder;
  const Workshop& shop = Workshop::get();
  ASSERT_EQ(graft({"export", shop.model(), "-o", folder / "in.pth"}).exit_code, 0);
  const auto import_to = [&](const std::string& output) {
    return graft({"weights", "import", folder / "in.pth", "-o", output, "--arch", "densenet121"});
  };
  write_atomically(folder / "study.toml", std::string_view("mine"));
  expect_error(import_to(folder / "study.toml"), 2, "study.toml exists and is no graft model file");
  EXPECT_EQ(read_text(folder / "study.toml"), "mine");
  for (int time = 0; time < 2; ++time) {
    const Outcome outcome = import_to(folder / "out.h5");
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_NE(outcome.err.find("taken for granted, since the file does not say: images are normalised as in"),
              std::string::npos)
        << outcome.err;
  }
  EXPECT_EQ(graft({"weights", "import", folder / "in.pth", "-o", folder / "out.h5", "--arch", "densenet121",
                   "--preprocess", "torch"})
                .err,
            "");
}

TEST(Work, ImportSaysWhatDoesNotFit) {
  const std::string fixture = std::string(GRAFT_SOURCE_DIR) + "/tests/data/fixtures/zip.pth";
  const TemporaryFolder folder;
  const Outcome outcome = graft({"weights", "import", fixture, "-o", folder / "out.h5", "--arch", "resnet50"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_NE(outcome.err.find("missing"), std::string::npos) << outcome.err;
  const std::size_t last_line = outcome.err.rfind('\n', outcome.err.size() - 2);
  EXPECT_EQ(outcome.err.substr(last_line + 1, 14), "graft: error: ") << outcome.err;
  EXPECT_FALSE(fs::exists(folder / "out.h5"));
}

/// The published numbers for a photograph, through import, model file and prediction.
TEST(Work, RealWeightsClassifyARealPhotograph) {
  const char* given = std::getenv("GRAFT_TEST_DATA");
  const fs::path data = given != nullptr ? given : fs::path(GRAFT_SOURCE_DIR).parent_path() / "shared/data";
  const fs::path weights = data / "weights/resnet50_imagenet_keras_v1_f16.safetensors";
  if (!fs::exists(weights)) GTEST_SKIP() << "no " << weights << "; set GRAFT_TEST_DATA";
  const TemporaryFolder folder;
  const std::string cat = data / "photos/chelsea.png";
  const auto probability = [&](const std::string& stride) {
    const std::string model = folder / ("r50_" + stride + ".h5");
    const Outcome imported =
        graft({"weights", "import", weights, "-o", model, "--arch", "resnet50", "--stride-on", stride, "--preprocess",
               "caffe", "--labels", data / "weights/imagenet_labels.json"});
    EXPECT_EQ(imported.exit_code, 0) << imported.err;
    const json top =
        json::parse(graft({"predict", model, cat, "--json", "--device", "cpu"}).out)["images"][0]["top"][0];
    EXPECT_EQ(top["index"], 285);
    return top["probability"].get<double>();
  };
  EXPECT_NEAR(probability("1x1"), 0.784, 0.01);  // He's network: stride on the 1x1 convolutions
  EXPECT_NEAR(probability("3x3"), 0.665, 0.01);  // the wrong strides are seen
}

}  // namespace
}  // namespace graft::testing
