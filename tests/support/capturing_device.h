// A device that captures steps and replays them, over the reference or the CPU: it shows without a GPU that what a step
// does depends on device memory alone. Use it as the observer of an ObservedBackend. Stricter than a GPU where that
// helps: memory that a captured step used and let go is filled with NaN before every replay.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "kernels/observed_backend.h"

namespace graft::testing {

class CapturingDevice final : public DeviceObserver {
 public:
  struct Answers {
    bool is_asynchronous = true;   // results are better read a step late
    bool prepares_images = false;  // batches are better made on the device
  };
  CapturingDevice() = default;
  explicit CapturingDevice(const Answers& answers) : answers_(answers) {}
  ~CapturingDevice() override;

  int captures = 0, replays = 0;
  std::int64_t calls = 0;        // captured
  std::vector<std::string> run;  // the names of the calls of the last capture, in order

  void call(const DeviceCall& call, const std::function<void()>& run) override;
  void* allocate(std::int64_t bytes, Backend& device) override;
  void release(void* block, Backend& device) noexcept override;

  /// The memory of captured steps is this device's business, so addresses stay whatever the one beneath does.
  std::uint64_t begin_step(std::int64_t, Backend&) override { return 1; }
  bool end_step(Backend&) override { return true; }
  bool is_asynchronous(const Backend&) const override { return answers_.is_asynchronous; }
  bool prepares_images(const Backend&) const override { return answers_.prepares_images; }
  bool supports_capture(const Backend&) const override { return true; }
  void begin_capture(Backend& device) override;
  std::unique_ptr<CapturedStep> end_capture(Backend& device) override;

 private:
  class Step;
  Answers answers_;
  bool is_capturing_ = false;
  std::vector<std::function<void()>> recorded_;
  /// Blocks that captured steps know: they are never given to anybody else, nor back to the device.
  std::map<void*, std::int64_t> kept_;
  std::multimap<std::int64_t, void*> spare_;  // of them, by size
};

}  // namespace graft::testing
