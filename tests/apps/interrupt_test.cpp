// Signals: what they end at once, and what gets time to write its checkpoint.
#include "apps/interrupt.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "data/files.h"
#include "tests/apps/program_testing.h"

namespace graft::testing {
namespace {

using namespace std::chrono_literals;

/// How a process ends that asked to stop later and then gets these signals: 0 if it is still there after them.
int end_after(std::initializer_list<int> signals) {
  const pid_t child = fork();
  if (child == 0) {
    handle_signals();
    const StopLater stop;
    for (const int signal : signals) raise(signal);
    _exit(stop.is_requested() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(Interrupt, OnlyASecondCtrlCEndsAtOnceWhatStopsLater) {
  EXPECT_EQ(end_after({}), 1);  // nothing is requested
  EXPECT_EQ(end_after({SIGINT}), 0);
  EXPECT_EQ(end_after({SIGTERM}), 0);
  EXPECT_EQ(end_after({SIGHUP}), 0);
  EXPECT_EQ(end_after({SIGHUP, SIGINT}), 0);
  EXPECT_EQ(end_after({SIGTERM, SIGTERM, SIGTERM}), 0);
  EXPECT_EQ(end_after({SIGINT, SIGTERM}), 0);
  EXPECT_EQ(end_after({SIGTERM, SIGINT}), 0);
  EXPECT_EQ(end_after({SIGINT, SIGINT}), kExitInterrupted);
  EXPECT_EQ(end_after({SIGTERM, SIGINT, SIGTERM, SIGINT}), kExitInterrupted);
}

/// A long training whose messages go to the file.
pid_t start_training(const std::string& run_directory, const std::string& messages) {
  const std::string program = std::string(GRAFT_BINARY_DIR) + "/graft";
  std::vector<std::string> words = small_training(Workshop::get().images(), run_directory, {"--epochs", "50"});
  words.insert(words.begin(), program);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t child = fork();
  if (child != 0) return child;
  const int file = open(messages.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  dup2(file, STDOUT_FILENO);
  dup2(file, STDERR_FILENO);
  execv(program.c_str(), arguments.data());
  _exit(127);
}

TEST(Interrupt, ATrainingToldAgainAndAgainToEndStillWritesItsCheckpoint) {
  const TemporaryFolder folder;
  const std::string messages = folder / "messages.txt";
  const pid_t child = start_training(folder / "run", messages);
  ASSERT_GT(child, 0);
  int status = 0;
  bool has_begun = false, has_ended = false;
  while (!has_ended) {
    has_begun = has_begun ||
                (std::filesystem::exists(messages) && read_text(messages).find("epoch  1/50  lr") != std::string::npos);
    if (has_begun) kill(child, SIGTERM);
    std::this_thread::sleep_for(1ms);
    has_ended = waitpid(child, &status, WNOHANG) != 0;
  }
  const std::string said = read_text(messages);
  ASSERT_TRUE(WIFEXITED(status)) << said;
  EXPECT_EQ(WEXITSTATUS(status), kExitInterrupted) << said;
  EXPECT_NE(said.find("interrupted; a checkpoint is written"), std::string::npos) << said;
  EXPECT_TRUE(std::filesystem::exists(folder / "run/last.h5"));
}

}  // namespace
}  // namespace graft::testing
