#include "tensor/ops.h"

namespace graft {

Tensor dropout(const Tensor& input, double p) {
  if (!(p >= 0 && p < 1)) throw Error("dropout: p must be in [0, 1), got " + std::to_string(p));
  if (p == 0 || !input.context().is_training()) return input;
  const Tensor x = to_nhwc(input);  // one numbering of the elements on every device
  const Dropout functor{.p = p, .seed = x.context().seed(), .call = x.context().next_random_call()};
  Tensor y = empty_like(x);
  x.backend().map(functor, y.view(), Write::overwrite, {x.view()});
  return record("dropout", y, {x}, [functor](Tensor& dy, Grads& g) {
    g.accumulate(0, [&](View dx, Write w) { dy.backend().map(functor, dx, w, {dy.view()}); });
  });
}

}  // namespace graft
