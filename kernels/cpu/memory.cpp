#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <thread>

#include <omp.h>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/cpu_device.h"

namespace graft {
namespace {

constexpr std::int64_t kHugePage = 2 << 20;

// Sizes are rounded so that a step's blocks fit again in the next: eight steps per power of two, whole huge pages when
// big.
std::int64_t rounded(std::int64_t bytes) {
  if (bytes <= 4096) return std::max<std::int64_t>(64, (bytes + 63) / 64 * 64);
  if (bytes >= 8 * kHugePage) return (bytes + kHugePage - 1) / kHugePage * kHugePage;
  std::int64_t step = 512;
  while (step * 8 < bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

}  // namespace

void* CpuBackend::allocate(std::int64_t bytes) {
  const std::int64_t size = rounded(bytes);
  const std::lock_guard lock(mutex_);
  void* block = nullptr;
  // The smallest spare block that wastes at most a quarter; its real size stays with it.
  const auto spare = spare_.lower_bound(size);
  std::int64_t held = size;
  if (spare != spare_.end() && spare->first <= size + size / 4) {
    held = spare->first;
    block = spare->second;
    spare_.erase(spare);
  } else {
    const auto get = [&] {
      return std::aligned_alloc(size >= kHugePage ? kHugePage : 64,
                                size >= kHugePage ? (size + kHugePage - 1) / kHugePage * kHugePage : size);
    };
    block = get();
    if (!block) {  // give back what is spare and try again
      for (const auto& [spare_bytes, p] : spare_) std::free(p), use_.reserved_bytes -= spare_bytes;
      spare_.clear();
      block = get();
    }
    if (!block)
      throw Error("out of memory: " + std::to_string(size >> 20) + " MiB more than the " +
                  std::to_string(use_.live_bytes >> 20) + " MiB in use; use a smaller --batch or --size");
    if (size >= kHugePage) madvise(block, std::size_t(size), MADV_HUGEPAGE);
    use_.reserved_bytes += size;
  }
  live_.emplace(block, held);
  use_.live_bytes += held;
  use_.peak_bytes = std::max(use_.peak_bytes, use_.live_bytes);
  return block;
}

void CpuBackend::release(void* block) noexcept {
  const std::lock_guard lock(mutex_);
  const auto it = live_.find(block);
  if (it == live_.end()) return;
  use_.live_bytes -= it->second;
  spare_.emplace(it->second, block);
  live_.erase(it);
}

MemoryUse CpuBackend::memory() const {
  const std::lock_guard lock(mutex_);
  return use_;
}

void CpuBackend::copy_in(void* device, const void* host, std::int64_t bytes) {
  std::memcpy(device, host, std::size_t(bytes));
}
void CpuBackend::copy_out(void* host, const void* device, std::int64_t bytes) {
  std::memcpy(host, device, std::size_t(bytes));
}

void CpuBackend::zero(void* device, std::int64_t bytes) {
  constexpr std::int64_t kChunk = 1 << 20;
#pragma omp parallel for schedule(static)
  for (std::int64_t begin = 0; begin < bytes; begin += kChunk)
    std::memset(static_cast<char*>(device) + begin, 0, std::size_t(std::min(kChunk, bytes - begin)));
}

}  // namespace graft
