#include "strategies/batches/batch_source.h"

#include <algorithm>

namespace graft {

Tensor place_for(Context& context, const Shape& shape, const Tensor& x) {
  const bool fits = x && x.shape() == shape && x.dtype() == context.activation_type() && x.format() == kNhwc;
  return fits ? x : Tensor(context, shape, kNhwc, context.activation_type());
}

Tensor images_to_device(Context& context, std::span<const float> pixels, const Shape& shape, const Tensor& x) {
  const Tensor place = place_for(context, shape, x);
  const bool converts = place.dtype() != DType::f32;
  const Tensor floats = converts ? Tensor(context, shape, kNhwc, DType::f32) : place;
  context.backend().copy_in(floats.view().data, pixels.data(), shape.size() * size_of(DType::f32));
  if (converts) context.backend().copy(place.view(), Write::overwrite, floats.view());
  return place;
}

std::int64_t rows_beside(const Backend& device, std::int64_t n, std::int64_t others) {
  return device.device().kind == DeviceKind::cuda ? std::max(n, others) : n;
}

Tensor filled_up(const Tensor& x, std::int64_t rows) {
  if (x.shape().n >= rows) return x;
  Shape shape = x.shape();
  shape.n = rows;
  const Tensor all(x.context(), shape, kNhwc, x.dtype());
  const std::int64_t begin = x.shape().size();
  const Tensor rest = all.window(begin, {shape.size() - begin, 1, 1, 1});
  x.backend().copy(all.window(0, x.shape()).view(), Write::overwrite, x.view());
  x.backend().zero(rest.view().data, rest.shape().size() * size_of(rest.dtype()));
  return all;
}

bool ImageBatches::next(DeviceBatch& batch) {
  if (!loader_.next(host_)) return false;
  batch.x = images_to_device(context_, host_.pixels, {host_.n(), 3, host_.height, host_.width}, batch.x);
  batch.part = 0;
  batch.labels = host_.labels;
  batch.samples = host_.indices;
  return true;
}

}  // namespace graft
