// A ReLU that a device computes within a convolution must not let a gradient pass where the result was negative.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/kernel_testing.h"

namespace graft {
namespace {

class FusedRelu : public testing::TestWithParam<Precision> {};

TEST_P(FusedRelu, LeavesNothingPositiveOfANegativeResult) {
  const DType type = GetParam() == Precision::bf16 ? DType::bf16 : DType::f32;
  if (const std::string reason = type == DType::bf16 ? cpu_bf16_unavailable_reason() : ""; !reason.empty())
    GTEST_SKIP() << "not run in bf16 on the CPU: " << reason;
  const std::unique_ptr<Backend> device = make_backend({DeviceKind::cpu}, {.threads = 1, .precision = GetParam()});
  const ConvSpec spec{.x = {2, 8, 6, 5}, .k = 8, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1};
  const ConvFormats formats = device->conv_formats(spec);
  OpCase op;
  op.operands = {input("x", spec.x, uniform(-1, 1)).in(formats.x).of(type),
                 input("w", {spec.k, spec.x.c, 3, 3}, uniform(-1, 1)).of(type),
                 fresh("plain", spec.y()).in(formats.y).of(type), fresh("y", spec.y()).in(formats.y).of(type)};
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

INSTANTIATE_TEST_SUITE_P(Cpu, FusedRelu, testing::Values(Precision::f32, Precision::bf16),
                         [](const auto& test) { return std::string(to_string(test.param)); });

}  // namespace
}  // namespace graft
