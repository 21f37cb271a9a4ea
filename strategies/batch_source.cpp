#include "strategies/batch_source.h"

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

bool ImageBatches::next(DeviceBatch& batch) {
  if (!loader_.next(host_)) return false;
  batch.x = images_to_device(context_, host_.pixels, {host_.n(), 3, host_.height, host_.width}, batch.x);
  batch.part = 0;
  batch.labels = host_.labels;
  batch.samples = host_.indices;
  return true;
}

}  // namespace graft
