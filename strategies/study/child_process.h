// A program that this one starts, watches and stops: one training of a study. A crash of it is an exit code here.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace graft {

struct ChildSpec {
  std::filesystem::path program;
  std::vector<std::string> arguments;  // after the program's name
  std::filesystem::path log;           // gets what it says, at its end; locked (flock) as long as it runs
};

class ChildProcess {
 public:
  /// It gets SIGTERM when this process dies, in whatever way, and no signal from the terminal. Files that are open here
  /// without O_CLOEXEC stay open there.
  /// Errors: the log cannot be written, or is that of a process that runs; no process can be made.
  explicit ChildProcess(const ChildSpec& spec);
  /// Errors are not reported: a process that still runs is stopped and waited for.
  ~ChildProcess();
  ChildProcess(ChildProcess&& other) noexcept : pid_(other.pid_) { other.pid_ = -1; }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ChildProcess& operator=(ChildProcess&&) = delete;

  struct End {
    int exit_code = 0;  // of a normal end
    int signal = 0;     // else what killed it
  };
  /// Empty as long as it runs. May be asked until it has ended.
  std::optional<End> poll();
  void terminate();

 private:
  int pid_ = -1;
};

/// "killed by signal 9 (Killed)…", with what that usually means.
std::string signal_text(int signal);

}  // namespace graft
