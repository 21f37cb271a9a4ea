// What the program says before it works: help, versions, and one clear line for everything it cannot understand.
#include "tests/apps/program_testing.h"

namespace graft::testing {
namespace {

const std::vector<std::vector<std::string>> kVerbs{{"train"},
                                                   {"evaluate"},
                                                   {"predict"},
                                                   {"weights", "import"},
                                                   {"weights", "inspect"},
                                                   {"data", "inspect"},
                                                   {"strategies"},
                                                   {"devices"},
                                                   {"demo"},
                                                   {"find-lr"},
                                                   {"internals"},
                                                   {"profile"},
                                                   {"explain"},
                                                   {"export"},
                                                   {"study", "plan"},
                                                   {"study", "run"},
                                                   {"study", "status"},
                                                   {"study", "report"}};

TEST(Usage, EveryVerbExplainsItself) {
  for (std::vector<std::string> verb : kVerbs) {
    std::string name;
    for (const std::string& word : verb) name += " " + word;
    verb.push_back("--help");
    const Outcome outcome = graft(verb);
    EXPECT_EQ(outcome.exit_code, 0) << name;
    EXPECT_EQ(outcome.err, "") << name;
    EXPECT_NE(outcome.out.find("Usage: graft" + name), std::string::npos) << outcome.out;
  }
}

TEST(Usage, HelpListsTheVerbsThereAre) {
  const Outcome outcome = graft({"--help"});
  EXPECT_EQ(outcome.exit_code, 0);
  for (const std::vector<std::string>& verb : kVerbs) {
    EXPECT_NE(outcome.out.find("\n  " + verb.front() + " "), std::string::npos) << verb.front();
  }
}

TEST(Usage, VersionNamesWhatItWasBuiltWith) {
  const Outcome outcome = graft({"--version"});
  EXPECT_EQ(outcome.exit_code, 0);
  for (const char* part : {"graft 0.", "compiler ", "oneDNN ", "HDF5 ", "CUDA ", "cuDNN "}) {
    EXPECT_NE(outcome.out.find(part), std::string::npos) << part << " in " << outcome.out;
  }
}

TEST(Usage, MistakesGetOneLineAndTheNearestName) {
  expect_error(graft({}), 2, "no command given");
  expect_error(graft({"trian"}), 2, "did you mean 'train'?");
  expect_error(graft({"weights"}), 2, "graft weights --help");
  expect_error(graft({"weights", "imprt"}), 2, "did you mean 'import'?");
  expect_error(graft({"train", "--ephocs", "3"}), 2, "did you mean '--epochs'?");
  expect_error(graft({"train", "--epochs=3", "--learning-rate=1"}), 2, "unknown option '--learning-rate'");
  expect_error(graft({"devices", "extra"}), 2, "unknown argument 'extra'");
  expect_error(graft({"train", "data", "--lr"}), 2, "--lr");
  expect_error(graft({"train", "data", "--lr", "fast"}), 2, "train.lr: expects a number, got 'fast'");
  expect_error(graft({"train", "data", "--lr", "-1"}), 2, "train.lr: expects more than 0, got -1");
  expect_error(graft({"train", "-o", "/nowhere/run", "--resume"}), 1, "/nowhere/run holds no run to continue");
  expect_error(graft({"study", "status", "/"}), 2, "/ is a folder; name the study's file");
  expect_error(graft({"train", "data", "--epochs", "2.5"}), 2, "train.epochs: expects a whole number");
  expect_error(graft({"train", "data", "--optimizer", "adamm"}), 2, "did you mean 'adam'?");
  expect_error(graft({"train", "data", "--strategy", "linear-prob"}), 2, "did you mean 'linear-probe'?");
  expect_error(graft({"strategies", "ful"}), 2, "did you mean 'full'?");
  expect_error(graft({"predict", "m.h5", "i.png", "--top", "0"}), 2, "--top: expects at least 1");
  expect_error(graft({"predict", "m.h5", "i.png", "--json", "--csv"}), 2, "exclude each other");
  expect_error(graft({"evaluate", "m.h5", "d", "--split", "tset"}), 2, "did you mean 'test'?");
  expect_error(graft({"predict", "m.h5", "i.png", "--device", "gpu"}), 2, "choose auto, cpu, cuda");
  for (const char* precision : {"tf32", "f16", "fp16"})
    expect_error(graft({"predict", "m.h5", "i.png", "--device", "cpu", "--precision", precision}), 2,
                 "use --precision f32 or bf16, or a GPU");
  expect_error(
      graft({"train", "d", "-o", "r", "--from-scratch", "--device", "cpu", "--winograd", "--precision", "bf16"}), 2,
      "train.winograd: an algorithm for f32");
  for (const char* verb : {"predict", "evaluate"})
    expect_error(graft({verb, "m.h5", "i", "--device", "cpu", "--winograd", "--precision", "bf16"}), 2,
                 "train.winograd: an algorithm for f32");
  expect_error(graft({"predict", "m.h5", "i.png", "--device", "reference", "--precision", "tf32"}), 2,
               "use f32, bf16 or f16");
  expect_error(graft({"predict", "m.h5", "i.png", "--precision", "bf61"}), 2, "did you mean 'bf16'?");
}

TEST(Usage, WhatIsNeededIsNamed) {
  expect_error(graft({"train"}), 2, "no data given");
  expect_error(graft({"train", "data"}), 2, "-o RUN");
  expect_error(graft({"train", "data", "-o", "run"}), 2, "--weights MODEL.h5");
  expect_error(graft({"train", "d", "-o", "r", "--weights", "w.h5", "--from-scratch"}), 2, "exclude each other");
  expect_error(graft({"evaluate"}), 2, "no model given");
  expect_error(graft({"evaluate", "model.h5"}), 2, "no data given");
  expect_error(graft({"predict", "model.h5"}), 2, "no images given");
  expect_error(graft({"explain"}), 2, "no model given");
  expect_error(graft({"explain", "model.h5", "-o", "maps"}), 2, "no images given");
  expect_error(graft({"explain", "model.h5", "i.png"}), 2, "-o DIR");
  expect_error(graft({"export"}), 2, "no model given");
  expect_error(graft({"export", "model.h5"}), 2, "-o FILE.onnx");
  expect_error(graft({"export", "model.h5", "-o", "model.pkl"}), 2, ".onnx, .safetensors or .pth");
  expect_error(graft({"weights", "import", "in.pth", "--arch", "resnet50"}), 2, "-o OUT.h5");
  expect_error(graft({"weights", "import", "in.pth", "-o", "out.h5"}), 2, "--arch");
  expect_error(graft({"weights", "inspect"}), 2, "no file given");
  expect_error(graft({"data", "inspect"}), 2, "no data given");
}

TEST(Usage, WhatIsNotThereFailsWithCodeOne) {
  expect_error(graft({"weights", "inspect", "/nowhere/w.pth"}), 1, "/nowhere/w.pth");
  expect_error(graft({"data", "inspect", "/nowhere"}), 1, "/nowhere");
  expect_error(graft({"predict", "/nowhere/m.h5", "/nowhere/i.png"}), 1, "/nowhere");
  expect_error(graft({"explain", "/nowhere/m.h5", "/nowhere/i.png", "-o", "/tmp/never"}), 1, "/nowhere");
  expect_error(graft({"export", "/nowhere/m.h5", "-o", "/tmp/never.onnx"}), 1, "/nowhere");
  expect_error(graft({"train", "/nowhere", "-o", "/tmp/never", "--weights", "/nowhere/m.h5"}), 1, "/nowhere");
  expect_error(graft({"train", "data", "--config", "/nowhere/c.toml"}), 1, "/nowhere/c.toml");
}

TEST(Usage, CudaSaysWhyItCannotBeUsed) {
  const Outcome devices = graft({"devices", "--json"});
  if (devices.out.find("\"cuda\",\"usable\":false") == std::string::npos) GTEST_SKIP() << "this machine has a GPU";
  const Outcome outcome = graft({"predict", "m.h5", "i.png", "--device", "cuda"});
  expect_error(outcome, 1, "cpu");
}

}  // namespace
}  // namespace graft::testing
