// Watches every device call of a training step and keeps account of memory: what was never written, what was released,
// what is in use. Faults are collected as texts, so that tests can expect none, or a certain one.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kernels/observed_backend.h"

namespace graft {

class StepRecorder final : public DeviceObserver {
 public:
  void call(const DeviceCall& call, const std::function<void()>& run) override;
  void* allocate(std::int64_t bytes, Backend& device) override;
  void release(void* block, Backend& device) noexcept override;
  void push_range(std::string_view name) override { ranges_.emplace_back(name); }
  void pop_range() override { ranges_.pop_back(); }

  std::uint64_t begin_step(std::int64_t kind, Backend& device) override;
  bool end_step(Backend& device) override;
  /// What lies there counts as not written from now on: a step must not see what the step before left.
  void forget(const ConstView& view);

  /// "conv reads released memory (in layer1.0.conv1)", in order; at most 20.
  const std::vector<std::string>& faults() const { return faults_; }
  /// Of the present step, or the last: calls by name, element-wise ones as "map relu"; and those that wait for the
  /// device, with the range they were made in.
  const std::map<std::string, int>& calls() const { return calls_; }
  const std::vector<std::string>& waits() const { return waits_; }
  /// Blocks allocated in the step and still there.
  int survivors() const;

 private:
  /// Byte ranges of a block, merged where they touch.
  class Ranges {
   public:
    void add(std::int64_t begin, std::int64_t end);
    void remove(std::int64_t begin, std::int64_t end);
    bool covers(std::int64_t begin, std::int64_t end) const;

   private:
    std::map<std::int64_t, std::int64_t> ranges_;
  };
  struct Block {
    std::int64_t bytes = 0;
    bool is_of_step = false;
    Ranges written;
  };
  using Blocks = std::map<const std::byte*, Block>;

  void fault(const DeviceCall& call, const std::string& what);
  /// The live block that holds the region; faults and returns null if there is none.
  Block* block_of(const DeviceCall& call, const Region& region, const char* verb, const std::byte** begin);
  std::string where() const;

  Blocks blocks_;
  std::map<const std::byte*, std::int64_t> released_;  // what used to lie there, until it is handed out again
  std::vector<std::string> ranges_, faults_, waits_;
  std::map<std::string, int> calls_;
  const DeviceCall* running_ = nullptr;
  bool is_in_step_ = false;
};

/// "copy: 5 calls, not 4" for every name whose counts differ; empty if none do.
std::string difference(const std::map<std::string, int>& calls, const std::map<std::string, int>& expected);

}  // namespace graft
