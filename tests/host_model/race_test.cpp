// The race check itself: racing kernels are reported with file, line, kernel, block and thread, right ones are not.
#include "tests/host_model/model_testing.h"

namespace graft {
namespace {

class RaceCheck : public HostModel {};

TEST_F(RaceCheck, ReportsRacesWithTheirPlace) {
  ASSERT_TRUE(host_model::checks_races());
  for (const host_model::Order order : kOrders) {
    host_model::set_order(order, 3);
    for (const WrongKernel& racing : racing_kernels()) expect_fault(racing, "racing_kernels.cu");
  }
}

TEST_F(RaceCheck, SaysNothingOfRightKernels) {
  for (const host_model::Order order : kOrders) {
    host_model::set_order(order, 3);
    for (const WrongKernel& ordered : ordered_kernels()) {
      DeviceArray<float> x(std::vector<float>(128, 1.0f));
      EXPECT_NO_THROW(ordered.launch(x.data())) << ordered.name;
    }
  }
}

}  // namespace
}  // namespace graft
