#include "nn/losses.h"

#include <algorithm>
#include <cmath>

namespace graft {

TaskLoss::TaskLoss(Context& context, const TaskLossSpec& spec) : args_{.label_smoothing = spec.label_smoothing} {
  if (!(spec.label_smoothing >= 0 && spec.label_smoothing <= 1))
    throw Error("loss: label smoothing must be in [0, 1], got " + std::to_string(spec.label_smoothing));
  if (spec.class_weights.empty()) return;
  if (std::int64_t(spec.class_weights.size()) != spec.num_classes)
    throw Error("loss: " + std::to_string(spec.class_weights.size()) + " class weights for " +
                std::to_string(spec.num_classes) + " classes; give one per class");
  if (!std::ranges::all_of(spec.class_weights, [](double w) { return std::isfinite(w) && w >= 0; }))
    throw Error("loss: class weights must be finite and not negative");
  args_.class_weights = from_host(context, {1, spec.num_classes, 1, 1}, spec.class_weights);
}

}  // namespace graft
