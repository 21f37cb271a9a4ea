#include "tensor/ops.h"

namespace graft {

Tensor add(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape())
    throw Error("add: shapes differ: " + to_string(a.shape()) + " and " + to_string(b.shape()));
  Tensor y = empty_like(a);
  a.backend().map(Add{}, y.view(), Write::overwrite, {a.view(), b.view()});
  return record("add", y, {a, b}, [](Tensor& dy, Grads& g) {
    for (std::size_t i : {0, 1}) g.accumulate(i, [&](View dx, Write w) { dy.backend().copy(dx, w, dy.view()); });
  });
}

}  // namespace graft
