#include "kernels/dry_backend.h"

#include <algorithm>
#include <numeric>

#include "kernels/cuda/graph_spec.h"
#include "kernels/out_of_memory.h"

namespace graft {
namespace {

/// Of every call: it does not run.
class RunsNothing final : public DeviceObserver {
 public:
  void call(const DeviceCall&, const std::function<void()>&) override {}
};

RunsNothing& runs_nothing() {
  static RunsNothing observer;
  return observer;
}

/// Who answers questions: the CPU itself; for a GPU a device whose activations are NHWC too.
std::unique_ptr<Backend> answering(const Device& device, const BackendOptions& options) {
  if (device.kind == DeviceKind::cpu) return make_backend({DeviceKind::cpu}, options);
  BackendOptions answers = options;
  answers.precision = Precision::f32;  // of activations, which is no matter of formats
  return make_backend({DeviceKind::reference}, answers);
}

}  // namespace

/// Addresses that belong to nobody, each used once.
class DryBackend::Source final : public MemorySource {
 public:
  Source(const Device& device, std::int64_t limit) : device_(device), limit_(limit) {}

  void* get(std::int64_t bytes) override {
    if (limit_ > 0 && taken_ + bytes > limit_) return nullptr;
    auto* block = reinterpret_cast<void*>(next_);  // NOLINT: never followed
    next_ += std::uintptr_t((bytes + kHugePage) / kHugePage * kHugePage);
    sizes_[block] = bytes;
    taken_ += bytes;
    return block;
  }
  void give_back(void* block) noexcept override {
    taken_ -= sizes_[block];
    sizes_.erase(block);
  }
  std::int64_t rounded(std::int64_t bytes) const override {
    if (device_.kind == DeviceKind::reference) return bytes;
    return size_class(bytes, device_.kind == DeviceKind::cpu ? kCpuSmallestBlock : kCudaSmallestBlock);
  }
  bool keeps_released() const override { return device_.kind != DeviceKind::reference; }
  std::string name() const override { return to_string(device_); }
  std::string left() const override {
    return memory_text(limit_ - taken_) + " of " + memory_text(limit_) + " are free";
  }

 private:
  Device device_;
  std::int64_t limit_, taken_ = 0;
  std::uintptr_t next_ = std::uintptr_t{1} << 44;
  std::map<void*, std::int64_t> sizes_;
};

/// A call's own memory, while it runs.
class DryBackend::Workspace {
 public:
  Workspace(DryBackend& device, std::int64_t bytes) : device_(device) {
    if (bytes == 0) return;
    device_.push_range(kMemoryUseNames[std::size_t(MemoryUseKind::workspace)]);
    data_ = device_.allocate(bytes);
    device_.pop_range();
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  ~Workspace() {
    if (data_) device_.release(data_);
  }

 private:
  DryBackend& device_;
  void* data_ = nullptr;
};

std::int64_t MemoryPeak::total() const { return std::accumulate(bytes.begin(), bytes.end(), std::int64_t{0}); }

DryBackend::DryBackend(const Device& device, const BackendOptions& options, std::int64_t limit_bytes)
    : ObservedBackend(answering(device, options), runs_nothing()),
      device_(device),
      precision_(options.precision),
      norm_fusion_(options.plans.norm_fusion),
      source_(std::make_unique<Source>(device, limit_bytes)),
      memory_(*source_) {}

DryBackend::~DryBackend() = default;

DType DryBackend::activation_type() const {
  if (precision_ == Precision::bf16) return DType::bf16;
  return precision_ == Precision::f16 ? DType::f16 : compute_type();
}

MemoryUseKind DryBackend::kind_now() const {
  for (auto range = ranges_.rbegin(); range != ranges_.rend(); ++range) {
    const auto name = std::ranges::find(kMemoryUseNames, *range);
    if (name != kMemoryUseNames.end()) return MemoryUseKind(name - kMemoryUseNames.begin());
  }
  return MemoryUseKind::activations;
}

/// "backward: layer4.2.bn3": a part of the step, and the layer.
std::string DryBackend::range_now() const {
  constexpr std::array<std::string_view, 4> kParts = {"data", "forward", "backward", "update"};
  std::string part, layer;
  for (const std::string& range : ranges_) {
    if (range == "step" || std::ranges::find(kMemoryUseNames, range) != kMemoryUseNames.end()) continue;
    if (part.empty() && std::ranges::find(kParts, range) != kParts.end())
      part = range;
    else
      layer += (layer.empty() ? "" : ".") + range;
  }
  return part + (part.empty() || layer.empty() ? "" : ": ") + layer;
}

void* DryBackend::allocate(std::int64_t bytes) {
  void* block = memory_.allocate(bytes);
  const Block entry{.bytes = plan_aligned(bytes), .kind = kind_now()};
  blocks_[block] = entry;
  live_[std::size_t(entry.kind)] += entry.bytes;
  live_bytes_ += entry.bytes;
  most_reserved_ = std::max(most_reserved_, memory_.use().reserved_bytes);
  if (live_bytes_ > peak_.total()) peak_ = {.bytes = live_, .range = range_now()};
  return block;
}

void DryBackend::release(void* block) noexcept {
  memory_.release(block);
  const auto it = blocks_.find(block);
  if (it == blocks_.end()) return;
  live_[std::size_t(it->second.kind)] -= it->second.bytes;
  live_bytes_ -= it->second.bytes;
  blocks_.erase(it);
}

std::uint64_t DryBackend::begin_step(std::int64_t kind) {
  step_kind_ = kind;
  return memory_.begin_step(kind);
}

bool DryBackend::end_step() {
  const bool followed = memory_.end_step();
  if (step_kind_ >= 0) step_plan_ = memory_.plan(step_kind_).value_or(MemoryPlan{});
  return followed;
}

/// Numbers that stop nothing: a factor of 0 would mean a step that was skipped. Doubles read 1, floats 0 and 1.875.
void DryBackend::copy_out(void* host, const void*, std::int64_t bytes) {
  constexpr double kOne = 1;
  for (std::int64_t done = 0; done < bytes; done += std::int64_t(sizeof kOne))
    std::memcpy(static_cast<char*>(host) + done, &kOne, std::size_t(std::min<std::int64_t>(sizeof kOne, bytes - done)));
}

bool DryBackend::fuses_norm_conv(const ConvSpec& spec, ConstView x, const NormalizeArgs&, const WeightView&,
                                 NormConvUse) {
  return device_.kind == DeviceKind::cuda && norm_fusion_ == OwnKernels::always && has_norm_conv(spec, x.dtype);
}

ConvFormats DryBackend::conv_formats(const ConvSpec& spec) { return inner().conv_formats(spec); }

ConvWorkspace DryBackend::conv_workspace(const ConvCall& call) {
  if (device_.kind != DeviceKind::cuda) return inner().conv_workspace(call);
  // As kernels/cuda/conv_cudnn.cpp does it: a graph of other channels takes copies of x and w, and cuDNN, which cannot
  // add and gives gradients in the type of activations alone, then writes beside the destination.
  using Pass = ConvCall::Pass;
  const DType type = activation_type();
  const bool has_product = call.pass == Pass::data_grad ? call.write == Write::add
                                                        : call.pass == Pass::weight_grad && type != compute_type();
  if (has_product && call.spec.is_pointwise()) return {};  // cuBLAS writes and adds in place
  const GraphKind kind = call.pass == Pass::forward     ? GraphKind::conv
                         : call.pass == Pass::data_grad ? GraphKind::data_grad
                                                        : GraphKind::weight_grad;
  const ConvSpec conv = conv_graph(kind, call.spec, type).conv;
  const bool is_weight = call.pass == Pass::weight_grad, copies = conv.x.c != call.spec.x.c;
  const bool fits = !copies && call.write == Write::overwrite && (!is_weight || type == compute_type());
  const std::int64_t x = conv.x.size() * size_of(type), w = conv.weight_size() * size_of(type);
  ConvWorkspace need;
  if (copies && !is_weight) need.packed_weights = w;
  if (copies && call.pass != Pass::data_grad) need.scratch = x;
  if (call.pass != Pass::forward && !fits) need.sum = is_weight ? w : x;
  return need;
}

/// What the call takes while it runs.
void DryBackend::run_conv(const ConvCall& call, const WeightView* w) {
  const ConvWorkspace need = conv_workspace(call);
  const bool keeps = w && w->packed && need.packed_weights > 0;
  if (keeps) {
    // One block per version and use of the weights, as the CPU keeps them.
    struct Kept {
      std::uint64_t version = 0;
      std::map<ConvCall::Pass, std::unique_ptr<Workspace>> blocks;
    };
    if (!*w->packed) *w->packed = std::make_shared<Kept>();
    Kept& kept = *static_cast<Kept*>(w->packed->get());
    if (kept.version != w->version) kept.blocks.clear(), kept.version = w->version;
    auto& block = kept.blocks[call.pass];
    if (!block) block = std::make_unique<Workspace>(*this, need.packed_weights);
  }
  const Workspace packed(*this, keeps ? 0 : need.packed_weights);
  const bool is_weight = call.pass == ConvCall::Pass::weight_grad;
  const Workspace first(*this, is_weight ? need.sum : need.scratch);
  const Workspace second(*this, is_weight ? need.scratch : need.sum);
}

void DryBackend::conv(const ConvSpec& spec, View y, ConstView x, WeightView w, const ConvEpilogue& epilogue) {
  run_conv({.pass = ConvCall::Pass::forward,
            .spec = spec,
            .formats = {x.format, y.format},
            .has_bias = epilogue.bias.data != nullptr},
           &w);
}

void DryBackend::conv_data_grad(const ConvSpec& spec, View dx, Write write, ConstView dy, WeightView w) {
  run_conv({.pass = ConvCall::Pass::data_grad, .spec = spec, .formats = {dx.format, dy.format}, .write = write}, &w);
}

void DryBackend::conv_weight_grad(const ConvSpec& spec, View, Write write, ConstView dy, ConstView x) {
  run_conv({.pass = ConvCall::Pass::weight_grad, .spec = spec, .formats = {x.format, dy.format}, .write = write},
           nullptr);
}

}  // namespace graft
