// What --help looks like: no line is wider than the terminal, and it says what may be left out, repeated or chosen.
#include <sstream>

#include "apps/terminal.h"
#include "tests/apps/program_testing.h"

namespace graft::testing {
namespace {

std::int64_t widest_line(const std::string& text) {
  std::istringstream lines(text);
  std::int64_t widest = 0;
  for (std::string line; std::getline(lines, line);)
    widest = std::max<std::int64_t>(
        widest, std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xC0) != 0x80 && c != '\r'; }));
  return widest;
}

TEST(Help, LinesBreakAtSpacesAndGoOnIndented) {
  EXPECT_EQ(wrapped("", {.columns = 7}), "");
  EXPECT_EQ(wrapped("aaa bbb ccc", {.columns = 7}), "aaa bbb\nccc");
  EXPECT_EQ(wrapped("aaa bbb ccc", {.columns = 7, .begin = 2, .indent = 2}), "aaa\n  bbb\n  ccc");
  EXPECT_EQ(wrapped("longer-than-a-line bbb", {.columns = 7}), "longer-than-a-line\nbbb");
  EXPECT_EQ(wrapped("größe größe", {.columns = 11}), "größe größe");
  EXPECT_EQ(wrapped("  tool --a 1 --b 2", {.columns = 14, .indent = 4, .broken_line_end = " \\"}),
            "  tool --a 1 \\\n    --b 2");
}

TEST(Help, NoLineIsWiderThanEightyColumnsOrTheTerminal) {
  const std::vector<std::vector<std::string>> verbs{{},
                                                    {"train"},
                                                    {"evaluate"},
                                                    {"predict"},
                                                    {"weights", "import"},
                                                    {"weights", "inspect"},
                                                    {"find-lr"},
                                                    {"devices"},
                                                    {"strategies"},
                                                    {"data", "inspect"},
                                                    {"study", "plan"},
                                                    {"study", "run"},
                                                    {"demo"},
                                                    {"export"},
                                                    {"internals"},
                                                    {"study", "status"},
                                                    {"study", "report"},
                                                    {"study"},
                                                    {"profile"},
                                                    {"explain"},
                                                    {"plan-memory"},
                                                    {"weights"},
                                                    {"data"}};
  for (std::vector<std::string> words : verbs) {
    words.push_back("--help");
    const Outcome outcome = graft(words);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_LT(widest_line(outcome.out), 80) << outcome.out;
  }
  // The test's terminal has a hundred columns.
  const Outcome wide = run({.arguments = {"train", "--help"}, .on_terminal = true});
  EXPECT_GE(widest_line(wide.out), 80) << wide.out;
  EXPECT_LT(widest_line(wide.out), 100) << wide.out;
}

TEST(Help, TextGoesOnBelowItself) {
  const std::string help = graft({"train", "--help"}).out;
  EXPECT_NE(help.find("\n  --lr X                      learning rate [0.001]\n"), std::string::npos) << help;
  EXPECT_NE(help.find("\n  --precision auto|f32|tf32|bf16|f16|fp16\n                              arithmetic; "),
            std::string::npos)
      << help;
  EXPECT_NE(help.find(" \\\n      "), std::string::npos) << help;  // the first example is long
}

TEST(Help, UsageSaysWhatMayBeLeftOutOrRepeated) {
  const auto usage = [](std::vector<std::string> verb) {
    verb.push_back("--help");
    const std::string help = graft(verb).out;
    const std::size_t begin = help.find("Usage: ");
    return begin == std::string::npos ? help : help.substr(begin, help.find('\n', begin) - begin);
  };
  EXPECT_EQ(usage({"strategies"}), "Usage: graft strategies [NAME] [OPTIONS]");
  EXPECT_EQ(usage({"find-lr"}), "Usage: graft find-lr [DATA] [OPTIONS]");
  EXPECT_EQ(usage({"predict"}), "Usage: graft predict MODEL IMAGE… [OPTIONS]");
  EXPECT_EQ(usage({"evaluate"}), "Usage: graft evaluate MODEL DATA [OPTIONS]");
  EXPECT_NE(graft({"strategies", "--help"}).out.find("\n  NAME  "), std::string::npos);
}

TEST(Help, ChoicesAndSwitchesReadAsTheyWork) {
  const std::string help = run({.arguments = {"train", "--help"}, .on_terminal = true}).out;  // its lines are longer
  EXPECT_NE(help.find("learning rate: constant, cosine, step, "), std::string::npos) << help;
  EXPECT_NE(help.find("do not look for copies "), std::string::npos) << help;
  EXPECT_EQ(help.find("turns off"), std::string::npos) << help;
}

}  // namespace
}  // namespace graft::testing
