// The tape: operations in the order they ran, walked backwards by `backward`. A node is kept only when some input needs
// a gradient, so a frozen prefix costs neither memory nor work. Each closure, with what it saved, is freed after use.
// An operation and its derivative stand together in tensor/ops/<op>.cpp; start reading with tensor/ops/relu.cpp.
#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"

namespace graft {

/// Where a gradient contribution goes, and whether it replaces or adds. `view().data` is null if nobody wants it.
struct Destination {
  Tensor grad;
  Write write = Write::overwrite;
  View view() const { return grad ? grad.view() : View{}; }
  explicit operator bool() const { return bool(grad); }
};

/// Handed to a node's backward closure: the gradients of the node's inputs, by position.
class Grads {
 public:
  explicit Grads(const std::vector<Tensor>& inputs) : inputs_(inputs) {}

  bool needs(std::size_t input) const { return inputs_[input].needs_grad(); }
  /// The place for the gradient of `input`; allocated at first use. With `reuse`, a gradient of the same shape that
  /// nobody else holds, that memory becomes the destination (the kernel then works in place).
  Destination destination(std::size_t input, Tensor* reuse = nullptr);
  /// Calls `write_gradient(dx, write)` unless nobody wants the gradient of `input`.
  template <class Fn>
  void accumulate(std::size_t input, Fn&& write_gradient) {
    if (Destination d = destination(input)) write_gradient(d.view(), d.write);
  }

 private:
  const std::vector<Tensor>& inputs_;
};

using BackwardFn = std::function<void(Tensor& dy, Grads& grads)>;

class Tape {
 public:
  void add(std::string_view op, const Tensor& y, std::vector<Tensor> inputs, BackwardFn backward);
  /// Gradients of `loss`, a tensor of one element, times `scale`, into every leaf that needs one; empties the tape.
  /// `device_scale`, one number on the device in any type, is one more factor; the host does not read it.
  void backward(const Tensor& loss, double scale = 1, const Tensor& device_scale = {});
  /// The same with `scale` on the device: one number of any floating-point type.
  void backward(const Tensor& loss, const ConstView& scale, const Tensor& device_scale = {});
  /// Gradients of the sum of y * dy over all elements: for a result of many numbers, of which dy says how each counts.
  /// Empties the tape. Errors: shapes differ; y is a slice of channels; nothing it depends on needs a gradient.
  void backward_from(const Tensor& y, const Tensor& dy);
  void clear() { nodes_.clear(); }
  std::size_t size() const { return nodes_.size(); }

 private:
  struct Node {
    std::string_view op;  // a string literal
    std::string scope;    // where it was recorded: "layer1.0.conv1"
    Tensor y;             // without storage, as are the inputs
    std::vector<Tensor> inputs;
    BackwardFn backward;
  };
  Tensor begin_backward(const Tensor& loss);
  void run_backward();
  std::vector<Node> nodes_;
};

/// Ends every operation: puts it on the tape if some input needs a gradient, and returns y. `op` is a string literal.
Tensor record(std::string_view op, Tensor y, std::initializer_list<Tensor> inputs, BackwardFn backward);

/// Whether an operation on these inputs will be recorded: what need not be saved for backward can then be dropped.
bool will_record(std::initializer_list<const Tensor*> inputs);

}  // namespace graft
