#include "tensor/tape.h"

#include "tensor/context.h"

namespace graft {

Destination Grads::destination(std::size_t input, Tensor* reuse) {
  const Tensor& x = inputs_[input];
  if (!x.needs_grad()) return {};
  Variable& variable = *x.variable();
  const bool covers_all = x.shape().c == variable.shape.c;
  if (!variable.grad) {
    const bool fits = reuse && reuse->is_sole_owner() && covers_all && reuse->shape() == variable.shape &&
                      reuse->format() == variable.format && reuse->dtype() == variable.dtype &&
                      reuse->view().is_dense();
    variable.grad = fits ? *reuse : Tensor(x.context(), variable.shape, variable.format, variable.dtype);
  }
  Write write = Write::add;
  if (!variable.grad_written) {
    variable.grad_written = true;
    if (covers_all)
      write = Write::overwrite;
    else
      x.backend().zero(variable.grad.view().data, variable.shape.size() * size_of(variable.dtype));
  }
  return {variable.grad.channels(x.first_channel(), x.first_channel() + x.shape().c), write};
}

void Tape::add(std::string_view op, const Tensor& y, std::vector<Tensor> inputs, BackwardFn backward) {
  for (Tensor& x : inputs) x = x.without_storage();
  nodes_.push_back({op, y.context().scope(), y.without_storage(), std::move(inputs), std::move(backward)});
}

/// The place for the gradient of `loss` by itself, still to be written.
Tensor Tape::begin_backward(const Tensor& loss) {
  if (loss.shape().size() != 1)
    throw Error("backward: the loss must be one number, got shape " + to_string(loss.shape()));
  if (!loss.needs_grad()) throw Error("backward: nothing the loss depends on needs a gradient; unfreeze a parameter");
  Variable& root = *loss.variable();
  root.grad = empty_like(loss);
  root.grad_written = true;
  return root.grad;
}

void Tape::backward(const Tensor& loss, double scale, const Tensor& device_scale) {
  Tensor gradient = begin_backward(loss);
  if (device_scale) {
    loss.backend().copy(gradient.view(), Write::overwrite, device_scale.view());
    loss.backend().map(Scale{scale}, gradient.view(), Write::overwrite, {gradient.view()});
  } else {
    gradient.from_host(std::vector<double>{scale});
  }
  gradient = {};
  run_backward();
}

void Tape::backward(const Tensor& loss, const ConstView& scale, const Tensor& device_scale) {
  Tensor gradient = begin_backward(loss);
  loss.backend().copy(gradient.view(), Write::overwrite, scale);
  if (device_scale) {
    const Tensor factor = empty_like(loss);
    loss.backend().copy(factor.view(), Write::overwrite, device_scale.view());
    loss.backend().map(ScaleBy{factor.view().data}, gradient.view(), Write::overwrite, {gradient.view()});
  }
  gradient = {};
  run_backward();
}

void Tape::backward_from(const Tensor& y, const Tensor& dy) {
  if (!y.needs_grad()) throw Error("backward: nothing the result depends on needs a gradient; unfreeze a parameter");
  Variable& root = *y.variable();
  if (y.shape() != dy.shape() || y.shape() != root.shape)
    throw Error("backward: the result has shape " + to_string(root.shape) + ", its gradient " + to_string(dy.shape()) +
                "; give one number per element");
  root.grad = empty_like(y);
  root.grad_written = true;
  y.backend().copy(root.grad.view(), Write::overwrite, dy.view());
  run_backward();
}

void Tape::run_backward() {
  while (!nodes_.empty()) {
    Node node = std::move(nodes_.back());
    nodes_.pop_back();
    Variable& variable = *node.y.variable();
    if (!variable.grad_written) continue;  // nothing downstream used it
    Tensor dy = variable.grad.channels(node.y.first_channel(), node.y.first_channel() + node.y.shape().c);
    const bool is_slice = node.y.shape().c != variable.shape.c;
    if (!is_slice && !variable.is_leaf) variable.grad = {};
    Grads grads(node.inputs);
    const NamedRange range(node.y.backend(), node.scope);
    node.backward(dy, grads);
  }
}

Tensor record(std::string_view op, Tensor y, std::initializer_list<Tensor> inputs, BackwardFn backward) {
  Context& context = y.context();
  if (context.checks_finite() && !y.backend().all_finite(y.view()))
    throw Error("not finite: " + context.scope() + " (" + std::string(op) +
                ") gave a value that is not a number or infinite");
  bool needed = false;
  for (const Tensor& x : inputs) needed = needed || x.needs_grad();
  if (!context.is_recording() || !needed) return y;
  if (!y.variable())
    y.set_variable(std::make_shared<Variable>(
        Variable{.shape = y.shape(), .format = y.format(), .dtype = y.dtype(), .needs_grad = true, .grad = {}}));
  y.variable()->needs_grad = true;
  context.tape().add(op, y, inputs, std::move(backward));
  return y;
}

bool will_record(std::initializer_list<const Tensor*> inputs) {
  for (const Tensor* x : inputs)
    if (x->needs_grad() && x->context().is_recording()) return true;
  return false;
}

}  // namespace graft
