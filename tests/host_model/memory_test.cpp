// What the host model does about memory: nothing is found there that was not written, and the sanitizers' build sees
// every access outside.
#include <cmath>

#include "tests/host_model/model_testing.h"

namespace graft {
namespace {

TEST_F(HostModel, SharedMemoryHoldsNothingFromBefore) {
  for (const host_model::Order order : kOrders) {
    host_model::set_order(order, 3);
    DeviceArray<float> x(128);
    launch_unwritten(x.data());
    for (int t = 0; t < 64; ++t) EXPECT_EQ(std::isnan(x.values()[std::size_t(t)]), t == 56) << t;
    launch_left_over(x.data());
    for (int t = 0; t < 128; ++t) EXPECT_EQ(std::isnan(x.values()[std::size_t(t)]), t >= 64) << t;
  }
}

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

using HostModelDeathTest = HostModel;

TEST_F(HostModelDeathTest, SanitizersSeeWhatLiesOutside) {
  if (!kSanitized) GTEST_SKIP() << "needs the sanitizers' build: preset asan";
  DeviceArray<float> x(std::vector<float>(128, 1.0f));
  EXPECT_DEATH(launch_beyond_global(x.data()),
               "in kernel beyond_global.*block .0,0,0., thread .63,0,0.(.|\n)*heap-buffer-overflow(.|\n)*"
               "wrong_kernels.cu:");
  EXPECT_DEATH(launch_beyond_shared(x.data()),
               "in kernel beyond_shared.*thread .63,0,0.(.|\n)*global-buffer-overflow(.|\n)*wrong_kernels.cu:");
  EXPECT_DEATH(launch_misaligned(x.data()), "wrong_kernels.cu:.*misaligned address");
}

}  // namespace
}  // namespace graft
