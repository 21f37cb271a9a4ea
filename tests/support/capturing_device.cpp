#include "tests/support/capturing_device.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace graft::testing {

class CapturingDevice::HostMemory final : public MemorySource {
 public:
  void* get(std::int64_t bytes) override { return std::aligned_alloc(256, std::size_t((bytes + 256) / 256 * 256)); }
  void give_back(void* block) noexcept override { std::free(block); }
  std::string name() const override { return "capturing device"; }
};

class CapturingDevice::Step final : public CapturedStep {
 public:
  Step(CapturingDevice& device, std::vector<std::function<void()>> calls)
      : device_(device),
        calls_(std::move(calls)),
        passing_(std::exchange(device.passing_, {})),
        used_(std::exchange(device.used_, {})) {}

  void replay() override {
    ++device_.replays;
    for (const auto& [block, entry] : used_) {
      const auto now = device_.live_.find(block);
      if (now == device_.live_.end() || now->second.number != entry.number)
        throw Error("capture: a replay would touch memory that was released since");
    }
    for (const auto& [block, entry] : passing_) {
      if (device_.block_with(block)) throw Error("capture: a replay would touch memory that somebody else has");
      fill_with_nan(block, entry.bytes);
    }
    for (const auto& [bytes, block] : device_.spare_) fill_with_nan(block, bytes);
    for (const std::function<void()>& call : calls_) call();
  }

 private:
  static void fill_with_nan(const void* block, std::int64_t bytes) {
    std::memset(const_cast<void*>(block), 0xFF, std::size_t(bytes));
  }

  CapturingDevice& device_;
  std::vector<std::function<void()>> calls_;
  Blocks passing_, used_;
};

CapturingDevice::CapturingDevice(const Answers& answers) : answers_(answers) {
  if (!answers.plans_memory) return;
  host_ = std::make_unique<HostMemory>();
  planned_ = std::make_unique<DeviceMemory>(*host_);
}

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
  if (planned_) note_memory(call);
}

/// The live block in which an address lies; null: none.
const CapturingDevice::Blocks::value_type* CapturingDevice::block_with(const std::byte* data) const {
  const auto after = live_.upper_bound(data);
  if (after == live_.begin()) return nullptr;
  const auto& found = *std::prev(after);
  return data < found.first + found.second.bytes ? &found : nullptr;
}

void CapturingDevice::note_memory(const DeviceCall& call) {
  for (const std::vector<Region>* regions : {&call.writes, &call.reads, &call.refreshes})
    for (const Region& region : *regions) {
      if (region.rows == 0 || !region.data) continue;
      const auto* block = block_with(region.data);
      if (!block) throw Error("capture: " + std::string(call.op) + " touches memory that was never allocated");
      if (!numbers_in_capture_.contains(block->second.number)) used_.insert(*block);
    }
}

void* CapturingDevice::allocate(std::int64_t bytes, Backend& device) {
  if (planned_) {
    void* block = planned_->allocate(bytes);
    live_[static_cast<const std::byte*>(block)] = {bytes, ++last_number_};
    if (is_capturing_) numbers_in_capture_.insert(last_number_);
    return block;
  }
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
  if (planned_) {
    const auto live = live_.find(static_cast<const std::byte*>(block));
    if (live != live_.end()) {
      if (is_capturing_ && numbers_in_capture_.contains(live->second.number)) {
        Block& passing = passing_[live->first];  // of those that come there one after another, the largest
        passing.bytes = std::max(passing.bytes, live->second.bytes);
      }
      live_.erase(live);
    }
    return planned_->release(block);
  }
  const auto kept = kept_.find(block);
  if (kept == kept_.end()) return device.release(block);
  spare_.emplace(kept->second, block);
}

void CapturingDevice::begin_capture(Backend&) {
  is_capturing_ = true;
  run.clear();
  numbers_in_capture_.clear();
  passing_.clear();
  used_.clear();
}

std::unique_ptr<CapturedStep> CapturingDevice::end_capture(Backend&) {
  is_capturing_ = false;
  ++captures;
  // What it has allocated and not released must stay, as what it found there.
  for (const auto& entry : live_)
    if (numbers_in_capture_.contains(entry.second.number)) used_.insert(entry);
  return std::make_unique<Step>(*this, std::exchange(recorded_, {}));
}

}  // namespace graft::testing
