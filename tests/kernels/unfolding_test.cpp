// That an unfolded convolution is the convolution: by the formulas of Unfolding and the reference device, on whole
// numbers, which no order of sums rounds.
#include <gtest/gtest.h>

#include "kernels/cuda/graph_spec.h"
#include "tests/support/op_cases.h"
#include "tests/support/unfolded.h"

namespace graft {
namespace {

constexpr DType kHalf = DType::bf16;

/// y and w's gradient of a convolution, from x, w and dy in N C H W order.
struct Results {
  std::vector<double> y, dw;
  friend bool operator==(const Results&, const Results&) = default;
};
Results results(const ConvSpec& conv, const std::vector<double>& x, const std::vector<double>& w,
                const std::vector<double>& dy) {
  const std::unique_ptr<Backend> reference = make_backend({DeviceKind::reference, 0});
  const Shape weight{conv.k, conv.x.c, conv.r, conv.s};
  OpCase op;
  op.operands = {input("x", conv.x), input("w", weight), input("dy", conv.y()), fresh("y", conv.y()),
                 output("dw", weight)};
  CaseOperands o(*reference, op, Write::overwrite, std::vector<Format>(op.operands.size(), kNhwc));
  o.set("x", x), o.set("w", w), o.set("dy", dy);
  reference->conv(conv, o["y"], o["x"], o.weight("w"), {});
  reference->conv_weight_grad(conv, o["dw"], Write::overwrite, o["dy"], o["x"]);
  return {o.values("y"), o.values("dw")};
}

std::vector<double> whole_numbers(std::int64_t size, std::int64_t seed) {
  std::vector<double> values(static_cast<std::size_t>(size));
  for (std::int64_t i = 0; i < size; ++i) values[std::size_t(i)] = double((i * i * 7 + i * seed + i / 5) % 13 - 6);
  return values;
}

void expect_exact(const ConvSpec& conv) {
  const std::optional<Unfolding> u = unfolding(GraphKind::conv, conv, kHalf);
  ASSERT_TRUE(u) << to_string(conv.x);
  ASSERT_EQ(u->conv.y(), conv.y());
  const std::vector<double> x = whole_numbers(conv.x.size(), 3), w = whole_numbers(conv.weight_size(), 5),
                            dy = whole_numbers(conv.y().size(), 11);
  Results by_channels = results(u->conv, unfolded_input(conv, *u, x), unfolded_weight(conv, *u, w), dy);
  by_channels.dw = folded_weight(conv, *u, by_channels.dw);
  EXPECT_EQ(by_channels, results(conv, x, w, dy)) << to_string(conv.x);
}

TEST(Unfolding, IsTheSameConvolution) {
  for (const std::int64_t size : {8, 9, 10, 13, 16})
    for (const std::int64_t c : {1, 3}) {
      const std::int64_t wide = size + 3;
      expect_exact(
          {.x = {2, c, size, wide}, .k = 3, .r = 7, .s = 7, .stride_h = 2, .stride_w = 2, .pad_h = 3, .pad_w = 3});
      expect_exact({.x = {2, c, size, wide}, .k = 3, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1});
      expect_exact(
          {.x = {1, c, size, wide}, .k = 2, .r = 3, .s = 3, .stride_h = 2, .stride_w = 2, .pad_h = 1, .pad_w = 1});
      expect_exact(
          {.x = {1, c, size, wide}, .k = 2, .r = 5, .s = 7, .stride_h = 1, .stride_w = 3, .pad_h = 4, .pad_w = 2});
      expect_exact(
          {.x = {1, c, size, wide}, .k = 2, .r = 8, .s = 5, .stride_h = 3, .stride_w = 1, .pad_h = 1, .pad_w = 0});
    }
  expect_exact({.x = {2, 7, 5, 4}, .k = 3, .stride_h = 2, .stride_w = 3});
}

TEST(Unfolding, OfTheNetworksStems) {
  const ConvSpec resnet{
      .x = {256, 3, 224, 224}, .k = 64, .r = 7, .s = 7, .stride_h = 2, .stride_w = 2, .pad_h = 3, .pad_w = 3};
  const ConvSpec vgg{.x = {16, 3, 224, 224}, .k = 64, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1};
  for (const GraphKind kind : {GraphKind::conv, GraphKind::weight_grad}) {
    EXPECT_EQ(conv_graph(kind, resnet, kHalf).conv, (ConvSpec{.x = {256, 48, 115, 112}, .k = 64, .r = 4}));
    EXPECT_EQ(conv_graph(kind, vgg, DType::f16).conv, (ConvSpec{.x = {16, 32, 224, 224}, .k = 64}));
    EXPECT_EQ(conv_graph(kind, vgg, DType::f32).conv, vgg);
  }
}

TEST(Unfolding, IsNotForAll) {
  const ConvSpec vgg{.x = {16, 3, 224, 224}, .k = 64, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1};
  ConvSpec padded = vgg, dilated = vgg, long_rows = vgg, many = vgg, nothing_left = vgg;
  padded.x.c = 8;
  EXPECT_EQ(conv_graph(GraphKind::data_grad, vgg, kHalf).conv, padded);
  dilated.dilation_w = 2;
  EXPECT_FALSE(unfolding(GraphKind::conv, dilated, kHalf));
  long_rows.r = long_rows.s = 11, long_rows.stride_h = long_rows.stride_w = 4;
  EXPECT_FALSE(unfolding(GraphKind::conv, long_rows, kHalf));
  EXPECT_EQ(conv_graph(GraphKind::conv, long_rows, kHalf).conv.x, padded.x);
  many.x.c = 8;
  EXPECT_EQ(conv_graph(GraphKind::conv, many, kHalf).conv, many);
  nothing_left.x.h = nothing_left.x.w = 1, nothing_left.r = 7;
  EXPECT_FALSE(unfolding(GraphKind::conv, nothing_left, kHalf));
}

}  // namespace
}  // namespace graft
