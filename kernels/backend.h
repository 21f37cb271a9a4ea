// What a device must be able to do: some seventy calls on plain views and specs, implemented three times
// (reference/, cpu/, cuda/). Nothing here knows tensors, gradients' owners or the tape; read tensor/tensor.h for those.
// Conventions: outputs first, then `Write` where a result may be added, then inputs. All views of one call are on the
// backend's device. Types: x, y, dx, dy, residual, logits, dlogits and the weights of convolutions and linear layers
// are activations: all those of one call have one type, the backend's activation type or its compute type (double on
// the reference, float elsewhere). Everything else, gradients of weights included, has the compute type unless said
// otherwise. Sums are taken in the compute type, and what is stored in 16 bits is rounded once, after adding.
#pragma once

#include <cstring>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "kernels/core.h"
#include "kernels/device_timer.h"
#include "kernels/functors.h"
#include "kernels/image_input.h"
#include "kernels/kernel_tracer.h"
#include "kernels/views.h"

namespace graft {

/// Live are the blocks that are allocated now, peak is the most that were since reset_peak_memory, or ever (a step that
/// is replayed counts as what it allocated when it was not); reserved is what the device took from the system, live or
/// kept for reuse, and of that the arena of planned steps.
struct MemoryUse {
  std::int64_t live_bytes = 0, peak_bytes = 0, reserved_bytes = 0, arena_bytes = 0;
};

/// Bytes on their way from the device.
class HostCopy {
 public:
  virtual ~HostCopy() = default;
  /// The bytes, valid while the object lives. Waits until they are there.
  virtual const void* wait() = 0;
};

/// A buffer of the host whose bytes go to the device while it computes. Its backend must outlive it. Destroying it
/// waits for what was sent.
class Upload {
 public:
  virtual ~Upload() = default;
  /// The buffer, to be filled. Waits until what was sent before has left it.
  virtual std::byte* memory() = 0;
  /// Begins to copy `bytes` bytes from `offset` of the buffer to the device's memory. They arrive when the calls before
  /// the last `follow_calls` are done, whatever the device does meanwhile.
  virtual void send(void* device, std::int64_t offset, std::int64_t bytes) = 0;
  /// Calls from here on find what was sent.
  virtual void arrive() = 0;
  /// What is sent from now on arrives after all calls made so far, which may use its destination.
  virtual void follow_calls() = 0;
};

/// Calls that were captured, to be repeated at the same addresses with the same arguments.
class CapturedStep {
 public:
  virtual ~CapturedStep() = default;
  virtual void replay() = 0;
};

class Backend {
 public:
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  virtual ~Backend() = default;

  virtual Device device() const = 0;
  virtual DType compute_type() const = 0;  // f64 on the reference, f32 elsewhere
  /// Of activations and their gradients: bf16 or f16 when that precision was asked for.
  virtual DType activation_type() const { return compute_type(); }
  virtual std::string description() const = 0;  // one line for people: "cpu, oneDNN 2.6.3, AVX-512, 2 threads"

  /// What the device chose for each convolution met so far, a line each, for the records of a run; empty where there is
  /// nothing to choose.
  virtual std::vector<std::string> plans() const { return {}; }
  /// Lines that plans() gave when the run that continues was interrupted: choices to be made again where that is
  /// possible, or a note says where not. Before the first convolution.
  virtual void prefer_plans(const std::vector<std::string>&) {}

  // Memory. Blocks are 64-byte aligned at least; `release` may keep them for reuse.
  virtual void* allocate(std::int64_t bytes) = 0;
  virtual void release(void* block) noexcept = 0;
  virtual MemoryUse memory() const = 0;
  virtual void reset_peak_memory() = 0;
  /// What the system could still give beyond what is reserved; 0: the device does not say.
  virtual std::int64_t free_bytes() const { return 0; }
  /// Marks one step of training, so that memory can be planned for it: a step that allocates as the last one of its
  /// `kind` did (the same sizes in the same order) gets the same addresses, in an arena that holds little more than
  /// what lives together. A first step, and one that differs, is served as outside steps, and planned for the next
  /// time. The same kind should mean the same batch size and the same things trained. Steps do not nest. What happens
  /// between end_step and the next begin_step is planned for no one. begin_step returns the number of the addresses
  /// that this step gets if it allocates as planned: steps with equal numbers have equal addresses (what a captured
  /// graph needs); 0: none are planned. end_step returns whether the step did so, or allocated nothing at all because
  /// it was replayed. Blocks that outlive the step are outside the plan.
  virtual std::uint64_t begin_step(std::int64_t kind) { return (void)kind, 0; }
  virtual bool end_step() { return false; }
  virtual void copy_in(void* device, const void* host, std::int64_t bytes) = 0;
  virtual void copy_out(void* host, const void* device, std::int64_t bytes) = 0;
  virtual std::unique_ptr<Upload> make_upload(std::int64_t bytes) {
    return std::make_unique<FinishedUpload>(*this, bytes);
  }
  virtual void zero(void* device, std::int64_t bytes) = 0;
  virtual void synchronize() = 0;
  /// Whether calls return before they are done, so that results are better read a step late.
  virtual bool is_asynchronous() const { return false; }
  /// The bytes as the calls before this one leave them, whatever later calls do to that memory. Does not wait.
  virtual std::unique_ptr<HostCopy> begin_copy_out(const void* device, std::int64_t bytes) {
    return std::make_unique<FinishedCopy>(*this, device, bytes);
  }

  // A step that is captured once and replayed. What changes from one replay to the next is read from device memory.
  virtual bool supports_capture() const { return false; }
  /// From here to end_capture calls are recorded and not run; within a step that keeps its addresses (begin_step), or a
  /// replay would use memory that belongs to others. Errors, then: a call that waits for the device or copies
  /// to or from the host; end_capture must be called all the same.
  virtual void begin_capture() { throw Error(to_string(device()) + ": steps cannot be captured"); }
  virtual std::unique_ptr<CapturedStep> end_capture() { return nullptr; }

  /// Names what is called until the matching `pop_range`, for profilers: "layer1.0.conv1". Ranges nest.
  virtual void push_range(std::string_view) {}
  virtual void pop_range() {}
  /// Times calls of this device where it runs them, one after another. The backend must outlive it.
  virtual std::unique_ptr<DeviceTimer> make_timer() { return std::make_unique<HostTimer>(); }
  /// Collects what the device runs beneath its calls; one at a time. Errors: why that is not possible.
  virtual std::unique_ptr<KernelTracer> make_kernel_tracer() {
    throw Error(to_string(device()) + " runs nothing that could be traced");
  }

  /// y (=|+=) x between any formats, pitches and floating-point element types; equal shapes.
  virtual void copy(View y, Write, ConstView x) = 0;
  /// y[n] = x[index[n]], bits and all: dense x [M,C,H,W] and y [N,C,H,W] of one format and type, index i32 [N] with all
  /// in [0, M).
  virtual void index_select(View y, ConstView x, ConstView index);
  /// Whether every element is finite. Waits for the device.
  virtual bool all_finite(ConstView x) = 0;

  /// out (=|+=) f(index, in...): views of one shape, format, pitch-pattern (slices allowed) and floating-point type;
  /// the formula is computed in the compute type.
  template <class F>
  void map(const F& f, View out, Write write, std::initializer_list<ConstView> in);

  // Convolution. x, y, dx, dy are dense and in the formats that conv_formats returned.
  virtual ConvFormats conv_formats(const ConvSpec&) = 0;
  /// What `call` allocates while it runs; zeros where the device cannot tell.
  virtual ConvWorkspace conv_workspace(const ConvCall& call) { return (void)call, ConvWorkspace{}; }
  virtual void conv(const ConvSpec&, View y, ConstView x, WeightView w, const ConvEpilogue&) = 0;
  virtual void conv_data_grad(const ConvSpec&, View dx, Write, ConstView dy, WeightView w) = 0;
  virtual void conv_weight_grad(const ConvSpec&, View dw, Write, ConstView dy, ConstView x) = 0;
  /// db[c] (=|+=) sum over n,h,w of dy; also the bias gradient of a linear layer.
  virtual void channel_sum(View db, Write, ConstView dy) = 0;
  /// g = dy where y > 0, else 0, and db (=|+=) channel_sum of g. g may be dy's memory. One pass where a device can.
  virtual void relu_grad_and_sum(View g, View db, Write, ConstView dy, ConstView y);

  // Linear: matrices x [N,in], w [out,in], y [N,out], NHWC. Higher dimensions are flattened in memory order.
  virtual void linear(View y, ConstView x, WeightView w, ConstView bias) = 0;  // bias.data may be null
  virtual void linear_data_grad(View dx, Write, ConstView dy, WeightView w) = 0;
  virtual void linear_weight_grad(View dw, Write, ConstView dy, ConstView x) = 0;

  // Batch norm in parts that compose (see tensor/ops/batch_norm.cpp). Activations may be channel slices, all of one
  // format.
  /// stats [2,C] = mean and biased variance of x over n,h,w.
  virtual void batch_statistics(View stats, ConstView x) = 0;
  /// The same, then update_running with it; fewer launches where a device can.
  virtual void batch_statistics_and_running(View stats, View running, double momentum, ConstView x);
  /// Whether NormalizeArgs::relu_mask is written and read; without, it must be null.
  virtual bool has_relu_masks() const { return false; }
  /// residual.data may be null.
  virtual void normalize(View y, ConstView x, const NormalizeArgs&, ConstView residual) = 0;
  /// sums [2,C]: row 0 = sum g, row 1 = sum g*xhat, where g = dy, masked by y > 0 when args.relu.
  /// y may have null data when !args.relu or args.relu_mask has data.
  virtual void normalize_grad_sums(View sums, ConstView dy, ConstView y, ConstView x, const NormalizeArgs&) = 0;
  /// The same, and what follows from the sums alone; fewer launches where a device can.
  virtual void normalize_parameter_grads(View sums, const NormalizeParameterGrads&, ConstView dy, ConstView y,
                                         ConstView x, const NormalizeArgs&);
  /// dx (=|+=) gamma*inv*(g - sums[0]/M - xhat*sums[1]/M), M = N*H*W; with sums.data null (fixed statistics)
  /// gamma*inv*g. dresidual (may be null data) (=|+=) g.
  virtual void normalize_grad(View dx, Write, View dresidual, Write residual_write, ConstView dy, ConstView y,
                              ConstView x, const NormalizeArgs&, ConstView sums) = 0;
  /// dx += -inv/M * (weighted[0] + xhat*weighted[1]): the batch-statistics part for consumers that were handed fixed
  /// statistics; weighted [2,C] = sum over consumers of gamma * sums.
  virtual void normalize_grad_correction(View dx, ConstView x, ConstView stats, double epsilon, ConstView weighted) = 0;
  /// running [2,C]: mean and unbiased variance move by `momentum` towards stats of M elements (M == 1 leaves variance
  /// biased).
  virtual void update_running(View running, ConstView stats, double momentum, std::int64_t elements) = 0;

  /// Whether layers may fold a norm with fixed statistics into the convolution before it.
  virtual bool folds_norms() const { return false; }
  /// The weight and bias of the one convolution that gives normalize(conv(x, w) + bias):
  ///   folded[k,...] = w[k,...] * s, shift[k] = (bias[k] - mean[k]) * s + beta[k], s = gamma[k] / sqrt(var[k] +
  ///   epsilon).
  /// folded [K,C,R,S] is a weight of the activation type; w (the master), bias (data may be null) and shift [1,K,1,1]
  /// have the compute type. args.relu is not looked at. Errors: the device does not fold.
  virtual void fold_normalize(View, View, ConstView, ConstView, const NormalizeArgs&) {
    throw Error("fold_normalize: this device does not fold norms into convolutions");
  }

  // A norm with a ReLU and the pointwise convolution behind it as one: y = conv(normalize(x), w), where args.relu is
  // set and args.relu_mask is empty. What lies between is made again where it is needed and not kept; a device
  // with nothing better makes it whole for the time of the call. x and dx may be channel slices; y, dy are dense.
  /// Whether the device does this better than the calls one by one. It may try both on x and w, and remembers what it
  /// found for images of that size, however many they are.
  virtual bool fuses_norm_conv(const ConvSpec&, ConstView x, const NormalizeArgs&, const WeightView& w, NormConvUse) {
    return (void)x, (void)w, false;
  }
  virtual void norm_conv(const ConvSpec&, View y, const NormConvEpilogue&, ConstView x, const NormalizeArgs&,
                         WeightView w);
  virtual void norm_conv_weight_grad(const ConvSpec&, View dw, Write, ConstView dy, ConstView x, const NormalizeArgs&);
  /// With g = the gradient of x's norm, behind the ReLU: dx (data may be null) (=|+=) gamma*inv*g, and of g what
  /// normalize_parameter_grads gives.
  virtual void norm_conv_data_grad(const ConvSpec&, View dx, Write, View sums, const NormalizeParameterGrads&,
                                   ConstView dy, ConstView x, const NormalizeArgs&, WeightView w);

  // Pooling. `index` is u8 in y's shape and format: the window position of the maximum, row by row; the first wins a
  // tie.
  virtual void max_pool(const PoolSpec&, View y, View index, ConstView x) = 0;
  virtual void max_pool_grad(const PoolSpec&, View dx, Write, ConstView dy, ConstView index) = 0;
  virtual void avg_pool(const PoolSpec&, View y, ConstView x) = 0;
  virtual void avg_pool_grad(const PoolSpec&, View dx, Write, ConstView dy) = 0;
  /// Windows floor(i*H/out) .. ceil((i+1)*H/out), as PyTorch; y's shape says the output size. y may be NHWC whatever x
  /// is.
  virtual void adaptive_avg_pool(View y, ConstView x) = 0;
  virtual void adaptive_avg_pool_grad(View dx, Write, ConstView dy) = 0;

  /// Whether batches of images are better made here, from decoded images, than by the host's threads.
  virtual bool prepares_images() const { return false; }
  /// (x, pixels, changes, scaling): x [N,C,H,W], C >= 3 = the images `changes[n]` of `pixels`, blocks of u8 on the
  /// device, changed and scaled as image_input.h says; channels from the fourth on are 0. The host's `pixels` and
  /// `changes` may go when the call returns. Equal on every device, before rounding to 16 bits, and to data/'s augment
  /// and Normalizer. Errors: a change that leaves its image, or an image its block.
  virtual void images_to_input(View, std::span<const ConstView>, std::span<const ImageChange>, const PixelScaling&) {
    throw Error("images_to_input: this device has none");
  }

  /// loss [1] = sum_n weight[label] * ((1-s)*nll + ...) / sum_n weight[label] as PyTorch's cross_entropy(mean, weight,
  /// label_smoothing); probabilities [N,C] = softmax(logits). labels: i32 [N], all in [0, C).
  virtual void softmax_cross_entropy(View loss, View probabilities, ConstView logits, ConstView labels,
                                     const SoftmaxSpec&) = 0;
  /// dlogits (=|+=) dloss[0] * d loss / d logits.
  virtual void softmax_cross_entropy_grad(View dlogits, Write, ConstView dloss, ConstView probabilities,
                                          ConstView labels, const SoftmaxSpec&) = 0;
  /// loss [1] = mean over n and c of -w (t log p + (1-t) log(1-p)), as PyTorch's binary_cross_entropy_with_logits;
  /// probabilities [N,C] = p = sigmoid(logits), t = (1-s) targets[label n] + s/2, w the class's positive weight where
  /// it holds, else 1 (without smoothing PyTorch's pos_weight). labels: i32 [N].
  virtual void sigmoid_cross_entropy(View loss, View probabilities, ConstView logits, ConstView labels,
                                     const SigmoidSpec&) = 0;
  /// dlogits (=|+=) dloss[0] * d loss / d logits.
  virtual void sigmoid_cross_entropy_grad(View dlogits, Write, ConstView dloss, ConstView probabilities,
                                          ConstView labels, const SigmoidSpec&) = 0;
  /// What the host wants to know of a batch, in one place: see kReportSize. penalty.data may be null. `targets` is
  /// null, or SigmoidSpec's, and then every class of an image is an answer by itself, right or wrong at 0.5. Where it
  /// halts, `UpdateArena::halt` keeps the weights as they are, in this step and all later ones.
  virtual void report_batch(View report, ConstView loss, ConstView penalty, ConstView probabilities, ConstView labels,
                            ConstView targets) = 0;

  /// What an update must know of all gradients before it begins: their norm over the arena's segments, whether all are
  /// finite, and (Auto-RGN, every step) the relative rate of each group of segments:
  ///   r_k = |g_k| / (|w_k| + epsilon), averaged over the last `window` measurements; rate_k = r_k / max r
  /// A group with |w_k| < min_weight_norm is left out of the maximum and gets rate 1, as do all when every r is 0.
  /// Norms are of the loss's gradient, unclipped and without penalties; masked elements count in none. A gradient that
  /// is not finite sets the factor to 0, counts the skipped step and changes neither rates nor history. With
  /// `scales_loss` the gradients carry control's loss scale, which then shrinks or grows for the next backward pass.
  /// Shapes: control as control_size says; history f64 [groups,1 + window], row k = number of entries ever, the last
  /// ones in a ring; zeros at first, null data without relative_rates. Reads of `arena` values, gradients, segments.
  /// Deterministic: sums are taken in an order that depends on the segments alone. Does not wait for the device.
  /// Source: Lee et al. 2023 (Auto-RGN); clipping as PyTorch's clip_grad_norm_.
  virtual void measure_gradients(View control, View history, const UpdateArena& arena, const MeasureSpec&) = 0;
  /// Brings what an update needs of the segments to the device. `update` and `measure_gradients` do so by themselves,
  /// but cannot within a capture.
  virtual void prepare_update(const UpdateArena&) {}
  /// One step of a rule over all segments, penalties included, in one pass; formulas in functors.h. With a factor of 0
  /// in control, or halted, nothing changes (sums are taken all the same). Gradients are never written, masked elements
  /// never visited.
  /// Errors: a penalty towards anchors that are not there.
  virtual void update(const UpdateArena&, const SgdStep&) = 0;
  virtual void update(const UpdateArena&, const AdamStep&) = 0;

 protected:
  friend class ObservedBackend;
  /// `functor` is an index into MapFunctors, `parameters` the functor's bytes.
  struct MapCall {
    int functor = 0;
    const void* parameters = nullptr;
    std::size_t parameter_bytes = 0;
    std::string_view name;         // of the functor
    const void* scale = nullptr;   // one number on the device that the functor reads, if it has one
    const double* base = nullptr;  // likewise, of its random numbers
    View out;
    Write write = Write::overwrite;
    ConstView in[3];
    int inputs = 0;
  };
  virtual void run_map(const MapCall&) = 0;

 private:
  class FinishedCopy : public HostCopy {
   public:
    FinishedCopy(Backend& backend, const void* device, std::int64_t bytes) : bytes_(std::size_t(bytes)) {
      backend.copy_out(bytes_.data(), device, bytes);
    }
    const void* wait() override { return bytes_.data(); }

   private:
    std::vector<std::byte> bytes_;
  };
  class FinishedUpload : public Upload {
   public:
    FinishedUpload(Backend& backend, std::int64_t bytes) : backend_(backend), bytes_(std::size_t(bytes)) {}
    std::byte* memory() override { return bytes_.data(); }
    void send(void* device, std::int64_t offset, std::int64_t bytes) override {
      backend_.copy_in(device, bytes_.data() + offset, bytes);
    }
    void arrive() override {}
    void follow_calls() override {}

   private:
    Backend& backend_;
    std::vector<std::byte> bytes_;
  };
};

/// Position of F in a tuple of functors.
template <class F, class... Fs>
constexpr int functor_index(const std::tuple<Fs...>*) {
  int index = 0;
  (void)((std::is_same_v<F, Fs> ? false : (++index, true)) && ...);
  return index;
}

template <class F>
void Backend::map(const F& f, View out, Write write, std::initializer_list<ConstView> in) {
  static_assert(std::is_trivially_copyable_v<F>);
  constexpr int index = functor_index<F>(static_cast<const MapFunctors*>(nullptr));
  static_assert(index < int(std::tuple_size_v<MapFunctors>), "add the functor to MapFunctors");
  if (int(in.size()) != F::kInputs) throw Error("map: wrong number of inputs for this functor");
  MapCall call{.functor = index, .parameters = &f, .parameter_bytes = sizeof f, .name = F::kName};
  call.out = out;
  call.write = write;
  call.inputs = F::kInputs;
  if constexpr (requires { f.scale; }) call.scale = f.scale;
  if constexpr (requires { f.call; }) call.base = f.call.base;
  if constexpr (requires { f.choice; }) call.base = f.choice.call.base;
  int i = 0;
  for (const ConstView& v : in) {
    if (v.shape != out.shape || v.format != out.format || v.dtype != out.dtype)
      throw Error("map: inputs and output differ in shape, format or type: " + to_string(v.shape) + " against " +
                  to_string(out.shape) + "; reorder first");
    call.in[i++] = v;
  }
  run_map(call);
}

/// Whether kernels of graft's own take the place of cuDNN's where there are any.
enum class OwnKernels : std::uint8_t { timed, always, never };
/// Of "auto", "on" and "off". Errors: another word.
OwnKernels parse_own_kernels(const std::string& text);

/// How the CUDA device chooses cuDNN's plans, and between them and its own kernels; see kernels/cuda/plan_choice.h.
struct PlanOptions {
  bool times = true;                                     // else cuDNN's first, untried
  bool keeps_on_disk = true;                             // and finds what earlier runs have chosen
  std::string cache_file;                                // empty: cudnn_plans.tsv in the user's cache directory
  std::int64_t workspace_bytes = std::int64_t{1} << 30;  // of one plan, at most
  bool deterministic = true;                             // only engines that give the same bits every time
  OwnKernels norm_fusion = OwnKernels::timed;  // norms and pointwise convolutions in one; if `times`, or known
  OwnKernels growth = OwnKernels::timed;       // DenseNet's 3 x 3 convolutions; the same
  std::vector<std::string> preferred = {};     // see Backend::prefer_plans
};

/// Threads and arithmetic of a backend.
struct BackendOptions {
  int threads = 0;               // 0: all cores this process may use
  bool allows_winograd = false;  // CPU, f32: 3 x 3 convolutions by F(4,3); faster, rounds more
  Precision precision = Precision::f32;
  PlanOptions plans;
};

/// Throws images_to_input's errors.
void check_images_to_input(const View& x, std::span<const ConstView> pixels, std::span<const ImageChange> changes);

/// The call for a device whose memory is the host's.
void images_to_input_on_host(View x, std::span<const ConstView> pixels, std::span<const ImageChange> changes,
                             const PixelScaling&);

/// Creates a device. On the reference bf16 and f16 are the truth for storage in 16 bits: every call in double from the
/// stored numbers, its result rounded to 16 bits.
/// Errors: the device is not built in or not usable, with the reason; it does not have the precision.
std::unique_ptr<Backend> make_backend(const Device& device, const BackendOptions& options = {});

/// What is best on a device: bf16 on GPUs, all of which have units for it (compute capability 8.0 and newer), else f32.
Precision default_precision(const Device& device);

/// Resolves "auto", "cpu", "reference", "cuda", "cuda:N"; `why` says what auto chose and why not a GPU.
Device parse_device(const std::string& text, std::string* why = nullptr);

/// Empty when a CUDA device can be used; else the reason in one line.
std::string cuda_unavailable_reason();

}  // namespace graft
