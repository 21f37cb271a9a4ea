#include "strategies/batch_source.h"

namespace graft {

Tensor images_to_device(Context& context, std::span<const float> pixels, const Shape& shape) {
  Tensor x(context, shape, kNhwc, DType::f32);
  context.backend().copy_in(x.view().data, pixels.data(), shape.size() * 4);
  return converted(x, context.activation_type());
}

bool ImageBatches::next(DeviceBatch& batch) {
  if (!loader_.next(host_)) return false;
  batch.x = images_to_device(context_, host_.pixels, {host_.n(), 3, host_.height, host_.width});
  batch.part = 0;
  batch.labels = host_.labels;
  batch.samples = host_.indices;
  return true;
}

}  // namespace graft
