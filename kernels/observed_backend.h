// A backend that shows every call to an observer before it runs: what it reads, what it writes, what it costs. Profiles
// time the calls, recordings keep and repeat them, memory plans count them without running any. It wraps another
// backend and computes nothing itself. Observers are written where they are used; read kernels/backend.h for the calls.
#pragma once

#include <functional>
#include <vector>

#include "kernels/backend.h"

namespace graft {

/// Memory that a call touches: `rows` runs of `row_bytes`, their beginnings `row_stride` bytes apart.
struct Region {
  const std::byte* data = nullptr;
  std::int64_t rows = 1, row_bytes = 0, row_stride = 0;

  std::int64_t bytes() const { return rows * row_bytes; }
  const std::byte* end() const { return data + (rows - 1) * row_stride + row_bytes; }  // of its last run
};

/// The memory of a view; a slice of channels is a region of many rows. Empty (rows = 0) for a view without data.
Region region_of(const ConstView& view);

struct DeviceCall {
  std::string_view op;                // the call's name in backend.h, a string literal
  std::string detail;                 // shapes, for people: "3x3 64->128 /2 [8,64,56,56]"
  std::vector<Region> writes, reads;  // what is added to or changed in place is in both
  std::vector<Region> refreshes;      // written in part, never read: whole afterwards only where it was before
  double flops = 0;        // of convolutions and matrix products, a multiply-add counted as two; 0 for other calls
  bool waits = false;      // the host waits for the device
  bool uses_host = false;  // reads or writes memory of the host, so the call must not be repeated later

  std::int64_t unread_bytes = 0;  // in `reads`, where the device alone knows which part it is

  std::int64_t bytes() const;  // read and written
};

class DeviceObserver {
 public:
  virtual ~DeviceObserver() = default;
  /// `run` does the call. It holds all it needs but what `uses_host` names and what an optimizer owns (segments,
  /// masks), and may be kept and run again.
  virtual void call(const DeviceCall&, const std::function<void()>& run) { run(); }
  virtual void* allocate(std::int64_t bytes, Backend& device) { return device.allocate(bytes); }
  virtual void release(void* block, Backend& device) noexcept { device.release(block); }
  virtual void push_range(std::string_view) {}
  virtual void pop_range() {}

  // How the device answers Backend's calls of these names.
  virtual std::uint64_t begin_step(std::int64_t kind, Backend& device) { return device.begin_step(kind); }
  virtual bool end_step(Backend& device) { return device.end_step(); }
  virtual bool is_asynchronous(const Backend& device) const { return device.is_asynchronous(); }
  virtual bool prepares_images(const Backend& device) const { return device.prepares_images(); }
  virtual bool supports_capture(const Backend& device) const { return device.supports_capture(); }
  virtual void begin_capture(Backend& device) { device.begin_capture(); }
  virtual std::unique_ptr<CapturedStep> end_capture(Backend& device) { return device.end_capture(); }
};

class ObservedBackend : public Backend {
 public:
  /// The observer must outlive the backend.
  ObservedBackend(std::unique_ptr<Backend> inner, DeviceObserver& observer)
      : inner_(std::move(inner)), observer_(observer) {}
  Backend& inner() { return *inner_; }

  Device device() const override { return inner_->device(); }
  DType compute_type() const override { return inner_->compute_type(); }
  DType activation_type() const override { return inner_->activation_type(); }
  std::string description() const override { return inner_->description(); }
  std::vector<std::string> plans() const override { return inner_->plans(); }
  void prefer_plans(const std::vector<std::string>& plans) override { inner_->prefer_plans(plans); }

  void* allocate(std::int64_t bytes) override { return observer_.allocate(bytes, *inner_); }
  void release(void* block) noexcept override { observer_.release(block, *inner_); }
  MemoryUse memory() const override { return inner_->memory(); }
  void reset_peak_memory() override { inner_->reset_peak_memory(); }
  std::uint64_t begin_step(std::int64_t kind) override { return observer_.begin_step(kind, *inner_); }
  bool end_step() override { return observer_.end_step(*inner_); }
  std::int64_t free_bytes() const override { return inner_->free_bytes(); }
  void copy_in(void* device, const void* host, std::int64_t bytes) override;
  std::unique_ptr<Upload> make_upload(std::int64_t bytes) override;
  void copy_out(void* host, const void* device, std::int64_t bytes) override;
  void zero(void* device, std::int64_t bytes) override;
  void synchronize() override;
  bool is_asynchronous() const override { return observer_.is_asynchronous(*inner_); }
  std::unique_ptr<HostCopy> begin_copy_out(const void* device, std::int64_t bytes) override;
  bool supports_capture() const override { return observer_.supports_capture(*inner_); }
  void begin_capture() override { observer_.begin_capture(*inner_); }
  std::unique_ptr<CapturedStep> end_capture() override { return observer_.end_capture(*inner_); }
  void push_range(std::string_view name) override;
  void pop_range() override;
  std::unique_ptr<DeviceTimer> make_timer() override { return inner_->make_timer(); }
  std::unique_ptr<KernelTracer> make_kernel_tracer() override { return inner_->make_kernel_tracer(); }

  void copy(View y, Write, ConstView x) override;
  bool all_finite(ConstView x) override;

  ConvFormats conv_formats(const ConvSpec& spec) override { return inner_->conv_formats(spec); }
  ConvWorkspace conv_workspace(const ConvCall& call) override { return inner_->conv_workspace(call); }
  void conv(const ConvSpec&, View y, ConstView x, WeightView w, const ConvEpilogue&) override;
  void conv_data_grad(const ConvSpec&, View dx, Write, ConstView dy, WeightView w) override;
  void conv_weight_grad(const ConvSpec&, View dw, Write, ConstView dy, ConstView x) override;
  void channel_sum(View db, Write, ConstView dy) override;
  void relu_grad_and_sum(View g, View db, Write, ConstView dy, ConstView y) override;

  void linear(View y, ConstView x, WeightView w, ConstView bias) override;
  void linear_data_grad(View dx, Write, ConstView dy, WeightView w) override;
  void linear_weight_grad(View dw, Write, ConstView dy, ConstView x) override;

  void batch_statistics(View stats, ConstView x) override;
  void batch_statistics_and_running(View stats, View running, double momentum, ConstView x) override;
  bool has_relu_masks() const override { return inner_->has_relu_masks(); }
  void normalize(View y, ConstView x, const NormalizeArgs&, ConstView residual) override;
  void normalize_grad_sums(View sums, ConstView dy, ConstView y, ConstView x, const NormalizeArgs&) override;
  void normalize_parameter_grads(View sums, const NormalizeParameterGrads&, ConstView dy, ConstView y, ConstView x,
                                 const NormalizeArgs&) override;
  void normalize_grad(View dx, Write, View dresidual, Write, ConstView dy, ConstView y, ConstView x,
                      const NormalizeArgs&, ConstView sums) override;
  void normalize_grad_correction(View dx, ConstView x, ConstView stats, double epsilon, ConstView weighted) override;
  void update_running(View running, ConstView stats, double momentum, std::int64_t elements) override;
  bool folds_norms() const override { return inner_->folds_norms(); }
  void fold_normalize(View folded, View shift, ConstView w, ConstView bias, const NormalizeArgs&) override;

  bool fuses_norm_conv(const ConvSpec& spec, ConstView x, const NormalizeArgs& args, const WeightView& w,
                       NormConvUse use) override {
    return inner_->fuses_norm_conv(spec, x, args, w, use);
  }
  void norm_conv(const ConvSpec&, View y, const NormConvEpilogue&, ConstView x, const NormalizeArgs&,
                 WeightView w) override;
  void norm_conv_weight_grad(const ConvSpec&, View dw, Write, ConstView dy, ConstView x, const NormalizeArgs&) override;
  void norm_conv_data_grad(const ConvSpec&, View dx, Write, View sums, const NormalizeParameterGrads&, ConstView dy,
                           ConstView x, const NormalizeArgs&, WeightView w) override;

  void max_pool(const PoolSpec&, View y, View index, ConstView x) override;
  void max_pool_grad(const PoolSpec&, View dx, Write, ConstView dy, ConstView index) override;
  void avg_pool(const PoolSpec&, View y, ConstView x) override;
  void avg_pool_grad(const PoolSpec&, View dx, Write, ConstView dy) override;
  void adaptive_avg_pool(View y, ConstView x) override;
  void adaptive_avg_pool_grad(View dx, Write, ConstView dy) override;

  void index_select(View y, ConstView x, ConstView index) override;

  bool prepares_images() const override { return observer_.prepares_images(*inner_); }
  void images_to_input(View x, std::span<const ConstView> pixels, std::span<const ImageChange>,
                       const PixelScaling&) override;

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
  void prepare_update(const UpdateArena& arena) override { inner_->prepare_update(arena); }
  void update(const UpdateArena&, const SgdStep&) override;
  void update(const UpdateArena&, const AdamStep&) override;

 protected:
  void run_map(const MapCall&) override;

 private:
  struct Access;
  class ObservedUpload;
  /// Tells the observer of a call on views.
  void observe(DeviceCall call, const Access& access, std::function<void()> run);
  template <class Step>
  void observe_update(const UpdateArena& arena, const Step& step);

  std::unique_ptr<Backend> inner_;
  DeviceObserver& observer_;
};

}  // namespace graft
