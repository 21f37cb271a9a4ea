#include "tests/apps/program_testing.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>

#include "apps/demo_images.h"
#include "tests/shared_model.h"

namespace graft::testing {
namespace {

namespace fs = std::filesystem;

struct Pipe {
  int ends[2] = {-1, -1};
  Pipe() {
    if (pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe2 failed");
  }
};

/// In the child: never returns.
[[noreturn]] void execute(const Call& what) {
  setenv("TERM", what.on_terminal ? "xterm" : "dumb", 1);
  setenv("OMP_WAIT_POLICY", "passive", 1);
  unsetenv("NO_COLOR");
  for (const auto& [name, value] : what.environment) setenv(name.c_str(), value.c_str(), 1);
  const std::string program = std::string(GRAFT_BINARY_DIR) + "/graft";
  std::vector<char*> arguments{const_cast<char*>(program.c_str())};
  for (const std::string& argument : what.arguments) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  execv(program.c_str(), arguments.data());
  _exit(127);
}

/// Reads until both ends are closed; sends the signal when its time has come.
void collect(const Call& what, pid_t child, int out, int err, Outcome& outcome) {
  bool is_sent = what.signal == 0;
  pollfd streams[] = {{out, POLLIN, 0}, {err, POLLIN, 0}};
  std::string* texts[] = {&outcome.out, &outcome.err};
  int open = (out >= 0) + (err >= 0);
  while (open > 0 && poll(streams, 2, 300'000) > 0) {
    for (int i = 0; i < 2; ++i) {
      if (streams[i].fd < 0 || streams[i].revents == 0) continue;
      char buffer[4096];
      const ssize_t count = read(streams[i].fd, buffer, sizeof buffer);
      if (count <= 0) {
        close(streams[i].fd);
        streams[i].fd = -1;
        --open;
      } else {
        texts[i]->append(buffer, static_cast<std::size_t>(count));
      }
    }
    if (!is_sent && outcome.err.find(what.signal_after) != std::string::npos) {
      kill(child, what.signal);
      is_sent = true;
    }
  }
}

}  // namespace

Outcome run(const Call& what) {
  Outcome outcome;
  pid_t child = -1;
  int out = -1, err = -1;
  if (what.on_terminal) {
    const winsize size{.ws_row = 25, .ws_col = 100, .ws_xpixel = 0, .ws_ypixel = 0};
    child = forkpty(&out, nullptr, nullptr, &size);
    if (child == 0) execute(what);
  } else {
    const Pipe out_pipe, err_pipe;
    child = fork();
    if (child == 0) {
      const int target = what.stdout_path.empty() ? out_pipe.ends[1] : open(what.stdout_path.c_str(), O_WRONLY);
      dup2(target, STDOUT_FILENO);
      dup2(err_pipe.ends[1], STDERR_FILENO);
      execute(what);
    }
    close(out_pipe.ends[1]);
    close(err_pipe.ends[1]);
    out = out_pipe.ends[0], err = err_pipe.ends[0];
  }
  if (child < 0) throw std::runtime_error("fork failed");
  collect(what, child, out, err, outcome);
  int status = 0;
  waitpid(child, &status, 0);
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

void expect_error(const Outcome& outcome, int code, const std::string& part) {
  EXPECT_EQ(outcome.exit_code, code) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_TRUE(outcome.err.starts_with("graft: error: ")) << outcome.err;
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  EXPECT_NE(outcome.err.find(part), std::string::npos) << "expected '" << part << "' in: " << outcome.err;
}

TemporaryFolder::TemporaryFolder() {
  static std::atomic<int> count = 0;
  path_ = fs::path(::testing::TempDir()) / ("graft_apps_" + std::to_string(getpid()) + "_" + std::to_string(count++));
  fs::create_directories(path_);
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

const Workshop& Workshop::get() {
  static const Workshop workshop;
  return workshop;
}

Workshop::Workshop() {
  write_demo_set(images(), DemoTask::target, {.train = 4, .val = 2, .test = 2}, 36, 5);
  model_ = shared_model().value_or(folder_ / "model.h5");
  if (fs::exists(model_)) return;
  const Outcome made = graft(small_training(images(), folder_ / "start", {"--max-steps", "0"}));
  if (made.exit_code != 0) throw std::runtime_error("cannot make a model: " + made.err);
  fs::copy_file(folder_ / "start/last.h5", model_);
}

std::vector<std::string> small_training(const std::string& data, const std::string& run_directory,
                                        std::vector<std::string> more) {
  std::vector<std::string> arguments{
      "train",   data, "--from-scratch", "--arch", "densenet121", "--size", "32", "-o", run_directory,
      "--batch", "8",  "--device",       "cpu",    "--threads",   "1"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

}  // namespace graft::testing
