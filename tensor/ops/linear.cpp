#include "tensor/ops.h"

namespace graft {

Tensor linear(const Tensor& input, const Parameter& weight, const Parameter* bias, Activation activation) {
  const Tensor x = to_nhwc(input);
  const std::int64_t in = weight.shape.size() / weight.shape.n;
  if (x.shape().size() != x.shape().n * in)
    throw Error("linear: " + weight.name + " expects " + std::to_string(in) + " inputs, got x " + to_string(x.shape()) +
                "; check the image size and the layer order");
  Tensor y(x.context(), {x.shape().n, weight.shape.n, 1, 1}, kNhwc, x.dtype());
  x.backend().linear(y.view(), x.view(), weight.weight_view(x.dtype()), bias ? bias->value.view() : View{});
  const bool has_relu = activation == Activation::relu;
  if (has_relu) x.backend().map(Relu{}, y.view(), Write::overwrite, {y.view()});

  const Tensor saved_x = weight.is_trainable ? x : Tensor{};
  const Tensor saved_y = has_relu ? y : Tensor{};
  return record("linear", y, {x, weight.value, bias ? bias->value : Tensor{}}, [=, &weight](Tensor& dy, Grads& g) {
    Backend& device = dy.backend();
    if (has_relu) device.map(ReluGrad{}, dy.view(), Write::overwrite, {dy.view(), saved_y.view()});
    g.accumulate(0,
                 [&](View dx, Write w) { device.linear_data_grad(dx, w, dy.view(), weight.weight_view(dy.dtype())); });
    g.accumulate(1, [&](View dw, Write w) { device.linear_weight_grad(dw, w, dy.view(), saved_x.view()); });
    g.accumulate(2, [&](View db, Write w) { device.channel_sum(db, w, dy.view()); });
  });
}

}  // namespace graft
