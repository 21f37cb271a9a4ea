#include "tensor/ops.h"

namespace graft {
namespace {

ConvSpec make_spec(const Tensor& x, const Parameter& weight, const ConvGeometry& g) {
  if (x.shape().c != weight.shape.c)
    throw Error("conv2d: " + weight.name + " expects C=" + std::to_string(weight.shape.c) + ", got " +
                std::to_string(x.shape().c) + " (x is " + to_string(x.shape()) + "); check layer order");
  const ConvSpec spec{.x = x.shape(),
                      .k = weight.shape.n,
                      .r = weight.shape.h,
                      .s = weight.shape.w,
                      .stride_h = g.stride_h,
                      .stride_w = g.stride_w,
                      .pad_h = g.pad_h,
                      .pad_w = g.pad_w,
                      .dilation_h = g.dilation_h,
                      .dilation_w = g.dilation_w};
  if (spec.out_h() < 1 || spec.out_w() < 1)
    throw Error("conv2d: " + weight.name + " has nothing left of x " + to_string(x.shape()) + "; use larger images");
  return spec;
}

}  // namespace

Tensor conv2d(const Tensor& input, const Parameter& weight, const Parameter* bias, const ConvGeometry& geometry,
              Activation activation) {
  const ConvSpec spec = make_spec(input, weight, geometry);
  Backend& device = input.backend();
  const ConvFormats formats = device.conv_formats(spec);

  Tensor x = input;
  const bool reorders = x.format() != formats.x || !x.view().is_dense();
  if (reorders) {
    x = Tensor(input.context(), input.shape(), formats.x, input.dtype());
    device.copy(x.view(), Write::overwrite, input.view());
    ++input.context().reorders;
  }
  Tensor y(x.context(), spec.y(), formats.y, x.dtype());
  const bool has_relu = activation == Activation::relu;
  const bool is_adapted = weight.adapter.up != nullptr;
  const Tensor kernel = is_adapted ? low_rank_sum(weight) : weight.value;
  const bool trains = is_adapted ? kernel.needs_grad() : weight.is_trainable;
  const bool changes_soon = trains && x.context().is_recording();
  const Tensor stored = is_adapted ? converted(kernel, x.dtype()) : Tensor{};
  const auto weight_view = [=, &weight] {
    return is_adapted ? WeightView{.value = stored.view()} : weight.weight_view(x.dtype(), changes_soon);
  };
  device.conv(spec, y.view(), x.view(), weight_view(), {bias ? bias->value.view() : View{}, has_relu});

  const Tensor saved_x = trains ? x : Tensor{};
  const Tensor saved_y = has_relu ? y : Tensor{};
  return record("conv2d", y, {input, kernel, bias ? bias->value : Tensor{}}, [=, &device](Tensor& dy, Grads& g) {
    if (has_relu) device.map(ReluGrad{}, dy.view(), Write::overwrite, {dy.view(), saved_y.view()});
    g.accumulate(1, [&](View dw, Write w) { device.conv_weight_grad(spec, dw, w, dy.view(), saved_x.view()); });
    g.accumulate(2, [&](View db, Write w) { device.channel_sum(db, w, dy.view()); });
    Destination dx = g.destination(0);
    if (!dx) return;
    const WeightView weights = weight_view();
    if (!reorders) return device.conv_data_grad(spec, dx.view(), dx.write, dy.view(), weights);
    Tensor dense(dy.context(), spec.x, formats.x, dy.dtype());
    device.conv_data_grad(spec, dense.view(), Write::overwrite, dy.view(), weights);
    device.copy(dx.view(), dx.write, dense.view());
  });
}

}  // namespace graft
