#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/out_of_memory.h"

namespace graft {
namespace {

/// Addresses for `bytes`, a multiple of kHugePage, from a multiple of it on; null if there are none.
void* map_pages(std::size_t bytes) {
  constexpr auto kPage = std::size_t(kHugePage);
  void* const mapped = mmap(nullptr, bytes + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(mapped);
  const std::size_t before = (kPage - reinterpret_cast<std::uintptr_t>(begin) % kPage) % kPage;
  if (before > 0) munmap(begin, before);
  munmap(begin + before + bytes, kPage - before);
  madvise(begin + before, bytes, MADV_HUGEPAGE);
  return begin + before;
}

/// Blocks from 2 MiB on consist of whole huge pages. What is given back of them serves the next such block, page by
/// page: the first step's many blocks become the arena of the others without the system clearing as much memory anew.
class CpuMemory final : public MemorySource {
 public:
  ~CpuMemory() override { unmap_kept(); }

  void* get(std::int64_t bytes) override {
    if (bytes < kHugePage) return std::aligned_alloc(64, std::size_t((bytes + 63) / 64 * 64));
    const auto size = std::size_t((bytes + kHugePage - 1) / kHugePage * kHugePage);
    void* block = map_pages(size);
    if (block && !move_kept_to(static_cast<std::byte*>(block), size)) {
      munmap(block, size);
      block = nullptr;
    }
    unmap_kept();
    if (!block) block = map_pages(size);
    if (block) sizes_.emplace(block, size);
    return block;
  }
  void give_back(void* block) noexcept override {
    auto huge = sizes_.extract(block);
    if (huge.empty()) return std::free(block);
    kept_.insert(std::move(huge));
  }
  std::int64_t rounded(std::int64_t bytes) const override { return size_class(bytes, kCpuSmallestBlock); }
  std::string name() const override { return "cpu"; }
  std::string left() const override { return address_space_text(); }

 private:
  /// False: part of [to, to + bytes) is no longer mapped.
  bool move_kept_to(std::byte* to, std::size_t bytes) {
    while (bytes > 0 && !kept_.empty()) {
      const auto [block, size] = *kept_.begin();
      const std::size_t part = std::min(size, bytes);
      if (mremap(block, part, part, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED) return false;
      kept_.erase(kept_.begin());
      if (part < size) kept_.emplace(static_cast<std::byte*>(block) + part, size - part);
      to += part;
      bytes -= part;
    }
    return true;
  }
  void unmap_kept() {
    for (const auto& [block, size] : kept_) munmap(block, size);
    kept_.clear();
  }

  std::map<void*, std::size_t> sizes_, kept_;  // of huge blocks: those in use, those given back
};

}  // namespace

std::unique_ptr<MemorySource> make_cpu_memory() { return std::make_unique<CpuMemory>(); }

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
