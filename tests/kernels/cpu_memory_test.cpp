// Memory of the CPU: what large blocks leave serves the next one, page by page, also where addresses are short.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <vector>

#include "kernels/build_info.h"
#include "kernels/cpu/cpu_backend.h"

namespace graft {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

/// How many MiB of a block the system holds in memory.
double resident_mib(void* block, std::int64_t bytes) {
  std::vector<unsigned char> pages(std::size_t(bytes / sysconf(_SC_PAGESIZE)));
  EXPECT_EQ(mincore(block, std::size_t(bytes), pages.data()), 0);
  const auto resident = std::ranges::count_if(pages, [](unsigned char page) { return page & 1; });
  return double(resident) * double(sysconf(_SC_PAGESIZE)) / double(kMiB);
}

TEST(CpuMemory, PagesOfBlocksThatWentBackServeTheNext) {
  const std::unique_ptr<MemorySource> memory = make_cpu_memory();
  std::vector<void*> blocks;
  for (const std::int64_t mib : {4, 2, 6}) {
    blocks.push_back(memory->get(mib * kMiB));
    ASSERT_TRUE(blocks.back());
    std::memset(blocks.back(), 1, std::size_t(mib * kMiB));
  }
  void* const small = memory->get(4096);
  for (void* block : blocks) memory->give_back(block);
  memory->give_back(small);

  void* const large = memory->get(10 * kMiB);
  ASSERT_TRUE(large);
  EXPECT_EQ(std::uintptr_t(large) % kHugePage, 0u);
  EXPECT_EQ(resident_mib(large, 10 * kMiB), 10);
  void* const later = memory->get(2 * kMiB);
  ASSERT_TRUE(later);
  EXPECT_EQ(resident_mib(later, 2 * kMiB), 0) << "what the large block left over was not kept for it";
  std::memset(large, 2, 10 * kMiB);
  std::memset(later, 3, 2 * kMiB);
  EXPECT_TRUE(std::ranges::all_of(std::span(static_cast<std::byte*>(large), 10 * kMiB),
                                  [](std::byte value) { return value == std::byte{2}; }));
  // A block that consists of others' pages serves again.
  memory->give_back(later);
  memory->give_back(large);
  void* const again = memory->get(12 * kMiB);
  ASSERT_TRUE(again);
  EXPECT_EQ(resident_mib(again, 12 * kMiB), 12);
  memory->give_back(again);
}

TEST(CpuMemory, ALargerBlockTakesTheRestFromTheSystem) {
  const std::unique_ptr<MemorySource> memory = make_cpu_memory();
  void* const first = memory->get(4 * kMiB);
  ASSERT_TRUE(first);
  std::memset(first, 1, 4 * kMiB);
  memory->give_back(first);
  void* const second = memory->get(8 * kMiB);
  ASSERT_TRUE(second);
  EXPECT_EQ(resident_mib(second, 8 * kMiB), 4);
  std::memset(second, 2, 8 * kMiB);
  memory->give_back(second);
}

/// Exits with 0 if a block can be exchanged for one as large where both together have no room.
[[noreturn]] void exchange_in_little_room() {
  const std::unique_ptr<MemorySource> memory = make_cpu_memory();
  void* const first = memory->get(64 * kMiB);
  std::int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const auto most = rlim_t(pages * sysconf(_SC_PAGESIZE) + 16 * kMiB);
  const rlimit limit{most, most};
  if (!first || setrlimit(RLIMIT_AS, &limit) != 0) std::_Exit(3);
  memory->give_back(first);
  void* const second = memory->get(64 * kMiB);
  if (!second) std::_Exit(1);
  std::memset(second, 1, 64 * kMiB);
  if (memory->get(64 * kMiB)) std::_Exit(2);
  // Nor of many small ones, for which the C library wants more than there is.
  memory->give_back(second);
  for (int i = 0; i < 40; ++i)
    if (!memory->get(kMiB)) std::_Exit(4);
  std::_Exit(0);
}

TEST(CpuMemoryDeathTest, KeptPagesDoNotTakeTheRoomOfTheNextBlock) {
  if (std::string_view(build_info().sanitizers).find("address") != std::string_view::npos)
    GTEST_SKIP() << "the address sanitizer maps more than a limit would allow";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(exchange_in_little_room(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace graft
