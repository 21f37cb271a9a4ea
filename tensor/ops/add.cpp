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

Tensor add_scaled(const Tensor& a, const Tensor& b, const Tensor& factor) {
  if (a.shape() != b.shape())
    throw Error("add_scaled: shapes differ: " + to_string(a.shape()) + " and " + to_string(b.shape()));
  Tensor y = empty_like(a);
  a.backend().copy(y.view(), Write::overwrite, a.view());
  a.backend().map(ScaleBy{factor.view().data}, y.view(), Write::add, {b.view()});
  return record("add_scaled", y, {a, b}, [factor](Tensor& dy, Grads& g) {
    g.accumulate(0, [&](View da, Write w) { dy.backend().copy(da, w, dy.view()); });
    g.accumulate(1, [&](View db, Write w) { dy.backend().map(ScaleBy{factor.view().data}, db, w, {dy.view()}); });
  });
}

}  // namespace graft
