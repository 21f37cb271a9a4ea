#include "strategies/study/child_process.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "kernels/core.h"
#include "kernels/ranks.h"

namespace graft {
namespace {

/// Open and locked.
int open_log(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  const int log = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (log < 0)
    throw Error(
        fmt::format("cannot write {}: {}; check free space and permissions", path.string(), std::strerror(errno)));
  // Whoever asks whether it runs holds the lock for a moment.
  for (int i = 0; i < 20; ++i) {
    if (flock(log, LOCK_EX | LOCK_NB) == 0) return log;
    if (errno != EWOULDBLOCK && errno != EINTR) {
      const int failure = errno;
      close(log);
      throw Error(fmt::format("cannot lock {}: {}; choose a folder on another file system", path.string(),
                              std::strerror(failure)));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  close(log);
  throw Error(fmt::format("{} is being run already", path.parent_path().string()));
}

constexpr int kNotStarted = 127;

/// Between fork and exec only what a signal handler might do is allowed.
[[noreturn]] void become(const char* program, char* const* arguments, char* const* environment, int log, pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(kNotStarted);  // it died before the line above
  const int nothing = open("/dev/null", O_RDONLY);
  if (nothing >= 0) dup2(nothing, STDIN_FILENO);
  dup2(log, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  execve(program, arguments, environment);
  _exit(kNotStarted);
}

}  // namespace

ChildProcess::ChildProcess(const ChildSpec& spec) {
  std::vector<std::string> words{spec.program.string()};
  words.insert(words.end(), spec.arguments.begin(), spec.arguments.end());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const std::vector<char*> environment = lone_environment();  // even where several studies were started together
  signal(SIGCHLD, SIG_DFL);                                   // whoever inherited that it is ignored would wait forever
  const int log = open_log(spec.log);
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ == 0) become(spec.program.c_str(), arguments.data(), environment.data(), log, parent);
  const int failure = errno;
  close(log);
  if (pid_ < 0) throw Error(fmt::format("cannot start a process: {}", std::strerror(failure)));
}

ChildProcess::~ChildProcess() {
  if (pid_ < 0) return;
  terminate();
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::optional<ChildProcess::End> ChildProcess::poll() {
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  pid_ = -1;
  if (WIFSIGNALED(status)) return End{.signal = WTERMSIG(status)};
  return End{.exit_code = WEXITSTATUS(status)};
}

void ChildProcess::terminate() {
  if (pid_ > 0) kill(pid_, SIGTERM);
}

std::string signal_text(int signal) {
  std::string text = fmt::format("killed by signal {} ({})", signal, strsignal(signal));
  if (signal == SIGKILL) text += "; the system does that when memory runs out";
  return text;
}

}  // namespace graft
