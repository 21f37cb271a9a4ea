#include "tensor/ops.h"

namespace graft {

Tensor low_rank_sum(const Parameter& weight) {
  const Parameter &up = *weight.adapter.up, &down = *weight.adapter.down;
  const Scale scale{weight.adapter.scale};
  Backend& device = weight.value.backend();
  Tensor sum = empty(weight.value.context(), weight.shape), scaled_up = empty_like(up.value);
  device.copy(sum.view(), Write::overwrite, weight.value.view());
  device.map(scale, scaled_up.view(), Write::overwrite, {up.value.view()});
  // Matrices: sum [K,C*R*S] += up [K,r] times down [r,C*R*S].
  device.linear_data_grad(sum.view(), Write::add, scaled_up.view(), WeightView{.value = down.value.view()});
  return record("low_rank_sum", sum, {weight.value, up.value, down.value}, [=, &down, &device](Tensor& d, Grads& g) {
    g.accumulate(0, [&](View dw, Write w) { device.copy(dw, w, d.view()); });
    g.accumulate(1, [&](View dup, Write w) {
      const Tensor product = empty_like(scaled_up);
      device.linear(product.view(), d.view(), WeightView{.value = down.value.view()}, {});
      device.map(scale, dup, w, {product.view()});
    });
    g.accumulate(2, [&](View ddown, Write w) { device.linear_weight_grad(ddown, w, scaled_up.view(), d.view()); });
  });
}

}  // namespace graft
