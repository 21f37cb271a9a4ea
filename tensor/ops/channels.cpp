// DenseNet's feature buffer: one allocation per block; layers append their channels and read growing prefixes.
#include "tensor/ops.h"

namespace graft {

Tensor channel_buffer(Context& context, const Shape& shape, Format format, DType type) {
  Tensor buffer(context, shape, format, type);
  buffer.set_variable(std::make_shared<Variable>(
      Variable{.shape = shape, .format = format, .dtype = type, .needs_grad = false, .grad = {}}));
  return buffer;
}

Tensor append(const Tensor& buffer, std::int64_t begin, const Tensor& x) {
  Tensor slice = buffer.channels(begin, begin + x.shape().c);
  if (slice.shape() != x.shape())
    throw Error("append: x " + to_string(x.shape()) + " does not fit the buffer " + to_string(buffer.shape()));
  x.backend().copy(slice.view(), Write::overwrite, x.view());
  return record("append", slice, {x}, [](Tensor& dy, Grads& g) {
    g.accumulate(0, [&](View dx, Write w) { dy.backend().copy(dx, w, dy.view()); });
  });
}

}  // namespace graft
