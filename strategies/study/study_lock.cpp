#include "strategies/study/study_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <sstream>
#include <string>
#include <thread>

#include <fmt/format.h>

#include "data/files.h"
#include "kernels/core.h"

namespace graft {
namespace {

struct Holder {
  long pid = 0;
  std::string host;
};

std::string host_name() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  return name;
}

Holder holder_of(const std::filesystem::path& file) {
  Holder holder;
  std::istringstream(read_text(file)) >> holder.pid >> holder.host;
  return holder;
}

/// The program is gone, what it had started is about to end.
bool is_orphaned(const Holder& holder) {
  return holder.pid > 0 && holder.host == host_name() && kill(pid_t(holder.pid), 0) != 0 && errno == ESRCH;
}

bool try_lock(int file, int operation) {
  while (flock(file, operation | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno == EWOULDBLOCK) return false;
    throw Error(fmt::format("study: cannot lock its folder: {}", std::strerror(errno)));
  }
  return true;
}

}  // namespace

StudyLock::StudyLock(const std::filesystem::path& file, Kind kind, const std::function<void(std::string_view)>& note) {
  // Inherited by what this process starts: the study is held until the last training has written its checkpoint.
  file_ = open(file.c_str(), O_RDWR | O_CREAT, 0666);
  if (file_ < 0)
    throw Error(fmt::format("study: cannot write {}: {}; choose a writable -o", file.string(), std::strerror(errno)));
  const auto begin = std::chrono::steady_clock::now();
  bool was_told = false;
  while (!try_lock(file_, kind == Kind::whole ? LOCK_EX : LOCK_SH)) {
    using namespace std::chrono_literals;
    const Holder holder = holder_of(file);
    // Whoever looks whether it is held holds it for a moment.
    if (!is_orphaned(holder) && std::chrono::steady_clock::now() - begin > 1s) {
      close(file_);
      throw Error(fmt::format("study: {} is being run already, by process {} on {}; wait for it, or stop it",
                              file.parent_path().string(), holder.pid, holder.host));
    }
    if (!was_told && note && is_orphaned(holder)) note("waiting for trainings that were begun earlier to end");
    was_told = is_orphaned(holder);
    std::this_thread::sleep_for(50ms);
  }
  if (kind != Kind::whole) return;
  const std::string text = fmt::format("{} {}\n", getpid(), host_name());
  // Only a message depends on it.
  if (ftruncate(file_, 0) == 0) (void)!pwrite(file_, text.data(), text.size(), 0);
}

StudyLock::~StudyLock() { close(file_); }

bool is_held(const std::filesystem::path& lock) {
  const int file = open(lock.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  bool is_free = false;
  for (int i = 0; i < 3 && !is_free; ++i) {  // others may ask at the same moment
    if (i > 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    is_free = flock(file, LOCK_EX | LOCK_NB) == 0;
  }
  close(file);
  return !is_free;
}

}  // namespace graft
