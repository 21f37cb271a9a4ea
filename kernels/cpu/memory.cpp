#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/out_of_memory.h"

namespace graft {
namespace {

class CpuMemory final : public MemorySource {
 public:
  void* get(std::int64_t bytes) override {
    const bool is_huge = bytes >= kHugePage;
    const std::int64_t alignment = is_huge ? kHugePage : 64;
    const auto size = std::size_t((bytes + alignment - 1) / alignment * alignment);
    void* block = std::aligned_alloc(std::size_t(alignment), size);
    if (block && is_huge) madvise(block, size, MADV_HUGEPAGE);
    return block;
  }
  void give_back(void* block) noexcept override { std::free(block); }
  std::int64_t rounded(std::int64_t bytes) const override { return size_class(bytes, kCpuSmallestBlock); }
  std::string name() const override { return "cpu"; }
  std::string left() const override { return address_space_text(); }
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
