// The reference device with activations in 16 bits: what storage alone does to a network. Every call widens its 16-bit
// operands to double, lets the reference compute, and rounds what is 16 bits again, once, after adding. Views of
// doubles pass through, so a call's exact result can be had as well. Which views are activations: kernels/backend.h.
#pragma once

#include "kernels/reference/reference.h"

namespace graft {

class RoundedReference final : public Backend {
 public:
  /// Requires options.precision to be bf16 or f16.
  explicit RoundedReference(const BackendOptions& options);

  Device device() const override { return exact_.device(); }
  DType compute_type() const override { return exact_.compute_type(); }
  DType activation_type() const override { return activation_type_; }
  std::string description() const override;

  void* allocate(std::int64_t bytes) override { return exact_.allocate(bytes); }
  void release(void* block) noexcept override { exact_.release(block); }
  MemoryUse memory() const override { return exact_.memory(); }
  void reset_peak_memory() override { exact_.reset_peak_memory(); }
  void copy_in(void* device, const void* host, std::int64_t bytes) override { exact_.copy_in(device, host, bytes); }
  void copy_out(void* host, const void* device, std::int64_t bytes) override { exact_.copy_out(host, device, bytes); }
  void zero(void* device, std::int64_t bytes) override { exact_.zero(device, bytes); }
  void synchronize() override {}

  void copy(View y, Write write, ConstView x) override { exact_.copy(y, write, x); }
  bool all_finite(ConstView x) override { return exact_.all_finite(x); }

  ConvFormats conv_formats(const ConvSpec& spec) override { return exact_.conv_formats(spec); }
  void conv(const ConvSpec&, View y, ConstView x, WeightView w, const ConvEpilogue&) override;
  void conv_data_grad(const ConvSpec&, View dx, Write, ConstView dy, WeightView w) override;
  void conv_weight_grad(const ConvSpec&, View dw, Write, ConstView dy, ConstView x) override;
  void channel_sum(View db, Write, ConstView dy) override;

  void linear(View y, ConstView x, WeightView w, ConstView bias) override;
  void linear_data_grad(View dx, Write, ConstView dy, WeightView w) override;
  void linear_weight_grad(View dw, Write, ConstView dy, ConstView x) override;

  void batch_statistics(View stats, ConstView x) override;
  void normalize(View y, ConstView x, const NormalizeArgs&, ConstView residual) override;
  /// Not offered to layers (folds_norms): each of the two calls rounds, as PyTorch's modules do.
  void fold_normalize(View folded, View shift, ConstView w, ConstView bias, const NormalizeArgs&) override;
  void normalize_grad_sums(View sums, ConstView dy, ConstView y, ConstView x, const NormalizeArgs&) override;
  void normalize_grad(View dx, Write, View dresidual, Write, ConstView dy, ConstView y, ConstView x,
                      const NormalizeArgs&, ConstView sums) override;
  void normalize_grad_correction(View dx, ConstView x, ConstView stats, double epsilon, ConstView weighted) override;
  void update_running(View running, ConstView stats, double momentum, std::int64_t elements) override;

  void max_pool(const PoolSpec&, View y, View index, ConstView x) override;
  void max_pool_grad(const PoolSpec&, View dx, Write, ConstView dy, ConstView index) override;
  void avg_pool(const PoolSpec&, View y, ConstView x) override;
  void avg_pool_grad(const PoolSpec&, View dx, Write, ConstView dy) override;
  void adaptive_avg_pool(View y, ConstView x) override;
  void adaptive_avg_pool_grad(View dx, Write, ConstView dy) override;

  void images_to_input(View x, std::span<const ConstView> pixels, std::span<const ImageChange> changes,
                       const PixelScaling& scaling) override {
    exact_.images_to_input(x, pixels, changes, scaling);
  }

  void softmax_cross_entropy(View loss, View probabilities, ConstView logits, ConstView labels,
                             const SoftmaxSpec&) override;
  void softmax_cross_entropy_grad(View dlogits, Write, ConstView dloss, ConstView probabilities, ConstView labels,
                                  const SoftmaxSpec&) override;
  void sigmoid_cross_entropy(View loss, View probabilities, ConstView logits, ConstView labels,
                             const SigmoidSpec&) override;
  void sigmoid_cross_entropy_grad(View dlogits, Write, ConstView dloss, ConstView probabilities, ConstView labels,
                                  const SigmoidSpec&) override;
  void report_batch(View report, ConstView loss, ConstView penalty, ConstView probabilities, ConstView labels,
                    ConstView targets) override {
    exact_.report_batch(report, loss, penalty, probabilities, labels, targets);
  }

  void measure_gradients(View control, View history, const UpdateArena& arena, const MeasureSpec& spec) override {
    exact_.measure_gradients(control, history, arena, spec);
  }
  void update(const UpdateArena& arena, const SgdStep& step) override { exact_.update(arena, step); }
  void update(const UpdateArena& arena, const AdamStep& step) override { exact_.update(arena, step); }

 protected:
  void run_map(const MapCall&) override;

 private:
  class Widened;
  ReferenceBackend exact_;
  DType activation_type_;
};

}  // namespace graft
