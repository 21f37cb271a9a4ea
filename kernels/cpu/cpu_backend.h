// The CPU backend's class. Its calls are defined in one file per subject: memory.cpp, map.cpp, conv_onednn.cpp with
// conv_product.cpp and conv_winograd.cpp, linear_onednn.cpp, norm.cpp, pool.cpp, cross_entropy.cpp, update.cpp.
// Activations are blocked by 16 or 8 channels, as oneDNN likes them on this machine, or NHWC; runs.h walks both with
// one set of loops.
#pragma once

#include "kernels/device_memory.h"

namespace graft {

class ConvPrimitives;  // conv_onednn.h
class Products;        // product_onednn.h

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const BackendOptions& options);
  ~CpuBackend() override;

  Device device() const override { return {DeviceKind::cpu, 0}; }
  DType compute_type() const override { return DType::f32; }
  DType activation_type() const override { return activation_type_; }
  std::string description() const override;

  void* allocate(std::int64_t bytes) override { return memory_.allocate(bytes); }
  void release(void* block) noexcept override { memory_.release(block); }
  MemoryUse memory() const override { return memory_.use(); }
  void reset_peak_memory() override { memory_.reset_peak(); }
  std::uint64_t begin_step(std::int64_t kind) override { return memory_.begin_step(kind); }
  bool end_step() override { return memory_.end_step(); }
  void copy_in(void* device, const void* host, std::int64_t bytes) override;
  void copy_out(void* host, const void* device, std::int64_t bytes) override;
  void zero(void* device, std::int64_t bytes) override;
  void synchronize() override {}

  void copy(View y, Write, ConstView x) override;
  bool all_finite(ConstView x) override;

  ConvFormats conv_formats(const ConvSpec&) override;
  ConvWorkspace conv_workspace(const ConvCall&) override;
  void conv(const ConvSpec&, View y, ConstView x, WeightView w, const ConvEpilogue&) override;
  void conv_data_grad(const ConvSpec&, View dx, Write, ConstView dy, WeightView w) override;
  void conv_weight_grad(const ConvSpec&, View dw, Write, ConstView dy, ConstView x) override;
  void channel_sum(View db, Write, ConstView dy) override;

  void linear(View y, ConstView x, WeightView w, ConstView bias) override;
  void linear_data_grad(View dx, Write, ConstView dy, WeightView w) override;
  void linear_weight_grad(View dw, Write, ConstView dy, ConstView x) override;

  void batch_statistics(View stats, ConstView x) override;
  void normalize(View y, ConstView x, const NormalizeArgs&, ConstView residual) override;
  void normalize_grad_sums(View sums, ConstView dy, ConstView y, ConstView x, const NormalizeArgs&) override;
  void normalize_grad(View dx, Write, View dresidual, Write, ConstView dy, ConstView y, ConstView x,
                      const NormalizeArgs&, ConstView sums) override;
  void normalize_grad_correction(View dx, ConstView x, ConstView stats, double epsilon, ConstView weighted) override;
  void update_running(View running, ConstView stats, double momentum, std::int64_t elements) override;
  bool folds_norms() const override { return true; }
  void fold_normalize(View folded, View shift, ConstView w, ConstView bias, const NormalizeArgs&) override;

  void max_pool(const PoolSpec&, View y, View index, ConstView x) override;
  void max_pool_grad(const PoolSpec&, View dx, Write, ConstView dy, ConstView index) override;
  void avg_pool(const PoolSpec&, View y, ConstView x) override;
  void avg_pool_grad(const PoolSpec&, View dx, Write, ConstView dy) override;
  void adaptive_avg_pool(View y, ConstView x) override;
  void adaptive_avg_pool_grad(View dx, Write, ConstView dy) override;

  void images_to_input(View x, std::span<const ConstView> pixels, std::span<const ImageChange> changes,
                       const PixelScaling& scaling) override {
    images_to_input_on_host(x, pixels, changes, scaling);
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
                    ConstView targets) override;

  void measure_gradients(View control, View history, const UpdateArena&, const MeasureSpec&) override;
  void update(const UpdateArena&, const SgdStep&) override;
  void update(const UpdateArena&, const AdamStep&) override;

  const ConvPrimitives& conv_primitives() const { return *conv_; }

 protected:
  void run_map(const MapCall&) override;

 private:
  /// Whether a convolution's gradient is computed as product_…_grad, for activations of this type.
  static bool is_product(const ConvCall& call, DType type);
  /// Whether one is computed as winograd_….
  bool is_winograd(const ConvCall& call, DType type) const;
  std::int64_t product_scratch(const ConvCall& call);  // bytes
  void product_data_grad(const ConvSpec&, View dx, Write, ConstView dy, WeightView w);
  void product_weight_grad(const ConvSpec&, View dw, Write, ConstView dy, ConstView x);

  int threads_;
  DType activation_type_;
  bool has_own_winograd_;
  std::unique_ptr<MemorySource> source_;
  DeviceMemory memory_;
  std::unique_ptr<ConvPrimitives> conv_;
  std::unique_ptr<Products> products_;
};

std::unique_ptr<MemorySource> make_cpu_memory();  // memory.cpp

}  // namespace graft
