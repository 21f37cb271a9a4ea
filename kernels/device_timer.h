// Time as a device's own calls see it: marks are set between calls without waiting for them, and read later.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

namespace graft {

class DeviceTimer {
 public:
  virtual ~DeviceTimer() = default;
  /// Notes the moment at which everything called so far is done, and returns the mark's number, counted from 0.
  virtual std::int64_t mark() = 0;
  /// Seconds from mark 0 to every mark since the last `take`; then counting starts anew. Waits for the device.
  virtual std::vector<double> take() = 0;
};

/// For devices whose calls are done when they return: the host's clock.
class HostTimer final : public DeviceTimer {
 public:
  std::int64_t mark() override {
    marks_.push_back(Clock::now());
    return std::int64_t(marks_.size()) - 1;
  }
  std::vector<double> take() override {
    std::vector<double> seconds;
    seconds.reserve(marks_.size());
    for (const Clock::time_point& m : marks_)
      seconds.push_back(std::chrono::duration<double>(m - marks_.front()).count());
    marks_.clear();
    return seconds;
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::vector<Clock::time_point> marks_;
};

}  // namespace graft
