#include "tensor/ops.h"

namespace graft {
namespace {

void check_labels(const char* op, const Tensor& logits, const Tensor& labels) {
  if (labels.shape().n != logits.shape().n || logits.shape().pixels() != 1)
    throw Error(std::string(op) + ": logits " + to_string(logits.shape()) + " and labels " + to_string(labels.shape()) +
                " do not belong together");
}

}  // namespace

CrossEntropyResult softmax_cross_entropy(const Tensor& logits, const Tensor& labels, const CrossEntropyArgs& args) {
  check_labels("softmax_cross_entropy", logits, labels);
  const Tensor weights = args.class_weights;
  const SoftmaxSpec spec{.label_smoothing = args.label_smoothing, .class_weights = weights ? weights.view() : View{}};
  Tensor loss = empty(logits.context(), {1, 1, 1, 1});
  Tensor probabilities = empty(logits.context(), logits.shape());
  logits.backend().softmax_cross_entropy(loss.view(), probabilities.view(), logits.view(), labels.view(), spec);
  loss = record("softmax_cross_entropy", loss, {logits}, [=](Tensor& dloss, Grads& g) {
    (void)weights;  // spec points into it
    g.accumulate(0, [&](View dx, Write w) {
      dloss.backend().softmax_cross_entropy_grad(dx, w, dloss.view(), probabilities.view(), labels.view(), spec);
    });
  });
  return {loss, probabilities};
}

CrossEntropyResult sigmoid_cross_entropy(const Tensor& logits, const Tensor& labels,
                                         const SigmoidCrossEntropyArgs& args) {
  check_labels("sigmoid_cross_entropy", logits, labels);
  if (args.targets.shape().c != logits.shape().c || args.targets.shape().pixels() != 1)
    throw Error("sigmoid_cross_entropy: targets " + to_string(args.targets.shape()) + " are not for the logits " +
                to_string(logits.shape()));
  const Tensor weights = args.positive_weights, targets = args.targets;
  const SigmoidSpec spec{.targets = targets.view(),
                         .label_smoothing = args.label_smoothing,
                         .positive_weights = weights ? weights.view() : View{}};
  Tensor loss = empty(logits.context(), {1, 1, 1, 1});
  Tensor probabilities = empty(logits.context(), logits.shape());
  logits.backend().sigmoid_cross_entropy(loss.view(), probabilities.view(), logits.view(), labels.view(), spec);
  loss = record("sigmoid_cross_entropy", loss, {logits}, [=](Tensor& dloss, Grads& g) {
    (void)weights, (void)targets;  // spec points into them
    g.accumulate(0, [&](View dx, Write w) {
      dloss.backend().sigmoid_cross_entropy_grad(dx, w, dloss.view(), probabilities.view(), labels.view(), spec);
    });
  });
  return {loss, probabilities};
}

void labels_to_device(const Tensor& to, std::span<const std::int32_t> labels, std::int64_t count) {
  for (std::int32_t label : labels)
    if (label < 0 || label >= count)
      throw Error("labels: " + std::to_string(label) + " is none of the " + std::to_string(count) +
                  " that the loss knows");
  to.backend().copy_in(to.view().data, labels.data(), std::int64_t(labels.size()) * size_of(DType::i32));
}

Tensor labels_to_device(Context& context, std::span<const std::int32_t> labels, std::int64_t count) {
  const Tensor t(context, {std::int64_t(labels.size()), 1, 1, 1}, kNhwc, DType::i32);
  labels_to_device(t, labels, count);
  return t;
}

}  // namespace graft
