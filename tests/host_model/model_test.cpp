// The host model itself: right kernels give the results that CUDA defines, wrong ones are reported with file, line,
// kernel, block and thread in every order.
#include <gtest/gtest.h>

#include "kernels/core.h"
#include "tests/host_model/backend.h"
#include "tests/host_model/model_testing.h"

namespace graft {
namespace {

using host_model::Order;

TEST_F(HostModel, ComputesWhatCudaDefines) {
  for (const Order order : kOrders) {
    host_model::set_order(order, 3);
    DeviceArray<float> x(96);
    DeviceArray<int> integers(std::vector<int>{0, 0, 0, 0});
    launch_right(x.data(), integers.data());
    const std::vector<float> values = x.values();
    for (int t = 0; t < 96; ++t) {
      const int lane = t % 32, down = lane == 31 ? t : t + 1, up = lane < 2 ? t : t - 2;
      const int expected = (95 - t) + (95 - down) + (t / 8 * 8 + 5) + up + (lane < 16 ? lane ^ 3 : 0) + 32;
      EXPECT_EQ(values[std::size_t(t)], float(expected)) << "thread " << t;
    }
    EXPECT_EQ(integers.values(), (std::vector<int>{95 * 96 / 2, 95, 96 % 10, 31 + 3}));
  }
}

TEST_F(HostModel, ReportsWrongKernelsWithTheirPlace) {
  EXPECT_GE(wrong_kernels().size(), 10u);
  for (const Order order : kOrders) {
    host_model::set_order(order, 3);
    for (const WrongKernel& wrong : wrong_kernels()) expect_fault(wrong, "wrong_kernels.cu");
  }
}

TEST_F(HostModel, GoesOnAfterAFault) {
  for (int i = 0; i < 3; ++i) {
    DeviceArray<float> x(std::vector<float>(128, 1.0f));
    EXPECT_THROW(wrong_kernels()[0].launch(x.data()), host_model::Fault);
    DeviceArray<int> integers(std::vector<int>{0, 0, 0, 0});
    launch_right(x.data(), integers.data());
    EXPECT_EQ(integers.values()[1], 95);
  }
}

TEST_F(HostModel, RefusesLaunchesThatAGpuRefuses) {
  DeviceArray<float> x(128);
  try {
    launch_too_many_threads(x.data());
    FAIL() << "1025 threads ran";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("too many failed: invalid configuration"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace graft
