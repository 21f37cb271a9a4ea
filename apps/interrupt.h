// SIGINT, SIGTERM and SIGHUP (the terminal has gone). By default they end the program at once with code 130. Work that
// leaves files behind asks for them to be noted instead and stops at its next safe point. A second SIGINT (Ctrl-C) then
// still ends it at once. No other signal does: service managers and schedulers send SIGTERM to every process, and a
// study passes its own on to trainings that may have got one already.
#pragma once

#include <atomic>

#include "strategies/exit_codes.h"

namespace graft {

/// Installs the handlers, and ignores SIGPIPE and SIGXFSZ, so that a closed pipe and a file beyond its limit are write
/// errors. A SIGHUP that was ignored (nohup) stays ignored. Called once, from the program.
void handle_signals();

/// While it lives, the first SIGINT and every other signal only set `is_requested()`.
class StopLater {
 public:
  StopLater();
  ~StopLater();
  StopLater(const StopLater&) = delete;
  StopLater& operator=(const StopLater&) = delete;

  const std::atomic<bool>& flag() const;
  bool is_requested() const { return flag().load(); }
};

}  // namespace graft
