// Which cuDNN graphs the three networks ask for. Nobody lists them by hand: a network runs forward and backward on a
// device that computes nothing, and its calls are the list.
#pragma once

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

/// Of one training step of the whole network and one evaluation, each distinct graph once, sorted.
std::vector<NetworkGraph> network_graphs(const GraphsRequest& request);

}  // namespace graft
