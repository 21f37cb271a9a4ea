// cuDNN's plans for the graphs a backend has met: those that the run has computed with before, or chosen once each, by
// timing them on the very buffers of the first call (plan_choice.h), remembered on disk (plan_cache.h), then run. A
// graph that is met first while a CUDA graph is being captured takes cuDNN's first plan: nothing is timed inside a
// capture.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/graph_cudnn.h"
#include "kernels/cuda/plan_cache.h"

namespace graft {

/// Where a ConvPlans takes memory and comparisons from: the CUDA backend, whose stream it uses.
struct PlanDevice {
  Backend& backend;
  cudaStream_t stream;
  std::string name;  // the GPU's, for the cache
};

class ConvPlans {
 public:
  ConvPlans(const PlanDevice& device, const PlanOptions& options);
  ~ConvPlans();

  /// Runs the graph; its plan is chosen first if this is its first time. False if it has no plan, and nothing was run:
  /// cuDNN offers none, or its ReLU does not keep a NaN.
  bool try_run(const GraphSpec& spec, const GraphPointers& pointers);
  /// The same. Errors: no plan, with cuDNN's reason.
  void run(const GraphSpec& spec, const GraphPointers& pointers);

  /// Which of two ways, not both of them cuDNN's, computes what `name` says: see choose_way in plan_choice.h. What is
  /// chosen is listed and kept on disk with the plans. The first way where nothing is timed, and in a run that
  /// continues and has made no such choice so far. None while a CUDA graph is captured, or where the two gave nothing
  /// to compare: ask again. After three steps in which that was so it is the first way.
  std::optional<std::string> choose_way(const std::string& name, const std::array<std::string, 2>& ways,
                                        double tolerance, PlanTrial& trial);
  /// The way that this run, where it continues, or an earlier one has taken; none if there was no choice.
  std::optional<std::string> known_way(const std::string& name, const std::array<std::string, 2>& ways) const;

  /// Another step of training or prediction begins.
  void begin_step();

  const PlanDevice& device() const;

  /// Plans chosen so far, in the order of first use.
  const std::vector<PlanRecord>& records() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace graft
