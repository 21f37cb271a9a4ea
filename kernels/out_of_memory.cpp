#include "kernels/out_of_memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include <fmt/format.h>

namespace graft {

std::string memory_text(std::int64_t bytes) {
  constexpr double kMiB = 1 << 20;
  const double mib = double(bytes) / kMiB;
  return mib >= 1024 ? fmt::format("{:.2f} GiB", mib / 1024) : fmt::format("{:.{}f} MiB", mib, mib < 10 ? 1 : 0);
}

std::string address_space_text() {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return {};
  std::int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const std::int64_t most = std::int64_t(limit.rlim_cur), used = pages * sysconf(_SC_PAGESIZE);
  return fmt::format("{} are left of the limit of {} on the address space (ulimit -v)",
                     memory_text(std::max<std::int64_t>(0, most - used)), memory_text(most));
}

OutOfMemory::OutOfMemory(const std::string& device, std::int64_t needed_bytes, std::int64_t used_bytes,
                         const std::string& left)
    : Error(fmt::format("out of memory on {}: {} more are needed, {} are in use{}{}; {}", device,
                        memory_text(needed_bytes), memory_text(used_bytes), left.empty() ? "" : ", ", left,
                        kLessMemoryAdvice)) {}

std::string host_out_of_memory_text(std::string_view advice) {
  const std::string left = address_space_text();
  return fmt::format("out of memory on the host{}{}; {}", left.empty() ? "" : ": ", left, advice);
}

}  // namespace graft
