// The differentiable operations. Each lives in ops/<name>.cpp: forward, and its derivative directly below.
// Shapes are logical N C H W; results are on the inputs' context; errors name the operation and the shapes.
#pragma once

#include <array>

#include "tensor/parameter.h"

namespace graft {

struct ConvGeometry {
  std::int64_t stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0, dilation_h = 1, dilation_w = 1;
};

enum class Activation { none, relu };

/// y [N,K,OH,OW] = x [N,C,H,W] convolved with weight [K,C,R,S], plus bias (may be null), then the activation.
/// Errors: channels differ, or the output would be empty.
Tensor conv2d(const Tensor& x, const Parameter& weight, const Parameter* bias, const ConvGeometry& geometry,
              Activation activation = Activation::none);

/// The weight that a convolution with an adapter uses: weight + scale * up * down (LowRankAdapter), in the compute
/// type. Differentiated by all three, as far as they train. conv2d calls it; requires an adapter. Source: Hu et al.
/// 2021 (LoRA); for convolutions as in Hugging Face's PEFT, `down` with the kernel's window, `up` 1 x 1.
Tensor low_rank_sum(const Parameter& weight);

struct BatchNormArgs {
  const Parameter& gamma;
  const Parameter& beta;
  const RunningStatistics& running;  // read for its switches; its values are moved when update_running
  double epsilon = 1e-5;
  double momentum = 0.1;
  Activation activation = Activation::none;
};

/// y = activation((x - mean) / sqrt(var + epsilon) * gamma + beta [+ residual]); statistics of the batch or running
/// ones as `running` is switched. `residual` may be an empty tensor. Errors: batch statistics of a single value per
/// channel. `taken`: the batch's statistics [2,C], where they are known and the running ones have moved; see
/// fused_norm_conv.
Tensor batch_norm(const Tensor& x, const BatchNormArgs& args, const Tensor& residual = {}, const Tensor& taken = {});

/// A convolution's weight and bias with the norm behind it folded in. Owned by who owns the two; made by
/// `conv2d_folded_norm` at first use, and anew when the values that it was made of have changed.
struct FoldedNorm {
  std::array<std::uint64_t, 5> versions{};  // of weight, bias, gamma, beta and statistics
  Tensor weight, shift;
  std::uint64_t version = 0;  // of `weight`
  std::shared_ptr<void> packed;
};

struct ConvNormArgs {
  const Parameter& weight;
  const Parameter* bias = nullptr;  // may be null
  ConvGeometry geometry;
  BatchNormArgs norm;
};

/// Whether `conv2d_folded_norm` may be used: the context folds norms, nothing is recorded, the norm uses its running
/// statistics, the weight has no adapter, and the device folds.
bool can_fold_norm(Context& context, const ConvNormArgs& args);
/// activation(batch_norm(conv2d(x)) [+ residual]) as one convolution: equal to the two but for rounding. `residual` may
/// be empty. Requires can_fold_norm.
Tensor conv2d_folded_norm(const Tensor& x, const ConvNormArgs& args, FoldedNorm& kept, const Tensor& residual = {});

/// Batch statistics [2,C] (mean, biased variance) of x, recorded so that any number of `normalize` calls share them.
/// `into`, a slice of a wider statistics tensor, receives them. `epsilon` must be that of the consumers.
Tensor batch_statistics(const Tensor& x, Tensor into, double epsilon);

/// Batch norm of x with given statistics [2,C] (DenseNet: of a slice of the block's buffer, dense result). When
/// `args.running` uses batch statistics, `stats` must come from `batch_statistics`; else it is ignored.
Tensor normalize(const Tensor& x, const Tensor& stats, const BatchNormArgs& args);

/// A norm with a ReLU, the pointwise convolution behind it, and the norm with a ReLU behind that.
struct NormConvArgs {
  BatchNormArgs norm;
  const Parameter& weight;
  BatchNormArgs next;
};
/// Whether `fused_norm_conv` may be used on x with these statistics, and the device computes it faster than the two
/// operations.
bool can_fuse_norm_conv(const Tensor& x, const Tensor& stats, const NormConvArgs& args);
struct NormConvResult {
  Tensor y;
  Tensor stats;          // of y, where the next norm uses the batch's: its running ones have moved towards them
  bool is_next = false;  // the next norm and its ReLU are in y already: the device folded them
};
/// y [N,K,H,W] = conv2d(normalize(x, stats, args.norm), args.weight) for x [N,C,H,W], without the tensor between, which
/// backward makes again where it needs it. `kept` is that of the convolution and of the next norm, as in
/// conv2d_folded_norm. Requires can_fuse_norm_conv. Errors: batch statistics of a single value per channel.
NormConvResult fused_norm_conv(const Tensor& x, const Tensor& stats, const NormConvArgs& args, FoldedNorm& kept);

/// A buffer of `shape` whose channels are filled by `append`: DenseNet's block without concatenation copies.
Tensor channel_buffer(Context& context, const Shape& shape, Format format, DType type);
/// Copies x into channels [begin, begin + C) of buffer; returns that slice, which is on the tape.
Tensor append(const Tensor& buffer, std::int64_t begin, const Tensor& x);

Tensor relu(const Tensor& x);
Tensor add(const Tensor& a, const Tensor& b);
/// a + factor * b, where `factor` is one number of the compute type, which gets no gradient.
Tensor add_scaled(const Tensor& a, const Tensor& b, const Tensor& factor);
/// Inverted dropout with probability p of dropping. p == 0 returns x. Errors: p outside [0, 1).
Tensor dropout(const Tensor& x, double p);

struct PoolGeometry {
  std::int64_t window_h = 2, window_w = 2, stride_h = 2, stride_w = 2, pad_h = 0, pad_w = 0;
};
Tensor max_pool(const Tensor& x, const PoolGeometry& geometry);
Tensor avg_pool(const Tensor& x, const PoolGeometry& geometry, bool count_padding = true);
/// [N,C,H,W] -> [N,C,out_h,out_w], NHWC. 1 x 1 is global average pooling.
Tensor adaptive_avg_pool(const Tensor& x, std::int64_t out_h, std::int64_t out_w);
/// [N,C,H,W] -> NHWC memory of any shape of equal size: reorders a blocked tensor, else only renames.
Tensor to_nhwc(const Tensor& x);

/// y [N,out,1,1] = x (flattened in NHWC order to [N,in]) times weight [out, in] transposed, plus bias (may be null).
Tensor linear(const Tensor& x, const Parameter& weight, const Parameter* bias,
              Activation activation = Activation::none);

struct CrossEntropyArgs {
  double label_smoothing = 0;
  Tensor class_weights;  // [1,C,1,1] or empty
};
struct CrossEntropyResult {
  Tensor loss;           // [1,1,1,1], on the tape
  Tensor probabilities;  // [N,C,1,1]
};
/// PyTorch's cross_entropy with reduction "mean". labels: i32 [N]. Errors: counts differ.
CrossEntropyResult softmax_cross_entropy(const Tensor& logits, const Tensor& labels, const CrossEntropyArgs& args = {});

struct SigmoidCrossEntropyArgs {
  Tensor targets;  // [L,C,1,1]: in row l 0 or 1 for each class of label l
  double label_smoothing = 0;
  Tensor positive_weights;  // [1,C,1,1] or empty
};
/// Backend::sigmoid_cross_entropy: PyTorch's binary_cross_entropy_with_logits, mean. labels: i32 [N], rows of targets.
/// Errors: counts differ.
CrossEntropyResult sigmoid_cross_entropy(const Tensor& logits, const Tensor& labels,
                                         const SigmoidCrossEntropyArgs& args);

/// How far x [N,C,H,W] is from a fixed target of the same shape, as one number:
///   weight / (2 N) * sum over n, c of mean over pixels of (x - target)^2.
/// Differentiated by x alone. Errors: shapes differ.
Tensor feature_distance(const Tensor& x, const Tensor& target, double weight = 1);

struct SpectralShrinkageArgs {
  std::int64_t count = 1;  // singular values; a smaller batch has fewer, then all of them
  double weight = 1e-3;
};
/// weight * sum of the squares of the `count` smallest singular values of features [N,F,1,1], as one number. Where the
/// last chosen value equals the next one the derivative is that of one choice among them.
/// Cost: a copy of the features to the host and min(N,F)^3 operations there, some tens of milliseconds for 128 images.
/// Where a feature is not finite, so is the penalty. Errors: features with pixels; count below 1.
/// Source: Chen et al. 2019, "Catastrophic forgetting meets negative transfer: batch spectral shrinkage".
Tensor batch_spectral_shrinkage(const Tensor& features, const SpectralShrinkageArgs& args);

/// Labels on the device, i32 [N]. Errors: a label outside [0, count).
Tensor labels_to_device(Context& context, std::span<const std::int32_t> labels, std::int64_t count);
/// The same into a tensor of as many labels.
void labels_to_device(const Tensor& to, std::span<const std::int32_t> labels, std::int64_t count);

}  // namespace graft
