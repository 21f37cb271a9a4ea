#include "strategies/study/lock.h"

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

std::string held_text(const std::filesystem::path& file, const Holder& holder) {
  const std::string folder = file.parent_path().string();
  if (holder.pid == 0)
    return fmt::format("study: single cells of {} are being run (--cell); wait for them, or stop them", folder);
  if (is_orphaned(holder))
    return fmt::format("study: {}: trainings that process {} had begun go on without it; stop them, or wait for them",
                       folder, holder.pid);
  return fmt::format("study: {} is being run already, by process {} on {}; wait for it, or stop it", folder, holder.pid,
                     holder.host);
}

}  // namespace

StudyLock::StudyLock(const std::filesystem::path& file, Kind kind, const std::function<void(std::string_view)>& note)
    : kind_(kind) {
  // Inherited by what this process starts: the study is held until the last training has written its checkpoint.
  file_ = open(file.c_str(), O_RDWR | O_CREAT, 0666);
  if (file_ < 0)
    throw Error(fmt::format("study: cannot write {}: {}; choose a writable -o", file.string(), std::strerror(errno)));
  using namespace std::chrono_literals;
  // Whoever looks whether it is held holds it for a moment; a training ends once its step and its checkpoint are done.
  constexpr auto kForLooks = 1s, kForCheckpoints = 300s;
  const auto begin = std::chrono::steady_clock::now();
  bool was_told = false;
  while (!try_lock(file_, kind == Kind::whole ? LOCK_EX : LOCK_SH)) {
    const Holder holder = holder_of(file);
    const bool waits_for_end = is_orphaned(holder);
    if (std::chrono::steady_clock::now() - begin > (waits_for_end ? kForCheckpoints : kForLooks)) {
      close(file_);
      throw Error(held_text(file, holder));
    }
    if (!was_told && note && waits_for_end) note("waiting for trainings that were begun earlier to end");
    was_told = waits_for_end;
    std::this_thread::sleep_for(50ms);
  }
  // Only messages depend on it. Where single cells hold it, whoever held the whole study before is gone.
  const std::string text = kind_ == Kind::whole ? fmt::format("{} {}\n", getpid(), host_name()) : "";
  if (ftruncate(file_, 0) == 0) (void)!pwrite(file_, text.data(), text.size(), 0);
}

StudyLock::~StudyLock() {
  if (kind_ == Kind::whole) (void)!ftruncate(file_, 0);
  close(file_);
}

bool is_held(const std::filesystem::path& lock) {
  // NFS gives exclusive locks only to those who may write; others can still ask elsewhere.
  int file = open(lock.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) file = open(lock.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  bool is_taken = true;
  for (int i = 0; i < 3 && is_taken; ++i) {  // others may ask at the same moment
    if (i > 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    is_taken = flock(file, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  }
  close(file);
  return is_taken;
}

}  // namespace graft
