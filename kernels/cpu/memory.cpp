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
    if (bytes < kHugePage) return get_small(std::size_t((bytes + 63) / 64 * 64));
    const auto size = std::size_t((bytes + kHugePage - 1) / kHugePage * kHugePage);
    void* block = map_pages(size);
    if (block && !move_kept_to(static_cast<std::byte*>(block), size)) block = nullptr;
    unmap_kept();
    if (!block) block = map_pages(size);  // beside what was kept there was no room
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
  void* get_small(std::size_t bytes) {
    void* block = std::aligned_alloc(64, bytes);
    if (block || kept_.empty()) return block;
    unmap_kept();
    return std::aligned_alloc(64, bytes);
  }

  /// Page by page: a block may consist of pieces that the system moves one by one alone. False: the block is gone.
  bool move_kept_to(std::byte* const block, std::size_t bytes) {
    constexpr auto kPage = std::size_t(kHugePage);
    for (std::byte* to = block; to < block + bytes && !kept_.empty(); to += kPage) {
      const auto kept = kept_.begin();
      auto* const from = static_cast<std::byte*>(kept->first);
      const std::size_t left = kept->second - kPage;
      if (mremap(from, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED) {
        // What was at `to` is unmapped already, and somebody else's by now perhaps.
        munmap(block, std::size_t(to - block));
        munmap(to + kPage, std::size_t(block + bytes - to) - kPage);
        return false;
      }
      kept_.erase(kept);
      if (left > 0) kept_.emplace(from + kPage, left);
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
