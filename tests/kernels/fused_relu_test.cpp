// A ReLU that a device computes within a convolution must not let a gradient pass where the result was negative.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/kernel_testing.h"

namespace graft {
namespace {

TEST(FusedRelu, LeavesNothingPositiveOfANegativeResult) {
  const std::unique_ptr<Backend> device = make_backend({DeviceKind::cpu}, {.threads = 1});
  const ConvSpec spec{.x = {2, 8, 6, 5}, .k = 8, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1};
  const ConvFormats formats = device->conv_formats(spec);
  OpCase op;
  op.operands = {input("x", spec.x, uniform(-1, 1)).in(formats.x), input("w", {spec.k, spec.x.c, 3, 3}, uniform(-1, 1)),
                 fresh("plain", spec.y()).in(formats.y), fresh("y", spec.y()).in(formats.y)};
  CaseOperands o(*device, op, Write::overwrite, {formats.x, kNhwc, formats.y, formats.y});
  device->conv(spec, o["plain"], o["x"], o.weight("w"), {});
  device->conv(spec, o["y"], o["x"], o.weight("w"), {.bias = {}, .relu = true});
  const std::vector<double> plain = o.values("plain"), y = o.values("y");
  int negative = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (plain[i] > 0) {
      EXPECT_EQ(y[i], plain[i]) << i;
      continue;
    }
    ++negative;
    EXPECT_LE(y[i], 0) << i;
    EXPECT_GE(y[i], -1e-20) << i;
  }
  EXPECT_GT(negative, 100);
}

}  // namespace
}  // namespace graft
