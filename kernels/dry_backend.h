// A device that computes nothing: it answers as another device would, hands out addresses that nobody may follow, and
// keeps account of memory. A training step that runs on it shows what the same step needs there, without the device.
// Derive from it to see which calls a network makes.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "kernels/device_memory.h"
#include "kernels/observed_backend.h"

namespace graft {

/// What memory is for. Ranges of these names (Backend::push_range) say so: "weights", "gradients", …; what is allocated
/// outside them are activations, and what a call takes while it runs is workspace.
enum class MemoryUseKind { weights, gradients, moments, anchors, images, activations, workspace };
inline constexpr std::array<std::string_view, 7> kMemoryUseNames = {"weights", "gradients",   "moments",  "anchors",
                                                                    "images",  "activations", "workspace"};

/// The moment at which most was live.
struct MemoryPeak {
  std::array<std::int64_t, kMemoryUseNames.size()> bytes{};  // by MemoryUseKind
  std::string range;                                         // "backward: layer1.0.bn3"
  std::int64_t of(MemoryUseKind kind) const { return bytes[std::size_t(kind)]; }
  std::int64_t total() const;
};

/// Answers as a device of the given kind. The CPU's formats and scratch memory are asked of its device, for this
/// machine and the given number of threads. A GPU need not be there: activations are NHWC; cuDNN's workspaces are not
/// known and count as nothing, nor is what it would choose by time: norms are fused only if that was asked for.
/// copy_out gives finite numbers, doubles of 1.
class DryBackend : public ObservedBackend {
 public:
  /// `limit_bytes`: what the device has; 0: no limit.
  DryBackend(const Device& device, const BackendOptions& options, std::int64_t limit_bytes = 0);
  ~DryBackend() override;

  const MemoryPeak& peak() const { return peak_; }
  std::int64_t most_reserved() const { return most_reserved_; }
  /// The plan of the last step of a kind that is not negative; see Backend::begin_step.
  const MemoryPlan& step_plan() const { return step_plan_; }

  Device device() const override { return device_; }
  DType compute_type() const override { return device_.kind == DeviceKind::reference ? DType::f64 : DType::f32; }
  DType activation_type() const override;
  std::string description() const override { return to_string(device_) + ", nothing is computed"; }
  bool is_asynchronous() const override { return device_.kind == DeviceKind::cuda; }
  bool prepares_images() const override { return device_.kind == DeviceKind::cuda; }
  void* allocate(std::int64_t bytes) override;
  void release(void* block) noexcept override;
  MemoryUse memory() const override { return memory_.use(); }
  void reset_peak_memory() override { memory_.reset_peak(); }
  std::uint64_t begin_step(std::int64_t kind) override;
  bool end_step() override;
  void push_range(std::string_view name) override { ranges_.emplace_back(name); }
  void pop_range() override { ranges_.pop_back(); }
  void copy_out(void* host, const void* device, std::int64_t bytes) override;
  std::unique_ptr<HostCopy> begin_copy_out(const void* device, std::int64_t bytes) override {
    return Backend::begin_copy_out(device, bytes);
  }

  ConvFormats conv_formats(const ConvSpec& spec) override;
  bool fuses_norm_conv(const ConvSpec&, ConstView, const NormalizeArgs&, const WeightView&, NormConvUse) override;
  ConvWorkspace conv_workspace(const ConvCall& call) override;
  void conv(const ConvSpec&, View y, ConstView x, WeightView w, const ConvEpilogue&) override;
  void conv_data_grad(const ConvSpec&, View dx, Write, ConstView dy, WeightView w) override;
  void conv_weight_grad(const ConvSpec&, View dw, Write, ConstView dy, ConstView x) override;

 private:
  struct Block {
    std::int64_t bytes = 0;
    MemoryUseKind kind = MemoryUseKind::activations;
  };
  class Source;
  class Workspace;
  MemoryUseKind kind_now() const;
  std::string range_now() const;
  void run_conv(const ConvCall& call, const WeightView* w);

  Device device_;
  Precision precision_;
  OwnKernels norm_fusion_;
  std::unique_ptr<MemorySource> source_;
  DeviceMemory memory_;
  std::vector<std::string> ranges_;
  std::map<void*, Block> blocks_;
  std::array<std::int64_t, kMemoryUseNames.size()> live_{};
  std::int64_t live_bytes_ = 0, most_reserved_ = 0;
  MemoryPeak peak_;
  std::int64_t step_kind_ = 0;
  MemoryPlan step_plan_;
};

}  // namespace graft
