// The reference device's memory: the C library's, in blocks of exactly the size asked for, so that an address sanitizer
// sees every byte out of bounds.
#include <cmath>
#include <cstdlib>
#include <new>

#include "kernels/reference/rounded.h"
#include "kernels/usable_cores.h"

namespace graft {

ReferenceBackend::ReferenceBackend(const BackendOptions& options)
    : threads_(options.threads > 0 ? options.threads : usable_cores()) {}

ReferenceBackend::~ReferenceBackend() {
  for (const auto& [block, bytes] : live_) std::free(block);
}

std::unique_ptr<Backend> make_reference_backend(const BackendOptions& options) {
  if (options.precision == Precision::f32) return std::make_unique<ReferenceBackend>(options);
  return std::make_unique<RoundedReference>(options);
}

std::string ReferenceBackend::description() const {
  return "reference, plain loops in double, " + std::to_string(threads_) + (threads_ == 1 ? " thread" : " threads");
}

void* ReferenceBackend::allocate(std::int64_t bytes) {
  void* block = nullptr;
  if (posix_memalign(&block, 64, std::size_t(std::max<std::int64_t>(bytes, 1))) != 0)
    throw Error("reference: out of memory for " + std::to_string(bytes) + " bytes; use a smaller batch or image size");
  const std::lock_guard lock(mutex_);
  live_[block] = bytes;
  use_.live_bytes += bytes;
  use_.peak_bytes = std::max(use_.peak_bytes, use_.live_bytes);
  use_.reserved_bytes = use_.live_bytes;
  return block;
}

void ReferenceBackend::release(void* block) noexcept {
  if (!block) return;
  const std::lock_guard lock(mutex_);
  const auto it = live_.find(block);
  if (it == live_.end()) return;
  use_.live_bytes -= it->second;
  use_.reserved_bytes = use_.live_bytes;
  live_.erase(it);
  std::free(block);
}

MemoryUse ReferenceBackend::memory() const {
  const std::lock_guard lock(mutex_);
  return use_;
}

void ReferenceBackend::reset_peak_memory() {
  const std::lock_guard lock(mutex_);
  use_.peak_bytes = use_.live_bytes;
}

void ReferenceBackend::copy_in(void* device, const void* host, std::int64_t bytes) {
  std::memcpy(device, host, std::size_t(bytes));
}

void ReferenceBackend::copy_out(void* host, const void* device, std::int64_t bytes) {
  std::memcpy(host, device, std::size_t(bytes));
}

void ReferenceBackend::zero(void* device, std::int64_t bytes) { std::memset(device, 0, std::size_t(bytes)); }

}  // namespace graft
