// The loss of the task: cross-entropy with class weights and label smoothing, as PyTorch defines it; of several labels
// per image the binary one of each class. Penalties on the weights are no part of it; the optimizer's update applies
// those.
#pragma once

#include <vector>

#include "tensor/ops.h"

namespace graft {

struct TaskLossSpec {
  std::int64_t num_classes = 2;
  double label_smoothing = 0;              // in [0, 1]
  std::vector<double> class_weights = {};  // empty: all one; with targets of the classes that hold (pos_weight)
  /// Several labels per image: 0 or 1 for each class of each label, row by row; empty: the label is the class.
  std::vector<double> targets = {};
};

class TaskLoss {
 public:
  /// Errors: label_smoothing outside [0, 1]; weights that are negative, not finite or not one per class; targets that
  /// are no whole rows.
  TaskLoss(Context& context, const TaskLossSpec& spec);

  /// Mean over the batch: weighted by class, or over all classes of all images. logits [N, classes], labels i32 [N].
  CrossEntropyResult operator()(const Tensor& logits, const Tensor& labels) const;
  /// Labels on the device, of as many images as `to` or the result holds. Errors: one that is not known.
  void copy_labels(const Tensor& to, std::span<const std::int32_t> labels) const {
    labels_to_device(to, labels, label_count_);
  }
  Tensor device_labels(Context& context, std::span<const std::int32_t> labels) const {
    return labels_to_device(context, labels, label_count_);
  }
  /// For Backend::report_batch.
  ConstView targets() const { return targets_ ? ConstView(targets_.view()) : ConstView{}; }

 private:
  std::int64_t label_count_;
  double label_smoothing_;
  Tensor class_weights_, targets_;
};

}  // namespace graft
