// The reference device: every call in double with plain loops, the truth that the other devices are held against.
// Results do not depend on the number of threads: each output element is one thread's sum, taken in a fixed order.
// It is not meant to be fast, yet whole networks at 64 pixels are practical. One file per subject, as in cpu/. With
// activations in 16 bits it is wrapped by rounded.h.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <map>
#include <mutex>

#include "kernels/backend.h"

namespace graft {

/// Requires a precision other than tf32.
std::unique_ptr<Backend> make_reference_backend(const BackendOptions& options);

class ReferenceBackend final : public Backend {
 public:
  explicit ReferenceBackend(const BackendOptions& options);
  ~ReferenceBackend() override;

  Device device() const override { return {DeviceKind::reference, 0}; }
  DType compute_type() const override { return DType::f64; }
  std::string description() const override;

  void* allocate(std::int64_t bytes) override;
  void release(void* block) noexcept override;
  MemoryUse memory() const override;
  void reset_peak_memory() override;
  void copy_in(void* device, const void* host, std::int64_t bytes) override;
  void copy_out(void* host, const void* device, std::int64_t bytes) override;
  void zero(void* device, std::int64_t bytes) override;
  void synchronize() override {}

  void copy(View y, Write, ConstView x) override;
  bool all_finite(ConstView x) override;

  ConvFormats conv_formats(const ConvSpec&) override { return {kNhwc, kNhwc}; }
  void conv(const ConvSpec&, View y, ConstView x, WeightView w, const ConvEpilogue&) override;
  void conv_data_grad(const ConvSpec&, View dx, Write, ConstView dy, WeightView w) override;
  void conv_weight_grad(const ConvSpec&, View dw, Write, ConstView dy, ConstView x) override;
  void channel_sum(View db, Write, ConstView dy) override;

  void linear(View y, ConstView x, WeightView w, ConstView bias) override;
  void linear_data_grad(View dx, Write, ConstView dy, WeightView w) override;
  void linear_weight_grad(View dw, Write, ConstView dy, ConstView x) override;

  void batch_statistics(View stats, ConstView x) override;
  bool has_relu_masks() const override { return true; }
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

  void run_map(const MapCall&) override;

 private:
  int threads_;
  mutable std::mutex mutex_;  // tensors may be released by loader threads
  std::map<void*, std::int64_t> live_;
  MemoryUse use_;
};

/// At most 16 channels, `count` from `first` on, that are neighbours in memory in every view of a call. Loops over
/// channels run innermost over such a group, whatever the format.
struct ChannelGroup {
  std::int64_t first, count;
};

class ChannelGroups {
 public:
  explicit ChannelGroups(std::initializer_list<ConstView> views) : channels_(views.begin()->shape.c) {
    for (const ConstView& v : views)
      if (v.data) lanes_ = std::min(lanes_, strides_of(v).block);
  }
  std::int64_t size() const { return (channels_ + lanes_ - 1) / lanes_; }
  ChannelGroup operator[](std::int64_t i) const { return {i * lanes_, std::min(lanes_, channels_ - i * lanes_)}; }

 private:
  std::int64_t channels_, lanes_ = 16;
};

/// Where the channels of a group begin at one pixel.
template <class T = double>
const T* at(const ConstView& v, std::int64_t n, const ChannelGroup& g, std::int64_t pixel) {
  return v.as<T>() + strides_of(v)(n, g.first, pixel);
}
template <class T = double>
T* at(const View& v, std::int64_t n, const ChannelGroup& g, std::int64_t pixel) {
  return v.as<T>() + strides_of(v)(n, g.first, pixel);
}

}  // namespace graft
