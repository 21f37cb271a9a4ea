// Where the wall clock of a run went, part by part, for summary.json and for people. Every moment counts for one part:
// the innermost that runs. A GPU works beside the host; its time counts where the host waits for it.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <utility>

namespace graft {

class RunClock {
 public:
  /// A part runs while this lives, and the one around it goes on afterwards.
  class Part {
   public:
    Part(RunClock& clock, std::string name) : clock_(clock), around_(clock.go_on_with(std::move(name))) {}
    ~Part() { clock_.go_on_with(std::move(around_)); }
    Part(const Part&) = delete;
    Part& operator=(const Part&) = delete;

   private:
    RunClock& clock_;
    std::string around_;
  };

  /// By name, up to now. What no part took is "other".
  std::map<std::string, double> seconds() {
    go_on_with(running_);
    return seconds_;
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::string go_on_with(std::string name) {
    const Clock::time_point now = Clock::now();
    seconds_[running_] += std::chrono::duration<double>(now - std::exchange(since_, now)).count();
    return std::exchange(running_, std::move(name));
  }

  std::map<std::string, double> seconds_;
  std::string running_ = "other";
  Clock::time_point since_ = Clock::now();
};

}  // namespace graft
