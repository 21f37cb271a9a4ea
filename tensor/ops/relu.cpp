#include "tensor/ops.h"

namespace graft {

Tensor relu(const Tensor& x) {
  Tensor y = empty_like(x);
  x.backend().map(Relu{}, y.view(), Write::overwrite, {x.view()});
  return record("relu", y, {x}, [y](Tensor& dy, Grads& g) {
    g.accumulate(0, [&](View dx, Write w) { y.backend().map(ReluGrad{}, dx, w, {dy.view(), y.view()}); });
  });
}

}  // namespace graft
