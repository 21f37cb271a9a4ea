#include "kernels/cuda/graph_spec.h"

#include <fmt/format.h>

namespace graft {
namespace {

constexpr std::int64_t kGroup = 8;          // channels that cuDNN's 16-bit engines read at once
constexpr std::int64_t kMostUnfolded = 64;  // channels of an unfolded x: what it gains it must not lose in bytes

const char* name_of(GraphKind kind) {
  switch (kind) {
    case GraphKind::conv:
      return "conv";
    case GraphKind::data_grad:
      return "data-grad";
    case GraphKind::weight_grad:
      return "weight-grad";
    case GraphKind::norm:
      return "norm";
    case GraphKind::norm_grad:
      return "norm-grad";
    case GraphKind::conv_statistics:
      return "conv-statistics";
    case GraphKind::norm_conv_statistics:
      return "norm-conv-statistics";
    case GraphKind::data_grad_norm_sums:
      return "data-grad-norm-sums";
  }
  return "?";
}

bool has_16_bits(DType dtype) { return dtype == DType::bf16 || dtype == DType::f16; }

}  // namespace

// With all rows of the window the rest is a matrix product. Else as many rows as the stride skips: then x' holds each
// row of x once.
std::optional<Unfolding> unfolding(GraphKind kind, const ConvSpec& conv, DType dtype) {
  if (dtype == DType::f32 || (kind != GraphKind::conv && kind != GraphKind::weight_grad)) return {};
  if (conv.x.c >= kGroup || conv.dilation_h != 1 || conv.dilation_w != 1 || conv.y().pixels() == 0) return {};
  const std::int64_t row = conv.s * conv.x.c;
  const std::int64_t rows = conv.r * row <= kMostUnfolded ? conv.r : conv.stride_h;
  if (rows * row > kMostUnfolded) return {};
  const std::int64_t channels = (rows * row + kGroup - 1) / kGroup * kGroup, taps = (conv.r + rows - 1) / rows;
  return Unfolding{
      .rows = rows,
      .conv = {.x = {conv.x.n, channels, conv.out_h() + taps - 1, conv.out_w()}, .k = conv.k, .r = taps, .s = 1}};
}

GraphSpec conv_graph(GraphKind kind, const ConvSpec& conv, DType dtype, bool allows_tf32) {
  GraphSpec graph{.kind = kind, .dtype = dtype, .allows_tf32 = allows_tf32, .conv = conv};
  if (const std::optional<Unfolding> unfolded = unfolding(kind, conv, dtype))
    graph.conv = unfolded->conv;
  else if (dtype != DType::f32 && !graph.is_norm() && conv.x.c < kGroup)
    graph.conv.x.c = kGroup;
  return graph;
}

bool has_norm_conv(const ConvSpec& conv, DType dtype) {
  return has_16_bits(dtype) && conv.is_pointwise() && conv.k == kNormConvOut && conv.x.c % 32 == 0;
}

bool has_conv_growth(const ConvSpec& conv, DType dtype) {
  const ConvSpec window{.x = conv.x, .k = kConvGrowthOut, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1};
  return has_16_bits(dtype) && conv == window && conv.x.c % 32 == 0;
}

std::string to_string(const GraphSpec& g) {
  const ConvSpec& c = g.conv;
  std::string text =
      fmt::format("{}{}{}{} {} x {}", name_of(g.kind), g.has_bias ? "+bias" : "", g.has_residual ? "+add" : "",
                  g.has_relu ? "+relu" : "", g.allows_tf32 ? "tf32" : to_string(g.dtype), to_string(c.x));
  if (!g.is_norm()) {
    text += fmt::format(" w [{},{},{},{}]", c.k, c.x.c, c.r, c.s);
    text += fmt::format(" stride {}x{} pad {}x{}", c.stride_h, c.stride_w, c.pad_h, c.pad_w);
    if (c.dilation_h != 1 || c.dilation_w != 1) text += fmt::format(" dilation {}x{}", c.dilation_h, c.dilation_w);
  }
  if (g.x_pitch) text += fmt::format(" x-pitch {}", g.x_pitch);
  if (g.y_pitch) text += fmt::format(" y-pitch {}", g.y_pitch);
  return text;
}

}  // namespace graft
