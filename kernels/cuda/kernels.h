// The kernels' launchers: what the CUDA backend calls, and what runs on the host model in tests. All work goes to the
// stream that is given; scratch memory comes from the caller. The meaning of each call is in kernels/backend.h.
#pragma once

#include "kernels/backend.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/graph_spec.h"

namespace graft::gpu {

// elementwise.cu
/// `functor` is an index into MapFunctors, `parameters` the functor's bytes on the host.
struct MapWork {
  int functor = 0;
  const void* parameters = nullptr;
  View out;
  Write write = Write::overwrite;
  ConstView in[3];
};
void map(const MapWork& work, cudaStream_t stream);
void copy(View y, Write write, ConstView x, cudaStream_t stream);
/// Sets flag[0] to 1 if an element is not finite; never clears it.
void find_not_finite(int* flag, ConstView x, cudaStream_t stream);
/// y += bias[c].
void add_bias(View y, ConstView bias, cudaStream_t stream);

// reduce.cu. Scratch: partial sums of `shape`.
std::int64_t sum_scratch_bytes(const Shape& shape);
void channel_sum(View db, Write write, ConstView dy, double* scratch, cudaStream_t stream);
void relu_grad_and_sum(View g, View db, Write write, ConstView dy, ConstView y, double* scratch, cudaStream_t stream);
struct RunningStep {
  View running;  // null: none
  double momentum = 0;
};
void batch_statistics(View stats, const RunningStep& step, ConstView x, double* scratch, cudaStream_t stream);
void normalize_grad_sums(View sums, const NormalizeParameterGrads& to, ConstView dy, ConstView y, ConstView x,
                         const NormalizeArgs& args, double* scratch, cudaStream_t stream);

/// Partial sums [parts][2][channels], of which a kernel wrote a part per block.
struct PartialSums {
  const double* sums;
  std::int64_t parts, channels;
};
/// Mean and variance of so many elements a channel, from the sums of x and of x^2.
void finish_statistics(const char* op, View stats, const RunningStep& step, const PartialSums& from,
                       std::int64_t elements, cudaStream_t stream);
/// The norm's sums from those of g and of g * (x - mean).
void finish_norm_sums(const char* op, View sums, const NormalizeParameterGrads& to, const NormalizeArgs& args,
                      const PartialSums& from, cudaStream_t stream);
/// A weight's gradient, dense float32 in a multiple of four, from parts of it [splits][size], in their order.
void add_splits(const char* op, View dw, Write write, const float* parts, unsigned splits, cudaStream_t stream);

// norm.cu
void normalize(View y, ConstView x, const NormalizeArgs& args, ConstView residual, cudaStream_t stream);
struct NormalizeGrad {
  View dx;
  Write write = Write::overwrite;
  View dresidual;
  Write residual_write = Write::overwrite;
  ConstView dy, y, x, sums;
};
void normalize_grad(const NormalizeGrad& grad, const NormalizeArgs& args, cudaStream_t stream);
void normalize_grad_correction(View dx, ConstView x, ConstView stats, double epsilon, ConstView weighted,
                               cudaStream_t stream);
void update_running(View running, ConstView stats, double momentum, std::int64_t elements, cudaStream_t stream);

// norm_conv.cu and norm_conv_grad.cu. Each call needs scratch of ..._scratch_bytes(x.shape) for partial sums.
/// Whether the calls below take the convolution and these activations and weights of it.
bool can_norm_conv(const ConvSpec& spec, std::initializer_list<ConstView> views);
std::int64_t norm_conv_scratch_bytes(const Shape& x);
void norm_conv(View y, const NormConvEpilogue& epilogue, ConstView x, const NormalizeArgs& args, ConstView w,
               double* scratch, cudaStream_t stream);
std::int64_t norm_conv_weight_grad_scratch_bytes(const Shape& x);
void norm_conv_weight_grad(View dw, Write write, ConstView dy, ConstView x, const NormalizeArgs& args, float* scratch,
                           cudaStream_t stream);
std::int64_t norm_conv_data_grad_scratch_bytes(const Shape& x);
/// dx.data may be null.
void norm_conv_data_grad(View dx, Write write, View sums, const NormalizeParameterGrads& to, ConstView dy, ConstView x,
                         const NormalizeArgs& args, ConstView w, double* scratch, cudaStream_t stream);

// conv_growth.cu and conv_growth_weight_grad.cu
/// Whether the two calls behind it take the convolution and these activations and weights of it.
bool can_conv_growth(const ConvSpec& spec, std::initializer_list<ConstView> views);
void conv_growth(View y, ConstView x, ConstView w, cudaStream_t stream);
void conv_growth_data_grad(View dx, ConstView dy, ConstView w, cudaStream_t stream);
/// The same for the weight's gradient, float32, which needs scratch for partial sums.
bool can_conv_growth_weight_grad(const ConvSpec& spec, std::initializer_list<ConstView> views);
std::int64_t conv_growth_weight_grad_scratch_bytes(const Shape& x);
void conv_growth_weight_grad(View dw, Write write, ConstView dy, ConstView x, float* scratch, cudaStream_t stream);

// pool.cu
void max_pool(const PoolSpec& spec, View y, View index, ConstView x, cudaStream_t stream);
void max_pool_grad(const PoolSpec& spec, View dx, Write write, ConstView dy, ConstView index, cudaStream_t stream);
void avg_pool(const PoolSpec& spec, View y, ConstView x, cudaStream_t stream);
void avg_pool_grad(const PoolSpec& spec, View dx, Write write, ConstView dy, cudaStream_t stream);
void adaptive_avg_pool(View y, ConstView x, cudaStream_t stream);
void adaptive_avg_pool_grad(View dx, Write write, ConstView dy, cudaStream_t stream);

// image_input.cu. Scratch: the changes, as bytes, then zeros to pixels_offset.
struct InputScratch {
  std::int64_t luma_offset = 0, pixels_offset = 0, bytes = 0;
};
InputScratch input_scratch(const Shape& x);
void images_to_input(View x, std::span<const ConstView> pixels, std::span<const ImageChange> changes,
                     const PixelScaling& scaling, std::byte* scratch, cudaStream_t stream);

// index_select.cu
void index_select(View y, ConstView x, ConstView index, cudaStream_t stream);

// fold.cu
void fold_normalize(View folded, View shift, ConstView w, ConstView bias, const NormalizeArgs& args,
                    cudaStream_t stream);

// unfold.cu. The unfolded tensors are dense, of 16-bit types, and begin at multiples of 16 bytes; so do scratch blocks.
/// x' of a dense x.
void unfold(void* unfolded, ConstView x, const ConvSpec& conv, const Unfolding& unfolding, cudaStream_t stream);
/// w' of w.
void unfold_weight(void* unfolded, ConstView w, const ConvSpec& conv, const Unfolding& unfolding, cudaStream_t stream);
/// w's gradient from that of w', which is of type `dtype`.
/// Errors: dw is not float32.
void fold_weight_grad(View dw, Write write, const void* unfolded, DType dtype, const ConvSpec& conv,
                      const Unfolding& unfolding, cudaStream_t stream);

// compare.cu
/// Raises largest[0] to the largest |a - b| and largest[1] to the largest |a| below `limit`; dense float32, zeros at
/// first. What is beyond the limit counts as the limit: whether a sum near the end of a type's range overflows is no
/// difference. Where only one of the two is a NaN the difference is infinite; where both are, there is none.
void find_largest_difference(float* largest, ConstView a, ConstView b, float limit, cudaStream_t stream);

// cross_entropy.cu. Scratch: cross_entropy_scratch_bytes of the batch.
std::int64_t cross_entropy_scratch_bytes(std::int64_t rows);
void softmax_cross_entropy(View loss, View probabilities, ConstView logits, ConstView labels, const SoftmaxSpec& spec,
                           double* scratch, cudaStream_t stream);
void softmax_cross_entropy_grad(View dlogits, Write write, ConstView dloss, ConstView probabilities, ConstView labels,
                                const SoftmaxSpec& spec, double* scratch, cudaStream_t stream);
void sigmoid_cross_entropy(View loss, View probabilities, ConstView logits, ConstView labels, const SigmoidSpec& spec,
                           double* scratch, cudaStream_t stream);
void sigmoid_cross_entropy_grad(View dlogits, Write write, ConstView dloss, ConstView probabilities, ConstView labels,
                                const SigmoidSpec& spec, cudaStream_t stream);

// report.cu
void report_batch(double* report, ConstView loss, ConstView penalty, ConstView probabilities, ConstView labels,
                  ConstView targets, cudaStream_t stream);

// update.cu
/// One parameter as the kernels see it; built from UpdateSegment by update_table.cpp. No padding: tables are compared
/// byte by byte.
struct DeviceSegment {
  std::int64_t value_offset, state_offset, size, row_size;
  std::int64_t first_chunk;  // chunks of all earlier segments
  std::int64_t mask_word;    // first word of its row mask; -1: all rows train
  std::int64_t first_step;
  double lr_scale, decay, strength;
  std::int32_t rate_group;
  PenaltyKind penalty;
  PenaltyMode mode;
  std::uint8_t to_anchor;
  std::uint8_t takes_four;  // offsets, size and rows allow elements to be moved four at a time
};
static_assert(sizeof(DeviceSegment) == 10 * 8 + 4 + 4);
inline constexpr std::int64_t kUpdateChunk = 4096;  // elements per block
struct DeviceArena {
  float* values;
  const float* gradients;
  float *moment1, *moment2;
  const float* anchors;        // null: none
  const double* control;       // null: plain gradients
  double* sums;                // null: not wanted
  std::uint16_t* half_values;  // null: none
  DType half_type;             // bf16 or f16
  const double* clock;         // rate and number of the step; null: the step's own
  const double* halt;          // null: go on
  const DeviceSegment* segments;
  const std::uint32_t* masks;
  /// Segments of rate group k: group_segments[group_begin[k]] .. [group_begin[k + 1] - 1], for k < table_groups.
  const std::int32_t *group_begin, *group_segments;
  std::int64_t table_groups;
  std::int64_t segment_count, chunk_count;
  double* partials;  // update_scratch_bytes of the arena; needed for sums and for measuring
  unsigned* ticket;  // 0 before and after every launch
};
inline std::int64_t update_scratch_bytes(std::int64_t chunks, std::int64_t segments) {
  return (chunks + segments) * kUpdateSums * 8;
}
void update(const DeviceArena& arena, const SgdStep& step, cudaStream_t stream);
void update(const DeviceArena& arena, const AdamStep& step, cudaStream_t stream);
/// arena.control and arena.sums are not looked at.
void measure_gradients(double* control, double* history, const DeviceArena& arena, const MeasureSpec& spec,
                       cudaStream_t stream);

}  // namespace graft::gpu
