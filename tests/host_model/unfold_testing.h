// Unfolding on the host model, against its formula.
#pragma once

#include <gtest/gtest.h>

#include "kernels/cuda/kernels.h"
#include "tests/support/op_cases.h"
#include "tests/support/unfolded.h"

namespace graft {

/// x' of drawn values to the bit, with so many guard bytes around x. `conv` is one that is unfolded.
inline void expect_unfolded(Backend& device, DType type, const ConvSpec& conv, std::int64_t guard_bytes) {
  const Unfolding u = unfolding(GraphKind::conv, conv, type).value();
  OpCase from, to;
  Operand x = input("x", conv.x).of(type);
  x.stored = type;
  from.operands = {x};
  to.operands = {fresh("unfolded", u.conv.x).of(type)};
  CaseOperands in(device, from, Write::overwrite, {kNhwc}, guard_bytes), out(device, to, Write::overwrite, {kNhwc});
  gpu::unfold(out["unfolded"].data, in["x"], conv, u, nullptr);
  EXPECT_EQ(out.values("unfolded"), unfolded_input(conv, u, in.values("x"))) << to_string(conv.x);
  EXPECT_EQ(in.damage() + out.damage(), "");
}

/// Rows that shared memory does not hold.
inline void unfold_long_rows(Backend& device) {
  expect_unfolded(device, DType::bf16, {.x = {1, 7, 2, 401}, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1}, 0);
}

}  // namespace graft
