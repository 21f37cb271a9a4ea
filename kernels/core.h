// The vocabulary every layer shares: errors, devices, element types and the plain specs that describe an operation.
// Nothing here allocates, computes or knows a vendor library. The calls that use these specs are in backend.h.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace graft {

/// What a user can cause and can mend. The text names the operation, what was expected, what came, what to try next.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A command line or configuration that cannot be understood (exit code 2 in the program).
class UsageError : public Error {
 public:
  using Error::Error;
};

enum class DeviceKind { reference, cpu, cuda };

/// Where tensors live and operations run. `reference` computes everything in double with plain loops.
struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int index = 0;
  friend bool operator==(const Device&, const Device&) = default;
};

/// "cpu", "reference", "cuda:0".
std::string to_string(const Device& device);

enum class DType : std::uint8_t { f32, f64, bf16, f16, i32, u8 };

std::int64_t size_of(DType dtype);  // bytes
std::string_view to_string(DType dtype);

/// How a device computes. tf32: float32 whose products are taken with 10 fraction bits, on GPUs. bf16, f16:
/// activations, their gradients and the weights that convolutions and linear layers read have 16 bits; sums,
/// statistics, losses and the weights that the optimizer updates (the masters) stay float32 (float64 on the reference
/// device).
enum class Precision : std::uint8_t { f32, tf32, bf16, f16 };

std::string_view to_string(Precision precision);  // "bf16"

/// Logical dimensions N C H W, whatever the memory order. A matrix [rows, columns] is {rows, columns, 1, 1}.
struct Shape {
  std::int64_t n = 1, c = 1, h = 1, w = 1;
  std::int64_t size() const { return n * c * h * w; }
  std::int64_t pixels() const { return h * w; }
  friend bool operator==(const Shape&, const Shape&) = default;  // spelled out: nvcc forgets the implied one
  friend auto operator<=>(const Shape&, const Shape&) = default;
};

std::string to_string(const Shape& shape);  // "[8,3,224,224]"

/// Memory order of an activation: channels are grouped in blocks of `block`, pixels outside, block index outside that.
///   element (n,c,h,w) of a tensor whose buffer holds `pitch` channels lies at
///   nhwc:      ((n*H + h)*W + w)*pitch + c
///   blocked b: n*pitch*H*W + (c/b)*H*W*b + (h*W + w)*b + c%b        (b = 1 is NCHW)
/// Blocked formats hold only channel counts divisible by b; the CPU library chooses b, nothing else names it.
struct Format {
  int block = 0;  // 0: NHWC
  friend bool operator==(const Format&, const Format&) = default;
  friend auto operator<=>(const Format&, const Format&) = default;
};
inline constexpr Format kNhwc{0};
inline constexpr Format kNchw{1};

/// Whether a result replaces its destination or is added to it.
enum class Write : std::uint8_t { overwrite, add };

/// How many windows of a length fit into a padded extent; none if it is shorter.
constexpr std::int64_t windows(std::int64_t padded, std::int64_t length, std::int64_t stride) {
  return padded < length ? 0 : (padded - length) / stride + 1;
}

/// 2-d convolution. Weights are K R S C (output channels, kernel rows, kernel columns, input channels).
struct ConvSpec {
  Shape x;                           // input  [N, C, H, W]
  std::int64_t k = 1, r = 1, s = 1;  // output channels, kernel height, kernel width
  std::int64_t stride_h = 1, stride_w = 1;
  std::int64_t pad_h = 0, pad_w = 0;
  std::int64_t dilation_h = 1, dilation_w = 1;

  std::int64_t out_h() const { return windows(x.h + 2 * pad_h, dilation_h * (r - 1) + 1, stride_h); }
  std::int64_t out_w() const { return windows(x.w + 2 * pad_w, dilation_w * (s - 1) + 1, stride_w); }
  Shape y() const { return {x.n, k, out_h(), out_w()}; }
  std::int64_t weight_size() const { return k * r * s * x.c; }
  /// 1x1 without stride or padding: a product of matrices, with pixels as rows.
  bool is_pointwise() const { return weight_size() == k * x.c && y() == Shape{x.n, k, x.h, x.w} && pad_h + pad_w == 0; }
  friend bool operator==(const ConvSpec&, const ConvSpec&) = default;
  friend auto operator<=>(const ConvSpec&, const ConvSpec&) = default;
};

/// 2-d pooling; padding counts as -infinity for max, and for the average as zeros or not at all.
struct PoolSpec {
  Shape x;
  std::int64_t window_h = 2, window_w = 2;
  std::int64_t stride_h = 2, stride_w = 2;
  std::int64_t pad_h = 0, pad_w = 0;
  bool count_padding = true;  // average pooling: divide by the whole window (PyTorch's count_include_pad)

  constexpr std::int64_t out_h() const { return windows(x.h + 2 * pad_h, window_h, stride_h); }
  constexpr std::int64_t out_w() const { return windows(x.w + 2 * pad_w, window_w, stride_w); }
  Shape y() const { return {x.n, x.c, out_h(), out_w()}; }
  friend bool operator==(const PoolSpec&, const PoolSpec&) = default;
};

/// A penalty R(w) that the optimizer's update applies to a parameter; w0 is the anchor (pre-trained value), or 0.
///   l2: R = strength/2 * sum (w - w0)^2, gradient strength * (w - w0)
///   l1: R = strength * sum |w - w0|,     gradient strength * sign(w - w0), where sign(0) = 0
/// Units: strength is loss per squared weight (l2) or per weight (l1).
/// Source: Li, Grandvalet, Davoine 2018 (L2-SP, L1-SP).
enum class PenaltyKind : std::uint8_t { none, l2, l1 };

/// How a penalty acts. coupled: its gradient joins the task's before the moments, as automatic differentiation of the
/// sum would have it. decoupled: w -= lr * gradient beside the step (the gradient at the weight before the step).
/// proximal: after the step w becomes argmin_u (u - w)^2/2 + lr * R(u), which for l1 reaches w0 exactly.
enum class PenaltyMode : std::uint8_t { coupled, decoupled, proximal };

struct PenaltySpec {
  PenaltyKind kind = PenaltyKind::none;
  PenaltyMode mode = PenaltyMode::coupled;
  bool to_anchor = false;
  double strength = 0;
  friend bool operator==(const PenaltySpec&, const PenaltySpec&) = default;
};

/// How a loss scale follows the gradients: it shrinks by `backoff` after a step whose gradients were not finite, and
/// grows after `interval` finite ones in a row. Source: PyTorch's GradScaler, whose defaults these are.
struct LossScaling {
  double initial = 65536, growth = 2, backoff = 0.5;
  std::int64_t interval = 2000;
};

}  // namespace graft
