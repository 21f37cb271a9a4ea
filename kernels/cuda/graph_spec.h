// What a cuDNN graph computes, as plain data: the key of a plan in memory and on disk, and what a test can ask support
// for without a GPU. graph_cudnn.cpp turns it into cuDNN's operations; nothing here knows cuDNN.
#pragma once

#include <compare>
#include <optional>
#include <string>

#include "kernels/core.h"

namespace graft {

/// Layouts are NHWC for activations and KRSC for weights. Sums and everything per channel is float32.
enum class GraphKind : std::uint8_t {
  conv,         // y = conv(x, w) [+ bias] [+ residual] [then ReLU]
  data_grad,    // x's gradient from y's and w
  weight_grad,  // w's gradient from y's and x
  /// y = ReLU(norm(x) [+ residual]) with the batch's statistics, and a bit for each y > 0.
  norm,
  /// Gradients of x, scale and shift [and residual] from y's, the bits and x.
  norm_grad,
  /// y = conv(x, w), and each channel's sum and sum of squares of y.
  conv_statistics,
  /// y = conv(ReLU(x * scale + shift), w), and the same sums of y.
  norm_conv_statistics,
  /// g = the gradient of ReLU(norm(x)) from y's and w, masked by the ReLU, and its two sums that norm's gradient needs.
  data_grad_norm_sums,
};

struct GraphSpec {
  GraphKind kind = GraphKind::conv;
  DType dtype = DType::f32;  // of activations, weights, and the gradients of both
  bool allows_tf32 = false;  // f32 only: tensor cores may round products' inputs to 10 bits
  ConvSpec conv;             // of norm and norm_grad the shape of x alone
  /// Channels of the buffers that x (and its gradient) and y (and its gradient) are slices of; 0: dense.
  std::int64_t x_pitch = 0, y_pitch = 0;
  bool has_bias = false, has_residual = false, has_relu = false;

  bool is_norm() const { return kind == GraphKind::norm || kind == GraphKind::norm_grad; }
  friend bool operator==(const GraphSpec&, const GraphSpec&) = default;
  friend auto operator<=>(const GraphSpec&, const GraphSpec&) = default;
};

/// How a convolution of few channels becomes one of many, which tensor cores are made for: all columns of the window
/// and `rows` of its rows turn into channels.
///   x'[n, i, j, (a, s, c)] = x[n, stride_h * i + a - pad_h, stride_w * j + s - pad_w, c], 0 outside the image
///   w'[k, r, 0, (a, s, c)] = w[k, rows * r + a, s, c], 0 below the window
/// for a < rows, with channels of zeros up to a multiple of 8. What is left has stride 1 and no padding.
struct Unfolding {
  std::int64_t rows = 1;
  ConvSpec conv;  // of x' and w'
};

/// The unfolding with which a graph computes the convolution; none for gradients of x, for float32, for 8 channels and
/// more, for dilated windows, and for rows so long that x' would have more than 64 channels.
std::optional<Unfolding> unfolding(GraphKind kind, const ConvSpec& conv, DType dtype);

/// The graph of a convolution, or of a norm over conv.x, as the CUDA backend runs it. In 16 bits cuDNN wants channels
/// in eights: a convolution of fewer is unfolded, or else the missing ones are zeros, in x and in w.
GraphSpec conv_graph(GraphKind kind, const ConvSpec& conv, DType dtype, bool allows_tf32 = false);

/// Whether there are kernels (norm_conv.cu) for a norm over conv.x and this convolution behind it.
bool has_norm_conv(const ConvSpec& conv, DType dtype);
inline constexpr std::int64_t kNormConvOut = 128;

/// Whether there are kernels (conv_growth.cu, conv_growth_weight_grad.cu) for the convolution and its gradients, if its
/// images are not too wide or too many.
bool has_conv_growth(const ConvSpec& conv, DType dtype);
inline constexpr std::int64_t kConvGrowthOut = 32;  // channels that it makes

/// One line without tabs, different for different specs: "conv+bias+relu bf16 x [16,64,56,56] w [64,64,3,3] stride 1x1
/// pad 1x1".
std::string to_string(const GraphSpec& spec);

/// cuDNN's answer about a graph for one GPU.
struct GraphSupport {
  std::string plan;                  // the first in cuDNN's order that can be used: "eng70_k2=4_k18=0"; empty: none
  std::int64_t workspace_bytes = 0;  // of that plan
  std::int64_t plans = 0;            // listed, all engines
  std::int64_t compiled_plans = 0;   // of them, compiled at run time
  std::int64_t engines = 0;          // different ones among them
  /// Whether the plan was built. Engines that are compiled at run time need a GPU's driver for that: they are listed.
  bool is_built = false;
  std::string reason;  // why there is none, cuDNN's words
};

}  // namespace graft
