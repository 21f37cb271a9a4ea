// The loss of the task: cross-entropy with class weights and label smoothing, as PyTorch defines it. Penalties on the
// weights are no part of it; the optimizer's update applies those.
#pragma once

#include <vector>

#include "tensor/ops.h"

namespace graft {

struct TaskLossSpec {
  std::int64_t num_classes = 2;
  double label_smoothing = 0;              // in [0, 1]
  std::vector<double> class_weights = {};  // empty: all one
};

class TaskLoss {
 public:
  /// Errors: label_smoothing outside [0, 1]; weights that are negative, not finite or not one per class.
  TaskLoss(Context& context, const TaskLossSpec& spec);

  /// Mean over the batch, weighted by class. logits [N, classes], labels i32 [N] (labels_to_device).
  CrossEntropyResult operator()(const Tensor& logits, const Tensor& labels) const {
    return softmax_cross_entropy(logits, labels, args_);
  }

 private:
  CrossEntropyArgs args_;
};

}  // namespace graft
