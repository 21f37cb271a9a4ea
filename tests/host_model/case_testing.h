// What runs on the host model: the op cases of a GPU.
#pragma once

#include <array>
#include <cmath>
#include <optional>

#include "kernels/cuda/kernels.h"
#include "tests/kernels/kernel_testing.h"

namespace graft {

inline std::vector<CaseOnDevice> cases_here() { return cases_in_every_type(DeviceKind::cuda); }

inline constexpr std::array kTypes = {DType::f32, DType::bf16, DType::f16};

/// Bytes around each operand: many; none, so that the address sanitizer guards its ends; so few that float4 cannot be
/// used on it.
inline constexpr std::array<std::int64_t, 3> kGuards = {CaseOperands::kGuardBytes, 0, 8};

/// `all_finite` is no op: its case is a slice among NaN, with one bad value or none.
inline bool is_found_finite(Backend& device, DType type, std::optional<double> bad) {
  OpCase op;
  op.operands = {input("x", {2, 3, 10, 11}).slice(1, 2).of(type)};
  CaseOperands o(device, op, Write::overwrite, {kNhwc});
  std::vector<double> values = o.values("x");
  if (bad) values[577] = *bad;
  o.set("x", values);
  return device.all_finite(o["x"]);
}

/// The bias is added by the vendors' calls after their product: a kernel of its own, in every type of y.
inline void expect_bias_added(Backend& device, DType type) {
  OpCase op;
  op.operands = {updated("y", {5, 37, 2, 3}).slice(1, 2).of(type), input("bias", {1, 37, 1, 1})};
  CaseOperands o(device, op, Write::overwrite, {kNhwc, kNhwc});
  const std::vector<double> before = o.values("y"), bias = o.values("bias");
  gpu::add_bias(o["y"], o["bias"], nullptr);
  const std::vector<double> after = o.values("y");
  for (std::size_t i = 0; i < after.size(); ++i) {
    const double sum = before[i] + bias[i / 6 % 37];
    EXPECT_EQ(after[i], rounded_to(type, double(float(sum)))) << to_string(type) << " " << i;
  }
  EXPECT_EQ(o.damage(), "");
}

/// What compare.cu finds between x and y: the largest |x - y| and the largest |x|.
inline std::array<float, 2> found_difference(Backend& device, const std::vector<double>& x,
                                             const std::vector<double>& y) {
  const std::int64_t size = std::int64_t(x.size());
  OpCase op;
  op.operands = {input("x", {1, size, 1, 1}), input("y", {1, size, 1, 1}), input("largest", {1, 2, 1, 1})};
  CaseOperands o(device, op, Write::overwrite, {kNhwc, kNhwc, kNhwc});
  o.set("x", x), o.set("y", y), o.set("largest", {0, 0});
  gpu::find_largest_difference(o["largest"].as<float>(), o["x"], o["y"], 65504.0f, nullptr);
  const std::vector<double> found = o.values("largest");
  return {float(found[0]), float(found[1])};
}

}  // namespace graft
