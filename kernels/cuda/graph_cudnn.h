// A graph as cuDNN's: described, its plans listed, built and run. The vendor's headers stay in graph_cudnn.cpp: they
// take a minute to compile. Which plan is used is decided elsewhere (plan_choice.h, conv_plans.cpp).
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/graph_spec.h"
#include "kernels/cuda/handles.h"
#include "kernels/cuda/plan_choice.h"

struct cudnnContext;

namespace graft {

/// conv: y from x, w [, bias [, residual]]. data_grad: x from y, w. weight_grad: w from y, x. What a kind does not use
/// is null. Results never overlap what is read.
struct GraphPointers {
  const void *x = nullptr, *y = nullptr, *w = nullptr, *bias = nullptr, *residual = nullptr;
};

/// cuDNN on one stream.
class CudnnLibrary {
 public:
  explicit CudnnLibrary(cudaStream_t stream);
  ~CudnnLibrary();
  CudnnLibrary(const CudnnLibrary&) = delete;
  CudnnLibrary& operator=(const CudnnLibrary&) = delete;
  cudnnContext* handle() const { return handle_; }
  static std::string version();  // "9.19.0"

 private:
  cudnnContext* handle_ = nullptr;
};

/// Plans are those of heuristics A, then B, then the fallback, without repetition and without those that would break a
/// promise: sums whose order varies (unless allowed), TF32 where it is not allowed, and transforms that lose more
/// digits than a plain sum. TF32 is what engines that are compiled at run time may compute float32 products in, without
/// a note that says so, so convolutions have none of those in float32.
class CudnnGraph {
 public:
  /// Errors: cuDNN does not know such a graph, or lists no plan for it.
  CudnnGraph(const GraphSpec& spec, const CudnnLibrary& cudnn, bool deterministic);
  ~CudnnGraph();

  const std::vector<PlanCandidate>& candidates() const { return candidates_; }
  /// Makes a plan ready to run. Errors: its engine refuses.
  void build(std::size_t candidate);
  /// The same for several, each in a thread of its own on this GPU. One that its engine refuses is not made ready, in
  /// silence: `build` says why.
  void build_side_by_side(std::span<const std::size_t> candidates);
  /// Gives back what a built plan holds; nothing that the stream still does may use it. It can be built again.
  void unload(std::size_t candidate) noexcept;
  /// Starts a plan that was built on the library's stream. Only for conv, data_grad and weight_grad.
  void run(std::size_t candidate, const GraphPointers& pointers, void* workspace);

 private:
  struct State;
  const CudnnLibrary& cudnn_;
  std::unique_ptr<State> state_;
  std::vector<PlanCandidate> candidates_;
};

/// What cuDNN would do with a graph on another GPU, which need not be here: see CudaModule::graph_support.
GraphSupport graph_support(const std::string& device_properties, const GraphSpec& spec);

}  // namespace graft
