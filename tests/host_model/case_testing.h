// What runs on the host model: the op cases whose work is done by kernels of graft.
#pragma once

#include <array>
#include <cmath>
#include <optional>

#include "tests/kernels/kernel_testing.h"

namespace graft {

/// Convolutions are cuDNN's.
inline bool is_vendors(const OpCase& op) { return op.call == "conv" || op.call.starts_with("conv_"); }

inline std::vector<CaseOnDevice> cases_here() {
  std::vector<CaseOnDevice> cases = cases_on(DeviceKind::cuda);
  std::erase_if(cases, [](const CaseOnDevice& c) { return is_vendors(*c.op); });
  return cases;
}

/// Bytes around each operand: many; none, so that the address sanitizer guards its ends; so few that float4 cannot be
/// used on it.
inline constexpr std::array<std::int64_t, 3> kGuards = {CaseOperands::kGuardBytes, 0, 8};

/// `all_finite` is no op: its case is a slice among NaN, with one bad value or none.
inline bool is_found_finite(Backend& device, std::optional<double> bad) {
  OpCase op;
  op.operands = {input("x", {2, 3, 10, 11}).slice(1, 2)};
  CaseOperands o(device, op, Write::overwrite, {kNhwc});
  std::vector<double> values = o.values("x");
  if (bad) values[577] = *bad;
  o.set("x", values);
  return device.all_finite(o["x"]);
}

}  // namespace graft
