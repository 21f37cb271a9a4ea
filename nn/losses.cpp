#include "nn/losses.h"

#include <algorithm>
#include <cmath>

namespace graft {

TaskLoss::TaskLoss(Context& context, const TaskLossSpec& spec)
    : label_count_(spec.num_classes), label_smoothing_(spec.label_smoothing) {
  if (!(spec.label_smoothing >= 0 && spec.label_smoothing <= 1))
    throw Error("loss: label smoothing must be in [0, 1], got " + std::to_string(spec.label_smoothing));
  if (!spec.targets.empty()) {
    const auto values = std::int64_t(spec.targets.size());
    if (values % spec.num_classes != 0)
      throw Error("loss: " + std::to_string(values) + " targets are no rows of " + std::to_string(spec.num_classes) +
                  " classes");
    label_count_ = values / spec.num_classes;
    targets_ = from_host(context, {label_count_, spec.num_classes, 1, 1}, spec.targets);
  }
  if (spec.class_weights.empty()) return;
  if (std::int64_t(spec.class_weights.size()) != spec.num_classes)
    throw Error("loss: " + std::to_string(spec.class_weights.size()) + " class weights for " +
                std::to_string(spec.num_classes) + " classes; give one per class");
  if (!std::ranges::all_of(spec.class_weights, [](double w) { return std::isfinite(w) && w >= 0; }))
    throw Error("loss: class weights must be finite and not negative");
  class_weights_ = from_host(context, {1, spec.num_classes, 1, 1}, spec.class_weights);
}

CrossEntropyResult TaskLoss::operator()(const Tensor& logits, const Tensor& labels) const {
  if (!targets_)
    return softmax_cross_entropy(logits, labels,
                                 {.label_smoothing = label_smoothing_, .class_weights = class_weights_});
  return sigmoid_cross_entropy(
      logits, labels, {.targets = targets_, .label_smoothing = label_smoothing_, .positive_weights = class_weights_});
}

}  // namespace graft
