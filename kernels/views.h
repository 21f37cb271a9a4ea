// Plain data that device calls take: where numbers lie, and what is asked for beside them. The calls:
// kernels/backend.h.
#pragma once

#include <memory>
#include <span>

#include "kernels/core.h"

namespace graft {

/// Where an activation, a weight [K,C,R,S], a matrix [rows,columns,1,1] or a vector [1,C,1,1] lies.
struct ConstView {
  const void* data = nullptr;
  DType dtype = DType::f32;
  Format format = kNhwc;
  Shape shape;
  std::int64_t pitch = 0;  // channels of the buffer that this view is a channel slice of; == shape.c when dense

  bool is_dense() const { return pitch == shape.c; }
  template <class T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
};

struct View {
  void* data = nullptr;
  DType dtype = DType::f32;
  Format format = kNhwc;
  Shape shape;
  std::int64_t pitch = 0;

  bool is_dense() const { return pitch == shape.c; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  operator ConstView() const { return {data, dtype, format, shape, pitch}; }
};

/// Row `i` of a [2,C] statistics view.
inline View row(const View& v, int i) {
  return {static_cast<char*>(v.data) + i * v.pitch * size_of(v.dtype), v.dtype, kNhwc, {1, v.shape.c, 1, 1}, v.shape.c};
}
inline ConstView row(const ConstView& v, int i) {
  return {static_cast<const char*>(v.data) + i * v.pitch * size_of(v.dtype),
          v.dtype,
          kNhwc,
          {1, v.shape.c, 1, 1},
          v.shape.c};
}

/// Elements from one image to the next, one row to the next, … for any format: address(n,c,h,w) =
/// n*image + (c / block)*group + (h*W + w)*pixel + c % block, with block = `shape.c` for NHWC.
struct Strides {
  std::int64_t image, group, pixel, block;
  constexpr std::int64_t operator()(std::int64_t n, std::int64_t c, std::int64_t pixel_index) const {
    return n * image + c / block * group + pixel_index * pixel + c % block;
  }
};
inline Strides strides_of(const ConstView& v) {
  const std::int64_t hw = v.shape.pixels();
  if (v.format == kNhwc) return {v.pitch * hw, 0, v.pitch, v.shape.c > 0 ? v.shape.c : 1};
  return {v.pitch * hw, hw * v.format.block, v.format.block, v.format.block};
}

/// A convolution or linear weight. A device may keep a packed copy in `packed` until the version changes.
struct WeightView {
  ConstView value;                          // [K,C,R,S], KRSC in memory
  std::uint64_t version = 0;                // changes whenever the values do
  std::shared_ptr<void>* packed = nullptr;  // owned by the parameter, meaningful to the device alone; null: do not keep
};

/// The formats in which this device's convolution wants its input and gives its output.
struct ConvFormats {
  Format x, y;
};

/// One of the three calls of a convolution, for conv_workspace.
struct ConvCall {
  enum class Pass : std::uint8_t { forward, data_grad, weight_grad } pass = Pass::forward;
  ConvSpec spec;
  ConvFormats formats;
  Write write = Write::overwrite;
  bool has_bias = false;
};

/// Memory that a convolution takes beside its operands while it runs, in bytes.
struct ConvWorkspace {
  std::int64_t packed_weights = 0;  // kept with the parameter if WeightView::packed asks for it
  std::int64_t sum = 0;             // a result that is then added to the destination
  std::int64_t scratch = 0;
};

/// What a convolution may do to its result before writing it, in this order: add a bias [1,K,1,1], add a tensor like y,
/// clamp at zero. Data null: none.
struct ConvEpilogue {
  ConstView bias;
  bool relu = false;
  ConstView residual;  // of y's type, format and shape, dense, and other memory
};

/// y = (x - mean) / sqrt(var + epsilon) * gamma + beta [+ residual] [then ReLU], per channel.
struct NormalizeArgs {
  ConstView stats;        // [2,C]: row 0 mean, row 1 biased variance
  ConstView gamma, beta;  // [1,C,1,1]
  double epsilon = 1e-5;
  bool relu = false;
  /// With relu, whether y > 0 by element, in relu_mask_shape(y): `normalize` writes it, the gradients read it in the
  /// place of y. For backends that have masks; null data: none.
  View relu_mask;
};

/// What a norm's gradient sums [2,C] give besides; null data: not wanted.
struct NormalizeParameterGrads {
  View dgamma;  // (=|+=) sums[1]
  Write gamma_write = Write::overwrite;
  View dbeta;  // (=|+=) sums[0]
  Write beta_write = Write::overwrite;
  View weighted;  // [2,C] (=|+=) gamma * sums, see normalize_grad_correction
  Write weighted_write = Write::overwrite;
};

/// What a norm and the convolution behind it are computed for.
enum class NormConvUse : std::uint8_t {
  training,    // gradients too, and statistics of the result
  forward,     // of a step or of validation, where no gradient is asked for; as in training if both occur
  prediction,  // with the next norm and its ReLU folded in
};

/// What norm_conv does to its result y, or takes of it on the way. Null data: nothing.
struct NormConvEpilogue {
  ConstView bias;  // [1,K,1,1], added
  bool relu = false;
  View stats;    // [2,K] = batch_statistics of y, where there is neither bias nor ReLU
  View running;  // [2,K], then moves towards them by `momentum`, as update_running
  double momentum = 0;
};

/// u8, NHWC, dense: channel c is bit c % 8 of byte c / 8, bits beyond the channels are 0.
inline Shape relu_mask_shape(const Shape& y) { return {y.n, (y.c + 7) / 8, y.h, y.w}; }

struct SoftmaxSpec {
  double label_smoothing = 0;
  ConstView class_weights;  // [1,C,1,1]; data == nullptr: all one
};

/// Of several labels per image.
struct SigmoidSpec {
  ConstView targets;  // [L,C,1,1]: 0 or 1 for each class of label l in row l
  double label_smoothing = 0;
  ConstView positive_weights;  // [1,C,1,1]: of the classes that hold; data == nullptr: all one
};

/// One parameter inside the optimizer's arenas. Values and anchors lie in one layout; gradients and moments share
/// another, which holds trainable parameters only.
struct UpdateSegment {
  std::int64_t value_offset = 0, state_offset = 0, size = 0;  // elements
  double lr_scale = 1, decay = 0;
  std::int64_t row_size = 0;                // elements per output channel (size / dimension 0)
  const std::uint32_t* row_mask = nullptr;  // host; bit k set: row k trains. null: all rows train
  PenaltySpec penalty;
  int rate_group = -1;  // whose relative rate multiplies lr, see measure_gradients; -1: none
  /// Number of the step before this segment's first: the step `step.step` is its update number step.step - first_step,
  /// less the skipped ones that `control` has counted.
  std::int64_t first_step = 0;
  friend bool operator==(const UpdateSegment&, const UpdateSegment&) = default;
};

struct UpdateArena {
  View values;            // [1,n,1,1]
  ConstView gradients;    // state layout
  View moment1, moment2;  // state layout; moment2 unused by SGD
  std::span<const UpdateSegment> segments;
  ConstView anchors;  // values' layout; data == nullptr: none are kept
  View control;       // as measure_gradients left it; data == nullptr: gradients as they are, no relative rates
  View sums;          // f64 [segments,5] (kUpdateSums); data == nullptr: not wanted
  View half_values;   // bf16 or f16, values' layout: new values are stored here too, rounded; data == nullptr: none
  /// f64 [1,2,1,1]: the rate and the number of the step, in place of its `lr` and `step`; data == nullptr: those.
  ConstView clock;
  ConstView halt;  // f64 [1,1,1,1]: nothing changes unless it is 0; data == nullptr: go on
};

/// What `UpdateArena::sums` holds of every segment's trainable elements, in this order: the sums of g^2 (as stored),
/// w^2, (change of w)^2, (w - w0)^2 and |w - w0|, with w before the update. w0 is 0 for a penalty towards zero and
/// where no anchors are kept, else the anchor.
inline constexpr std::int64_t kUpdateSums = 5;

/// Whether a segment's w0 is its anchor, rather than 0.
inline bool uses_anchor(const UpdateSegment& s, const UpdateArena& arena) {
  if (s.penalty.kind != PenaltyKind::none) return s.penalty.to_anchor;
  return arena.sums.data && arena.anchors.data;
}

/// What `measure_gradients` is asked for.
struct MeasureSpec {
  double loss_scale = 1;     // stored gradients are this many times the loss's, unless the next is set
  bool scales_loss = false;  // they carry control's loss scale, which is then adapted by `scaling`
  LossScaling scaling;
  double max_gradient_norm = 0;  // 0: gradients are not clipped
  bool relative_rates = false;   // the rest is read only if set
  std::int64_t groups = 0;       // rate groups are 0 .. groups - 1
  double epsilon = 0, min_weight_norm = 1e-8;
  std::int64_t window = 1;  // steps over which ratios are averaged
};

/// `control`, f64 [1,control_size(groups),1,1], lies on the device; what is where:
inline constexpr std::int64_t kControlFactor = 0;         // on gradients; 0 for a step that is skipped
inline constexpr std::int64_t kControlNorm = 1;           // of the loss's gradient
inline constexpr std::int64_t kControlSkipped = 2;        // steps skipped since the caller set it to 0
inline constexpr std::int64_t kControlGradientScale = 3;  // what the measured gradients were times the loss's
inline constexpr std::int64_t kControlLossScale = 4;      // for the next backward pass; with MeasureSpec::scales_loss
inline constexpr std::int64_t kControlGoodSteps = 5;      // in a row since it last changed; likewise
inline constexpr std::int64_t kControlRates = 6;          // relative rate of group 0, 1, …
inline constexpr std::int64_t control_size(std::int64_t groups) { return kControlRates + groups; }

/// `report_batch` fills f64 [1,kReportSize,1,1]; what is where:
inline constexpr std::int64_t kReportLoss = 0;
inline constexpr std::int64_t kReportPenalty = 1;  // 0 without one
inline constexpr std::int64_t kReportCorrect = 2;  // right answers: one per row, or one per class (report_batch)
inline constexpr std::int64_t kReportHalted = 3;   // 1 from the first loss or penalty on that was not finite, else kept
inline constexpr std::int64_t kReportSize = 4;

}  // namespace graft
