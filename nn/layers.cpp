#include "nn/layers.h"

namespace graft {

Conv2d::Conv2d(const LayerPlace& place, const Conv2dSpec& spec)
    : name_(place.name),
      geometry_{.stride_h = spec.stride, .stride_w = spec.stride, .pad_h = spec.padding, .pad_w = spec.padding} {
  weight_ = &place.parameters.add(name_ + ".weight", {spec.out, spec.in, spec.window, spec.window}, Role::conv_weight,
                                  place.block);
  if (spec.has_bias) bias_ = &place.parameters.add(name_ + ".bias", {1, spec.out, 1, 1}, Role::bias, place.block);
}

Tensor Conv2d::operator()(const Tensor& x, Activation activation) const {
  const Scope scope(x.context(), name_);
  return conv2d(x, *weight_, bias_, geometry_, activation);
}

ConvFormats Conv2d::formats(Backend& backend, const Shape& x) const {
  return backend.conv_formats({.x = x,
                               .k = weight_->shape.n,
                               .r = weight_->shape.h,
                               .s = weight_->shape.w,
                               .stride_h = geometry_.stride_h,
                               .stride_w = geometry_.stride_w,
                               .pad_h = geometry_.pad_h,
                               .pad_w = geometry_.pad_w});
}

BatchNorm2d::BatchNorm2d(const LayerPlace& place, const BatchNorm2dSpec& spec) : spec_(spec) {
  const Shape shape{1, spec.channels, 1, 1};
  gamma_ = &place.parameters.add(place.name + ".weight", shape, Role::norm_scale, place.block);
  beta_ = &place.parameters.add(place.name + ".bias", shape, Role::norm_shift, place.block);
  running_ = &place.parameters.add_statistics(place.name, spec.channels, place.block, spec.momentum);
}

BatchNormArgs BatchNorm2d::args(Activation activation) const {
  return {.gamma = *gamma_,
          .beta = *beta_,
          .running = *running_,
          .epsilon = spec_.epsilon,
          .momentum = spec_.momentum,
          .activation = activation};
}

Tensor BatchNorm2d::operator()(const Tensor& x, Activation activation, const Tensor& residual) const {
  const Scope scope(x.context(), running_->name);
  return batch_norm(x, args(activation), residual);
}

Tensor BatchNorm2d::with_statistics(const Tensor& x, const Tensor& stats, Activation activation) const {
  const Scope scope(x.context(), running_->name);
  return normalize(x, stats, args(activation));
}

bool BatchNorm2d::uses_batch_statistics(const Context& context) const {
  return context.is_training() && running_->use_batch_statistics;
}

Tensor conv_norm(const ConvNorm& layers, const Tensor& x, Activation activation, const Tensor& residual) {
  const Conv2d& convolution = layers.convolution;
  const ConvNormArgs args{.weight = *convolution.weight_,
                          .bias = convolution.bias_,
                          .geometry = convolution.geometry_,
                          .norm = layers.norm.args(activation)};
  if (can_fold_norm(x.context(), args)) {
    const Scope scope(x.context(), convolution.name_);
    return conv2d_folded_norm(x, args, convolution.folded_, residual);
  }
  convolution.folded_ = {};  // training needs the memory
  return layers.norm(convolution(x), activation, residual);
}

Tensor norm_conv_norm(const BatchNorm2d& before, const ConvNorm& layers, const Tensor& x, const Tensor& stats) {
  const Conv2d& convolution = layers.convolution;
  const NormConvArgs args{.norm = before.args(Activation::relu),
                          .weight = *convolution.weight_,
                          .next = layers.norm.args(Activation::relu)};
  if (convolution.bias_ || !can_fuse_norm_conv(x, stats, args))
    return conv_norm(layers, before.with_statistics(x, stats, Activation::relu), Activation::relu);
  NormConvResult result;
  {
    const Scope scope(x.context(), convolution.name_);
    result = fused_norm_conv(x, stats, args, convolution.folded_);
  }
  if (result.is_next) return result.y;
  const Scope scope(x.context(), layers.norm.running_->name);
  return batch_norm(result.y, args.next, {}, result.stats);
}

Linear::Linear(const LayerPlace& place, std::int64_t out, const Shape& in) : name_(place.name) {
  weight_ = &place.parameters.add(name_ + ".weight", {out, in.c, in.h, in.w}, Role::linear_weight, place.block);
  bias_ = &place.parameters.add(name_ + ".bias", {1, out, 1, 1}, Role::bias, place.block);
}

Tensor Linear::operator()(const Tensor& x, Activation activation) const {
  const Scope scope(x.context(), name_);
  return linear(x, *weight_, bias_, activation);
}

}  // namespace graft
