// Without memory for oneDNN's generated code a convolution is an error, not the end of the program. Tried in processes
// that may map no more than they have.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <new>

#include "kernels/build_info.h"
#include "tests/kernels/kernel_testing.h"

namespace graft {
namespace {

/// Lets this process map so many bytes more.
void leave_address_space(std::int64_t bytes) {
  std::int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const auto most = rlim_t(pages * sysconf(_SC_PAGESIZE) + bytes);
  const rlimit limit{most, most};
  if (setrlimit(RLIMIT_AS, &limit) != 0) std::_Exit(3);
}

/// Exits with 0 if the convolution's first call is refused for want of memory.
[[noreturn]] void convolve_in(std::int64_t bytes_left) {
  const std::unique_ptr<Backend> device = make_backend({DeviceKind::cpu}, {.threads = 1});
  const ConvSpec spec{.x = {1, 32, 9, 9}, .k = 64, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1};
  const ConvFormats formats = device->conv_formats(spec);
  OpCase op;
  op.operands = {input("x", spec.x).in(formats.x), input("w", {spec.k, spec.x.c, 3, 3}),
                 fresh("y", spec.y()).in(formats.y)};
  CaseOperands o(*device, op, Write::overwrite, {formats.x, kNhwc, formats.y});
  leave_address_space(bytes_left);
  try {
    device->conv(spec, o["y"], o["x"], o.weight("w"), {});
  } catch (const std::bad_alloc&) {
    std::_Exit(0);
  } catch (...) {
    std::_Exit(2);
  }
  std::_Exit(1);
}

TEST(LittleMemoryDeathTest, AConvolutionThatCannotBePreparedIsAnError) {
  if (std::string_view(build_info().sanitizers).find("address") != std::string_view::npos)
    GTEST_SKIP() << "the address sanitizer maps more than a limit would allow";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (const std::int64_t kib : {0, 64, 256, 1024, 4096})
    EXPECT_EXIT(convolve_in(kib << 10), ::testing::ExitedWithCode(0), "") << kib;
}

}  // namespace
}  // namespace graft
