// A device that computes nothing: memory is addresses that are handed out once and never touched, calls do nothing.
// Networks of any size run through it in milliseconds, so that a test can see what they ask of a device. Derive from it
// and override the calls of interest.
#pragma once

#include "kernels/backend.h"

namespace graft {

class IdleBackend : public Backend {
 public:
  Device device() const override { return {DeviceKind::cpu}; }
  DType compute_type() const override { return DType::f32; }
  std::string description() const override { return "dry"; }

  void* allocate(std::int64_t bytes) override {
    next_ += (bytes + 255) / 256 * 256 + 256;
    return reinterpret_cast<void*>(next_ - (bytes + 255) / 256 * 256);
  }
  void release(void*) noexcept override {}
  MemoryUse memory() const override { return {}; }
  void copy_in(void*, const void*, std::int64_t) override {}
  void copy_out(void* host, const void*, std::int64_t bytes) override { std::memset(host, 0, std::size_t(bytes)); }
  void zero(void*, std::int64_t) override {}
  void synchronize() override {}

  void copy(View, Write, ConstView) override {}
  bool all_finite(ConstView) override { return true; }

  ConvFormats conv_formats(const ConvSpec&) override { return {kNhwc, kNhwc}; }
  void conv(const ConvSpec&, View, ConstView, WeightView, const ConvEpilogue&) override {}
  void conv_data_grad(const ConvSpec&, View, Write, ConstView, WeightView) override {}
  void conv_weight_grad(const ConvSpec&, View, Write, ConstView, ConstView) override {}
  void channel_sum(View, Write, ConstView) override {}

  void linear(View, ConstView, WeightView, ConstView) override {}
  void linear_data_grad(View, Write, ConstView, WeightView) override {}
  void linear_weight_grad(View, Write, ConstView, ConstView) override {}

  void batch_statistics(View, ConstView) override {}
  void normalize(View, ConstView, const NormalizeArgs&, ConstView) override {}
  void normalize_grad_sums(View, ConstView, ConstView, ConstView, const NormalizeArgs&) override {}
  void normalize_grad(View, Write, View, Write, ConstView, ConstView, ConstView, const NormalizeArgs&,
                      ConstView) override {}
  void normalize_grad_correction(View, ConstView, ConstView, double, ConstView) override {}
  void update_running(View, ConstView, double, std::int64_t) override {}
  bool folds_norms() const override { return true; }
  void fold_normalize(View, View, ConstView, ConstView, const NormalizeArgs&) override {}

  void max_pool(const PoolSpec&, View, View, ConstView) override {}
  void max_pool_grad(const PoolSpec&, View, Write, ConstView, ConstView) override {}
  void avg_pool(const PoolSpec&, View, ConstView) override {}
  void avg_pool_grad(const PoolSpec&, View, Write, ConstView) override {}
  void adaptive_avg_pool(View, ConstView) override {}
  void adaptive_avg_pool_grad(View, Write, ConstView) override {}

  void softmax_cross_entropy(View, View, ConstView, ConstView, const SoftmaxSpec&) override {}
  void softmax_cross_entropy_grad(View, Write, ConstView, ConstView, ConstView, const SoftmaxSpec&) override {}

  void measure_gradients(View, View, const UpdateArena&, const MeasureSpec&) override {}
  void report_batch(View, ConstView, ConstView, ConstView, ConstView) override {}
  void update(const UpdateArena&, const SgdStep&) override {}
  void update(const UpdateArena&, const AdamStep&) override {}

 protected:
  void run_map(const MapCall&) override {}

 private:
  std::int64_t next_ = std::int64_t{1} << 32;  // never dereferenced
};

}  // namespace graft
