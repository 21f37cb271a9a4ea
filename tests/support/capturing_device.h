// A device that captures steps and replays them, over the reference or the CPU: it shows without a GPU that what a step
// does depends on device memory alone. Use it as the observer of an ObservedBackend. Stricter than a GPU where that
// helps: memory that a captured step used and let go is filled with NaN before every replay, and a replay that would
// touch memory that others may have by now is an error.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "kernels/device_memory.h"
#include "kernels/observed_backend.h"

namespace graft::testing {

class CapturingDevice final : public DeviceObserver {
 public:
  struct Answers {
    bool is_asynchronous = true;   // results are better read a step late
    bool prepares_images = false;  // batches are better made on the device
    /// As on a GPU, kernels/device_memory.h serves memory, and its plans give a captured step the addresses that it had
    /// when it was called. Else the device beneath does, and captured steps get blocks that nobody else ever has.
    bool plans_memory = false;
  };
  CapturingDevice() : CapturingDevice(Answers{}) {}
  explicit CapturingDevice(const Answers& answers);
  ~CapturingDevice() override;

  int captures = 0, replays = 0;
  std::int64_t calls = 0;        // captured
  std::vector<std::string> run;  // the names of the calls of the last capture, in order

  void call(const DeviceCall& call, const std::function<void()>& run) override;
  void* allocate(std::int64_t bytes, Backend& device) override;
  void release(void* block, Backend& device) noexcept override;

  /// Without planned memory, addresses stay whatever the device beneath does.
  std::uint64_t begin_step(std::int64_t kind, Backend&) override { return planned_ ? planned_->begin_step(kind) : 1; }
  bool end_step(Backend&) override { return planned_ ? planned_->end_step() : true; }
  bool is_asynchronous(const Backend&) const override { return answers_.is_asynchronous; }
  bool prepares_images(const Backend&) const override { return answers_.prepares_images; }
  bool supports_capture(const Backend&) const override { return true; }
  void begin_capture(Backend& device) override;
  std::unique_ptr<CapturedStep> end_capture(Backend& device) override;

 private:
  class Step;
  class HostMemory;
  struct Block {
    std::int64_t bytes = 0, number = 0;  // no two blocks ever have one number
  };
  using Blocks = std::map<const std::byte*, Block>;

  void note_memory(const DeviceCall& call);
  const Blocks::value_type* block_with(const std::byte* data) const;

  Answers answers_;
  std::unique_ptr<HostMemory> host_;
  std::unique_ptr<DeviceMemory> planned_;  // null: own
  bool is_capturing_ = false;
  std::vector<std::function<void()>> recorded_;

  // Planned memory.
  Blocks live_;
  std::int64_t last_number_ = 0;
  std::set<std::int64_t> numbers_in_capture_;  // blocks that it has allocated
  Blocks passing_;                             // of them, released by it
  Blocks used_;                                // the others that it touched

  // Own memory: blocks that captured steps know. They are never given to anybody else, nor back to the device.
  std::map<void*, std::int64_t> kept_;
  std::multimap<std::int64_t, void*> spare_;  // of them, by size
};

}  // namespace graft::testing
