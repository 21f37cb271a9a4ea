#include "apps/interrupt.h"

#include <signal.h>
#include <unistd.h>

namespace graft {
namespace {

// Signal handlers reach nothing but globals; these are plain lock-free flags.
std::atomic<bool> g_is_deferred = false;
std::atomic<bool> g_is_requested = false;
std::atomic<bool> g_has_interrupt = false;  // SIGINT was among the requests
static_assert(std::atomic<bool>::is_always_lock_free);

void on_signal(int signal) {
  const bool is_second_interrupt = signal == SIGINT && g_has_interrupt.exchange(true);
  if (!g_is_deferred.load() || is_second_interrupt) _exit(kExitInterrupted);
  g_is_requested = true;
}

}  // namespace

void handle_signals() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  struct sigaction before = {};
  if (sigaction(SIGHUP, nullptr, &before) == 0 && before.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
}

StopLater::StopLater() {
  g_is_requested = false;
  g_has_interrupt = false;
  g_is_deferred = true;
}
StopLater::~StopLater() { g_is_deferred = false; }
const std::atomic<bool>& StopLater::flag() const { return g_is_requested; }

}  // namespace graft
