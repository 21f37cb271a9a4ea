#include "tensor/ops.h"

namespace graft {

Tensor feature_distance(const Tensor& input, const Tensor& target, double weight) {
  if (input.shape() != target.shape())
    throw Error("feature_distance: x is " + to_string(input.shape()) + ", its target " + to_string(target.shape()) +
                "; compare the same layer of the same network");
  Backend& device = input.backend();
  // Squares and their factor leave the range and the digits of 16 bits.
  const Tensor x = converted(input, input.context().dtype());
  Tensor fixed = converted(target, x.dtype());
  if (fixed.format() != x.format()) {
    fixed = empty_like(x);
    device.copy(fixed.view(), Write::overwrite, target.view());
    ++x.context().reorders;
  }
  const double factor = weight / (2 * double(x.shape().n * x.shape().pixels()));
  Tensor squares = empty_like(x), by_channel = empty(x.context(), {1, x.shape().c, 1, 1});
  device.map(SquaredDifference{factor}, squares.view(), Write::overwrite, {x.view(), fixed.view()});
  device.channel_sum(by_channel.view(), Write::overwrite, squares.view());
  Tensor distance = empty(x.context(), {1, 1, 1, 1});
  device.channel_sum(distance.view(), Write::overwrite, by_channel.reshaped({x.shape().c, 1, 1, 1}).view());
  return record("feature_distance", distance, {input}, [=](Tensor& d, Grads& g) {
    g.accumulate(0, [&](View dx, Write w) {
      const ScaledDifference derivative{2 * factor, d.view().data};
      if (dx.dtype == x.dtype()) return d.backend().map(derivative, dx, w, {x.view(), fixed.view()});
      const Tensor wide = empty_like(x);
      d.backend().map(derivative, wide.view(), Write::overwrite, {x.view(), fixed.view()});
      d.backend().copy(dx, w, wide.view());
    });
  });
}

}  // namespace graft
