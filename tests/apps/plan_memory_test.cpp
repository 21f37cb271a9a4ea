// graft plan-memory as users meet it, and what `graft train` says when memory does run out.
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "tests/apps/program_testing.h"

namespace graft::testing {
namespace {

using nlohmann::json;

json answer(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "plan-memory");
  arguments.push_back("--json");
  const Outcome outcome = graft(arguments);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  return json::parse(outcome.out);
}

TEST(PlanMemory, AnswersWithoutImagesWeightsOrGpu) {
  const json j =
      answer({"--arch", "resnet50", "--device", "cuda", "--batch", "96", "--classes", "7", "--precision", "f32"});
  EXPECT_EQ(j["device"], "cuda:0");
  EXPECT_EQ(j["batch"], 96);
  EXPECT_EQ(j["classes"], 7);
  const json& peak = j["stages"][0]["peak"];
  std::int64_t sum = 0;
  for (const auto& [name, bytes] : peak.items()) sum += bytes.get<std::int64_t>();
  EXPECT_EQ(sum, j["peak_bytes"].get<std::int64_t>());
  EXPECT_GT(j["peak_bytes"].get<double>(), 8e9);
  EXPECT_LE(j["stages"][0]["step_bytes"].get<double>(), 1.02 * j["stages"][0]["step_lower_bound_bytes"].get<double>());
}

TEST(PlanMemory, TakesClassesAndNumberFromImagesAndTheNetworkFromItsFile) {
  const Workshop& shop = Workshop::get();
  const json j = answer({shop.images(), "--weights", shop.model(), "--device", "cuda", "--batch", "5000"});
  EXPECT_EQ(j["architecture"], "densenet121");
  EXPECT_EQ(j["size"], 32);
  EXPECT_LT(j["batch"], 5000);  // there are fewer images
  expect_error(graft({"plan-memory", "--weights", shop.model(), "--arch", "vgg19"}), 2,
               "holds a densenet121, not a vgg19");
}

TEST(PlanMemory, FindsABatchThatFits) {
  const json j = answer({"--arch", "densenet121", "--device", "cuda", "--fits", "4"});
  EXPECT_EQ(j["largest_batch"], j["batch"]);
  EXPECT_LE(j["reserved_bytes"].get<double>(), 4.0 * (1 << 30));
  const json less = answer({"--arch", "densenet121", "--device", "cuda", "--fits", "4", "--recompute", "norms"});
  EXPECT_GT(less["largest_batch"], j["largest_batch"]);
}

TEST(PlanMemory, IsPlainTextAndOneLineForMistakes) {
  const Outcome outcome = graft({"plan-memory", "--arch", "vgg19", "--device", "cuda", "--batch", "8", "--epochs", "12",
                                 "--strategy", "gradual-last-first"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  for (const char* part : {"vgg19, gradual-last-first: 8 images", "weights", "gradients", "activations", "total"})
    EXPECT_NE(outcome.out.find(part), std::string::npos) << part << " is not in\n" << outcome.out;
  EXPECT_NE(outcome.err.find("not counted"), std::string::npos);
  expect_error(graft({"plan-memory", "--fits", "0"}), 2, "--fits");
  expect_error(graft({"plan-memory", "--strategy", "ful"}), 2, "full");
  expect_error(graft({"plan-memory", "--device", "cuda", "--fits", "0.1"}), 1, "not even one image fits into 102 MiB");
}

/// Runs the program in an address space of this size; returns what it wrote to stderr, and its exit code.
std::pair<int, std::string> limited(std::int64_t kib, const std::string& arguments, const std::string& log) {
  const std::string command = "bash -c 'ulimit -v " + std::to_string(kib) + "; exec " + GRAFT_BINARY_DIR "/graft " +
                              arguments + "' > /dev/null 2> " + log;
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_text(log)};
}

TEST(OutOfMemory, SaysWhatWasNeededAndWhatIsKept) {
  const Workshop& shop = Workshop::get();
  const TemporaryFolder folder;
  const std::string run = folder / "run", log = folder / "log";
  const std::string common = "train " + shop.images() + " --weights " + shop.model() +
                             " --strategy full --device cpu --threads 1 --loader-threads 1 --quiet -o " + run;
  const auto expect_line = [](const std::pair<int, std::string>& outcome, std::vector<std::string> parts) {
    EXPECT_EQ(outcome.first, 1);
    EXPECT_EQ(std::ranges::count(outcome.second, '\n'), 1) << outcome.second;
    parts.insert(parts.end(), {"graft: error: out of memory", "--batch", "--accumulate", "--recompute norms"});
    for (const std::string& part : parts)
      EXPECT_NE(outcome.second.find(part), std::string::npos) << part << " is not in " << outcome.second;
  };
  constexpr std::int64_t kLimit = 1536 * 1024;  // KiB
  expect_line(limited(kLimit, common + " --epochs 1 --batch 8 --size 800", log),
              {"are left of the limit of 1.50 GiB", "no checkpoint was written yet"});

  // A run that has a checkpoint keeps it, and goes on once there is more memory.
  ASSERT_EQ(graft({"train", shop.images(), "--weights", shop.model(), "--strategy", "full",       "--device",
                   "cpu",   "--quiet",     "--threads", "1",          "--epochs",   "1",          "--batch",
                   "8",     "--size",      "256",       "-o",         run,          "--overwrite"})
                .exit_code,
            0);
  const std::string before = read_text(run + "/last.h5");
  expect_line(limited(900 * 1024, "train --resume --epochs 2 --quiet -o " + run, log), {"last.h5 is kept", "--resume"});
  EXPECT_EQ(read_text(run + "/last.h5"), before);
  EXPECT_EQ(graft({"train", "--resume", "--epochs", "2", "--recompute", "norms", "--quiet", "-o", run}).exit_code, 0);
}

}  // namespace
}  // namespace graft::testing
