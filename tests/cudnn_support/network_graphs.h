// Which cuDNN graphs the three networks ask for. Nobody lists them by hand: a network runs forward and backward on a
// device that computes nothing, and its calls are the list.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "kernels/cuda/graph_spec.h"

namespace graft {

struct NetworkGraph {
  GraphSpec spec;
  /// What the CUDA backend runs. Else a fusion that it could run instead of its own kernels: batch norm as one graph,
  /// convolutions with statistics, convolutions into and from slices of DenseNet's buffer.
  bool is_used = true;
  bool is_training = false, is_inference = false;
  std::string layer;  // the first that asks
  int layers = 0;     // that ask
};

struct GraphsRequest {
  std::string architecture;
  std::int64_t batch = 16, size = 224;
  DType dtype = DType::f32;
  bool allows_tf32 = false;
};

/// Without TF32 cuDNN has no plan that adds a tensor: its only engines for that are compiled at run time. The CUDA
/// backend then adds in a pass of its own.
bool may_be_refused(const GraphSpec& graph);

/// cuDNN's number of the first plan's engine. Requires a plan: "eng70_k2=4_k18=0" is of engine 70.
int engine_of(const GraphSupport& support);

/// "engines 7, 70"
std::string engines_text(const std::set<int>& engines);

/// Of one training step of the whole network and one evaluation, each distinct graph once, sorted.
std::vector<NetworkGraph> network_graphs(const GraphsRequest& request);

}  // namespace graft
