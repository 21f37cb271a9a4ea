#include "tests/support/capturing_device.h"

#include <cstdlib>
#include <cstring>
#include <utility>

namespace graft::testing {

class CapturingDevice::Step final : public CapturedStep {
 public:
  Step(CapturingDevice& device, std::vector<std::function<void()>> calls) : device_(device), calls_(std::move(calls)) {}

  void replay() override {
    ++device_.replays;
    for (const auto& [bytes, block] : device_.spare_) std::memset(block, 0xFF, std::size_t(bytes));
    for (const std::function<void()>& call : calls_) call();
  }

 private:
  CapturingDevice& device_;
  std::vector<std::function<void()>> calls_;
};

CapturingDevice::~CapturingDevice() {
  for (const auto& [block, bytes] : kept_) std::free(block);
}

void CapturingDevice::call(const DeviceCall& call, const std::function<void()>& run_call) {
  if (!is_capturing_) return run_call();
  if (call.waits || call.uses_host)
    throw Error("capture: " + std::string(call.op) + " waits for the device or touches the host's memory");
  recorded_.push_back(run_call);
  run.emplace_back(call.op);
  ++calls;
}

void* CapturingDevice::allocate(std::int64_t bytes, Backend& device) {
  if (!is_capturing_) return device.allocate(bytes);
  const auto spare = spare_.find(bytes);
  if (spare != spare_.end()) {
    void* block = spare->second;
    spare_.erase(spare);
    return block;
  }
  void* block = std::aligned_alloc(256, std::size_t((bytes + 255) / 256 * 256));
  kept_.emplace(block, bytes);
  return block;
}

void CapturingDevice::release(void* block, Backend& device) noexcept {
  const auto kept = kept_.find(block);
  if (kept == kept_.end()) return device.release(block);
  spare_.emplace(kept->second, block);
}

void CapturingDevice::begin_capture(Backend&) {
  is_capturing_ = true;
  run.clear();
}

std::unique_ptr<CapturedStep> CapturingDevice::end_capture(Backend&) {
  is_capturing_ = false;
  ++captures;
  return std::make_unique<Step>(*this, std::exchange(recorded_, {}));
}

}  // namespace graft::testing
