// Convolutions as cuDNN graphs, each planned once and kept. Plans compute in float32 without tensor cores (which would
// mean TF32) and give the same bits every time. The vendor's headers stay in conv_cudnn.cpp: they take a minute to
// compile.
#pragma once

#include <cuda_runtime.h>

#include <compare>
#include <memory>
#include <string>

#include "kernels/core.h"

namespace graft {

enum class ConvPass : std::uint8_t { forward, data_grad, weight_grad };

struct ConvKey {
  ConvPass pass = ConvPass::forward;
  ConvSpec spec;
  bool has_bias = false;  // forward only
  friend bool operator==(const ConvKey&, const ConvKey&) = default;
  friend auto operator<=>(const ConvKey&, const ConvKey&) = default;
};

/// forward: y from x, w, bias. data_grad: x from y, w. weight_grad: w from y, x. Dense NHWC and KRSC on the GPU.
struct ConvPointers {
  const void *x = nullptr, *y = nullptr, *w = nullptr, *bias = nullptr;
  void* workspace = nullptr;  // workspace_bytes(key)
};

class ConvPlans {
 public:
  explicit ConvPlans(cudaStream_t stream);
  ~ConvPlans();

  /// Plans the convolution if that has not been done.
  /// Errors: cuDNN has no plan for it.
  std::int64_t workspace_bytes(const ConvKey& key);
  void run(const ConvKey& key, const ConvPointers& pointers);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The plan that would be chosen on another GPU, which need not be here: "eng70_k2=4_k18=0, 154140688 bytes".
///   device_properties: what cudnn_frontend::DeviceProperties serializes, JSON.
/// Errors: cuDNN has no plan for it.
std::string conv_plan_without_device(const std::string& device_properties, const ConvKey& key);

}  // namespace graft
