// One setting, three spellings: flag, --set, TOML; their order; --print-config that reads back.
#include <fstream>

#include "tests/apps/program_testing.h"

namespace graft::testing {
namespace {

std::string config_of(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "train");
  arguments.push_back("--print-config");
  const Outcome outcome = graft(arguments);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  return outcome.out;
}

bool has_line(const std::string& text, const std::string& line) {
  return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}

class Settings : public ::testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
    return folder_ / name;
  }
  TemporaryFolder folder_;
};

TEST_F(Settings, ThreeSpellingsOfOneKey) {
  const std::string by_flag = config_of({"--lr", "0.02", "--no-shuffle", "--strategy", "linear-probe"});
  const std::string by_set =
      config_of({"--set", "train.lr=0.02", "--set", "train.shuffle=false", "--set", "strategy.name=linear-probe"});
  const std::string by_file = config_of(
      {"--config", file("a.toml", "[train]\nlr = 2e-2\nshuffle = false\n[strategy]\nname = \"linear-probe\"\n")});
  EXPECT_TRUE(has_line(by_flag, "lr = 0.02")) << by_flag;
  EXPECT_TRUE(has_line(by_flag, "shuffle = false"));
  EXPECT_TRUE(has_line(by_flag, "name = \"linear-probe\""));
  EXPECT_EQ(by_flag, by_set);
  EXPECT_EQ(by_flag, by_file);
}

TEST_F(Settings, FlagsWinOverSetAndThatOverTheFile) {
  const std::string path = file("a.toml", "[train]\nlr = 0.1\nepochs = 7\nbatch = 5\n");
  const std::string text =
      config_of({"--lr", "0.3", "--config", path, "--set", "train.lr=0.2", "--set", "train.epochs=8"});
  EXPECT_TRUE(has_line(text, "lr = 0.3")) << text;
  EXPECT_TRUE(has_line(text, "epochs = 8"));
  EXPECT_TRUE(has_line(text, "batch = 5"));
}

TEST_F(Settings, LaterFilesAndLaterSetsWin) {
  const std::string first = file("a.toml", "[train]\nlr = 0.1\n"), second = file("b.toml", "[train]\nlr = 0.2\n");
  EXPECT_TRUE(has_line(config_of({"--config", first, "--config", second}), "lr = 0.2"));
  EXPECT_TRUE(has_line(config_of({"--set", "train.lr=0.1", "--set", "train.lr=0.4"}), "lr = 0.4"));
}

TEST_F(Settings, PrintConfigReadsBack) {
  const std::string odd = "a \"quoted\" \\ name\twith tab, ünicode";
  const std::string text =
      config_of({odd, "-o", "run", "--weights", "w.h5", "--lr", "1.2345678901234568e-5", "--epochs", "12",
                 "--no-shuffle", "--strategy", "linear-probe", "--set", "strategy.head=all", "--set",
                 "train.rotation_degrees=10", "--seed", "9007199254740993"});
  EXPECT_EQ(config_of({"--config", file("printed.toml", text)}), text);
  EXPECT_TRUE(has_line(text, "seed = 9007199254740993"));
  EXPECT_TRUE(has_line(text, "head = \"all\"")) << text;
  EXPECT_TRUE(has_line(text, "lr = 1.2345678901234568e-05")) << text;
}

TEST_F(Settings, EveryKeyIsExplained) {
  const std::string text = config_of({});
  std::istringstream lines(text);
  std::string line, before;
  int keys = 0;
  while (std::getline(lines, line)) {
    if (line.find(" = ") != std::string::npos && !line.starts_with("#")) {
      EXPECT_TRUE(before.starts_with("# ")) << line;
      ++keys;
    }
    before = line;
  }
  EXPECT_GE(keys, 40);
}

TEST_F(Settings, UnknownKeysAndBadValuesNameTheirPlace) {
  const auto with = [&](const std::string& toml) { return graft({"train", "--config", file("bad.toml", toml)}); };
  expect_error(with("[train]\nlrr = 1\n"), 2, "bad.toml:2");
  expect_error(with("[train]\nlrr = 1\n"), 2, "did you mean 'train.lr'?");
  expect_error(with("[strategy]\nname = \"full\"\nbach_norm = \"batch\"\n"), 2, "did you mean 'strategy.batch_norm'?");
  expect_error(with("[train]\nlr = \"fast\"\n"), 2, "expects a number");
  expect_error(with("[train]\nlr = [0.1]\n"), 2, "got a list");
  expect_error(with("[train]\nshuffle = \"perhaps\"\n"), 2, "expects true or false");
  expect_error(with("[train\nlr = 1\n"), 2, "not valid TOML");
  expect_error(graft({"train", "--set", "train.lr"}), 2, "expects key=value");
  expect_error(graft({"train", "--set", "train.lrr=1"}), 2, "--set: unknown key 'train.lrr'");
  // A strategy's key belongs to that strategy alone, whatever the order on the command line.
  expect_error(graft({"train", "--set", "strategy.head=all", "--strategy", "full"}), 2, "strategy.head");
}

}  // namespace
}  // namespace graft::testing
