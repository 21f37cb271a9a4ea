// The CUDA backend's class. Everything goes to one stream that it owns, but for uploads, which have one of their own;
// only copy_out, all_finite and synchronize wait. Definitions: memory_cuda.cpp, upload_cuda.cpp, capture_cuda.cpp,
// timer_cuda.cpp, kernel_tracer_cupti.cpp, conv_plans.cpp, conv_cudnn.cpp, linear_cublas.cpp, and cuda_backend.cpp for
// the calls that are kernels of ours (kernels.h). Activations are NHWC, of the precision's type.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <functional>

#include "kernels/backend.h"
#include "kernels/cuda/conv_plans.h"
#include "kernels/cuda/handles.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/update_table.h"
#include "kernels/device_memory.h"

namespace graft {

struct PinnedBlocks;  // capture_cuda.cpp

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(int index, Precision precision = Precision::f32);
  ~CudaBackend() override;

  Device device() const override { return {DeviceKind::cuda, index_}; }
  DType compute_type() const override { return DType::f32; }
  DType activation_type() const override {
    return precision_ == Precision::bf16 ? DType::bf16 : precision_ == Precision::f16 ? DType::f16 : DType::f32;
  }
  std::string description() const override { return description_; }
  std::vector<std::string> plans() const override;
  void prefer_plans(const std::vector<std::string>& plans) override { plan_options_.preferred = plans; }
  /// Before the first convolution.
  void set_plan_options(const PlanOptions& options) { plan_options_ = options; }

  void* allocate(std::int64_t bytes) override { return memory_.allocate(bytes); }
  void release(void* block) noexcept override { memory_.release(block); }
  MemoryUse memory() const override { return memory_.use(); }
  void reset_peak_memory() override { memory_.reset_peak(); }
  std::int64_t free_bytes() const override;
  std::uint64_t begin_step(std::int64_t kind) override {
    if (conv_plans_) conv_plans_->begin_step();
    return memory_.begin_step(kind);
  }
  bool end_step() override { return memory_.end_step(); }
  void copy_in(void* device, const void* host, std::int64_t bytes) override;
  void copy_out(void* host, const void* device, std::int64_t bytes) override;
  std::unique_ptr<Upload> make_upload(std::int64_t bytes) override;
  void zero(void* device, std::int64_t bytes) override;
  void synchronize() override;
  /// Whether calls are captured at the moment, by a step or to be timed.
  bool is_stream_captured();
  bool is_asynchronous() const override { return true; }
  std::unique_ptr<HostCopy> begin_copy_out(const void* device, std::int64_t bytes) override;
  bool supports_capture() const override { return true; }
  void begin_capture() override;
  std::unique_ptr<CapturedStep> end_capture() override;
  void push_range(std::string_view name) override;
  void pop_range() override;
  std::unique_ptr<DeviceTimer> make_timer() override;
  std::unique_ptr<KernelTracer> make_kernel_tracer() override;

  void copy(View y, Write, ConstView x) override;
  void index_select(View y, ConstView x, ConstView index) override;
  bool all_finite(ConstView x) override;

  ConvFormats conv_formats(const ConvSpec&) override { return {kNhwc, kNhwc}; }
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
  bool has_relu_masks() const override { return true; }
  void normalize(View y, ConstView x, const NormalizeArgs&, ConstView residual) override;
  void normalize_grad_sums(View sums, ConstView dy, ConstView y, ConstView x, const NormalizeArgs&) override;
  void normalize_parameter_grads(View sums, const NormalizeParameterGrads&, ConstView dy, ConstView y, ConstView x,
                                 const NormalizeArgs&) override;
  void normalize_grad(View dx, Write, View dresidual, Write, ConstView dy, ConstView y, ConstView x,
                      const NormalizeArgs&, ConstView sums) override;
  void normalize_grad_correction(View dx, ConstView x, ConstView stats, double epsilon, ConstView weighted) override;
  void update_running(View running, ConstView stats, double momentum, std::int64_t elements) override;
  bool folds_norms() const override { return true; }
  void fold_normalize(View folded, View shift, ConstView w, ConstView bias, const NormalizeArgs&) override;

  bool fuses_norm_conv(const ConvSpec&, ConstView x, const NormalizeArgs&, const WeightView& w, NormConvUse) override;
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

  bool prepares_images() const override { return true; }
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
  void prepare_update(const UpdateArena&) override;
  void update(const UpdateArena&, const SgdStep&) override;
  void update(const UpdateArena&, const AdamStep&) override;

 protected:
  void run_map(const MapCall&) override;

 private:
  /// The stream, with this backend's GPU made current for the calling thread.
  cudaStream_t stream();
  cublasHandle_t cublas();
  ConvPlans& conv_plans();
  GraphSpec graph_of(GraphKind kind, const ConvSpec& spec, DType dtype) const;
  /// Runs a gradient's graph into `to`, or into scratch memory that is then copied or added there.
  void run_conv_into(const GraphSpec& graph, const ConvSpec& spec, View to, Write write, GraphPointers pointers);
  /// DenseNet's 3x3 convolutions and their gradients by kernels of our own; a, b: x and w, dy and w, dy and x. False,
  /// and nothing done, where these do not take it or cuDNN is faster.
  bool run_growth(GraphKind kind, const ConvSpec& spec, View to, Write write, ConstView a, ConstView b);
  using ConvWay = std::function<void(const View& to, Write write)>;
  bool prefers_growth(const GraphSpec& graph, View to, const ConvWay& by_cudnn, const ConvWay& by_growth);
  // Gradients of 1x1 convolutions by one matrix product. False, and nothing done, where one is no such product.
  bool add_pointwise_data_grad(const ConvSpec& spec, View dx, ConstView dy, const WeightView& w);  // dx += it
  bool pointwise_weight_grad(const ConvSpec& spec, View dw, Write, ConstView dy, ConstView x);
  struct Gemm;
  cublasComputeType_t product_type() const;
  void gemm(const Gemm& gemm, View c, ConstView a, ConstView b);
  /// Errors: a step is being captured.
  void refuse_in_capture(const char* call) const;
  gpu::DeviceArena device_arena(const UpdateArena& arena);
  template <class Step>
  void run_update(const UpdateArena& arena, const Step& step);

  /// Pinned memory that host data passes through, so that copy_in need not wait for the stream.
  struct Staging {
    gpu::Handle<void*, cudaFreeHost> memory;
    gpu::Handle<cudaEvent_t, cudaEventDestroy> is_free;
  };
  Staging& next_staging();

  int index_;
  Precision precision_;
  std::string description_;
  gpu::Handle<cudaStream_t, cudaStreamDestroy> stream_;
  gpu::Handle<cudaStream_t, cudaStreamDestroy> uploads_;  // created when first needed

  // A released block may be handed out at once: its last use precedes the next one on the stream.
  std::unique_ptr<MemorySource> source_;
  DeviceMemory memory_;
  Staging staging_[4];
  std::size_t last_staging_ = 0;
  std::shared_ptr<PinnedBlocks> pinned_;  // created when first needed
  bool is_capturing_ = false;

  gpu::Handle<cublasHandle_t, cublasDestroy> cublas_;  // created when first needed, as cuDNN's is
  void* cublas_workspace_ = nullptr;                   // from allocate()
  PlanOptions plan_options_;
  std::unique_ptr<ConvPlans> conv_plans_;
  std::map<std::pair<ConvSpec, NormConvUse>, bool> fuses_;  // by the convolution of one image
  std::map<GraphSpec, bool> growth_;                        // whether our kernels are preferred to cuDNN's
  UpdateTable update_table_;
  void* device_table_ = nullptr;  // update_table_'s bytes on the GPU, from allocate(); stays while their number does
  std::size_t device_table_bytes_ = 0;
  void* update_ticket_ = nullptr;  // an unsigned 0 between launches, from allocate()
};

/// Empty when this GPU can run graft's kernels, else the reason. Never throws.
std::string gpu_unavailable_reason(int index);

}  // namespace graft
