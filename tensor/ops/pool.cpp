#include "tensor/ops.h"

namespace graft {
namespace {

PoolSpec make_spec(const char* op, const Tensor& x, const PoolGeometry& g, bool count_padding) {
  const PoolSpec spec{.x = x.shape(),
                      .window_h = g.window_h,
                      .window_w = g.window_w,
                      .stride_h = g.stride_h,
                      .stride_w = g.stride_w,
                      .pad_h = g.pad_h,
                      .pad_w = g.pad_w,
                      .count_padding = count_padding};
  if (spec.out_h() < 1 || spec.out_w() < 1)
    throw Error(std::string(op) + ": nothing left of x " + to_string(x.shape()) + "; use larger images");
  return spec;
}

}  // namespace

Tensor max_pool(const Tensor& x, const PoolGeometry& geometry) {
  const PoolSpec spec = make_spec("max_pool", x, geometry, true);
  Tensor y(x.context(), spec.y(), x.format(), x.dtype());
  Tensor index(x.context(), spec.y(), x.format(), DType::u8);
  x.backend().max_pool(spec, y.view(), index.view(), x.view());
  return record("max_pool", y, {x}, [=](Tensor& dy, Grads& g) {
    g.accumulate(0, [&](View dx, Write w) { dy.backend().max_pool_grad(spec, dx, w, dy.view(), index.view()); });
  });
}

Tensor avg_pool(const Tensor& x, const PoolGeometry& geometry, bool count_padding) {
  const PoolSpec spec = make_spec("avg_pool", x, geometry, count_padding);
  Tensor y(x.context(), spec.y(), x.format(), x.dtype());
  x.backend().avg_pool(spec, y.view(), x.view());
  return record("avg_pool", y, {x}, [=](Tensor& dy, Grads& g) {
    g.accumulate(0, [&](View dx, Write w) { dy.backend().avg_pool_grad(spec, dx, w, dy.view()); });
  });
}

Tensor adaptive_avg_pool(const Tensor& x, std::int64_t out_h, std::int64_t out_w) {
  Tensor y(x.context(), {x.shape().n, x.shape().c, out_h, out_w}, kNhwc, x.dtype());
  x.backend().adaptive_avg_pool(y.view(), x.view());
  return record("adaptive_avg_pool", y, {x}, [](Tensor& dy, Grads& g) {
    g.accumulate(0, [&](View dx, Write w) { dy.backend().adaptive_avg_pool_grad(dx, w, dy.view()); });
  });
}

Tensor to_nhwc(const Tensor& x) {
  if (x.format() == kNhwc && x.view().is_dense()) return x;
  Tensor y(x.context(), x.shape(), kNhwc, x.dtype());
  x.backend().copy(y.view(), Write::overwrite, x.view());
  ++x.context().reorders;
  return record("to_nhwc", y, {x}, [](Tensor& dy, Grads& g) {
    g.accumulate(0, [&](View dx, Write w) { dy.backend().copy(dx, w, dy.view()); });
  });
}

}  // namespace graft
