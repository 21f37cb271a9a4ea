#include "tensor/ops/norm_args.h"
#include "tensor/saved.h"

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

/// x as the device wants it: itself, or a dense copy in that format.
Tensor reordered(const Tensor& x, Format format) {
  if (x.format() == format && x.view().is_dense()) return x;
  Tensor copy(x.context(), x.shape(), format, x.dtype());
  x.backend().copy(copy.view(), Write::overwrite, x.view());
  ++x.context().reorders;
  return copy;
}

}  // namespace

Tensor conv2d(const Tensor& input, const Parameter& weight, const Parameter* bias, const ConvGeometry& geometry,
              Activation activation) {
  const ConvSpec spec = make_spec(input, weight, geometry);
  Backend& device = input.backend();
  const ConvFormats formats = device.conv_formats(spec);

  const bool reorders = input.format() != formats.x || !input.view().is_dense();
  const Tensor x = reordered(input, formats.x);
  Tensor y(x.context(), spec.y(), formats.y, x.dtype());
  const bool has_relu = activation == Activation::relu;
  const bool is_adapted = weight.adapter.up != nullptr;
  const Tensor kernel = is_adapted ? low_rank_sum(weight) : weight.value;
  const bool trains = is_adapted ? kernel.needs_grad() : weight.is_trainable;
  const bool changes_soon = trains && x.context().is_recording();
  const DType type = x.dtype();
  const Tensor stored = is_adapted ? converted(kernel, type) : Tensor{};
  const auto weight_view = [=, &weight] {  // kept for backward: it must not hold x
    return is_adapted ? WeightView{.value = stored.view()} : weight.weight_view(type, changes_soon);
  };
  device.conv(spec, y.view(), x.view(), weight_view(), {bias ? bias->value.view() : View{}, has_relu});

  const Saved saved_x = trains ? Saved(x) : Saved{};
  const Tensor saved_y = has_relu ? y : Tensor{};
  return record("conv2d", y, {input, kernel, bias ? bias->value : Tensor{}}, [=, &device](Tensor& dy, Grads& g) {
    const Destination db = g.destination(2);
    if (has_relu && db)
      device.relu_grad_and_sum(dy.view(), db.view(), db.write, dy.view(), saved_y.view());
    else if (has_relu)
      device.map(ReluGrad{}, dy.view(), Write::overwrite, {dy.view(), saved_y.view()});
    else if (db)
      device.channel_sum(db.view(), db.write, dy.view());
    g.accumulate(1, [&](View dw, Write w) { device.conv_weight_grad(spec, dw, w, dy.view(), saved_x.get().view()); });
    Destination dx = g.destination(0);
    if (!dx) return;
    const WeightView weights = weight_view();
    if (!reorders) return device.conv_data_grad(spec, dx.view(), dx.write, dy.view(), weights);
    Tensor dense(dy.context(), spec.x, formats.x, dy.dtype());
    device.conv_data_grad(spec, dense.view(), Write::overwrite, dy.view(), weights);
    device.copy(dx.view(), dx.write, dense.view());
  });
}

bool can_fold_norm(Context& context, const ConvNormArgs& a) {
  const bool has_fixed_statistics = !context.is_training() || !a.norm.running.use_batch_statistics;
  return context.folds_norms() && !context.is_recording() && has_fixed_statistics && !a.weight.adapter.up &&
         context.backend().folds_norms();
}

void fold_norm(Context& context, const ConvNormArgs& a, FoldedNorm& kept) {
  const std::array<std::uint64_t, 5> versions = {a.weight.version, a.bias ? a.bias->version : 0, a.norm.gamma.version,
                                                 a.norm.beta.version, a.norm.running.version};
  if (kept.weight && kept.versions == versions) return;
  Backend& device = context.backend();
  if (!kept.weight) {
    kept.weight = Tensor(context, a.weight.shape, kNhwc, device.activation_type());
    kept.shift = empty(context, {1, a.weight.shape.n, 1, 1});
  }
  device.fold_normalize(kept.weight.view(), kept.shift.view(), a.weight.value.view(),
                        a.bias ? a.bias->value.view() : View{},
                        {.stats = a.norm.running.value.view(),
                         .gamma = a.norm.gamma.value.view(),
                         .beta = a.norm.beta.value.view(),
                         .epsilon = a.norm.epsilon});
  kept.versions = versions;
  ++kept.version;
}

Tensor conv2d_folded_norm(const Tensor& input, const ConvNormArgs& args, FoldedNorm& kept, const Tensor& residual) {
  const ConvSpec spec = make_spec(input, args.weight, args.geometry);
  if (args.weight.shape.n != args.norm.running.channels)
    throw Error("conv2d: " + args.weight.name + " gives " + std::to_string(args.weight.shape.n) + " channels, " +
                args.norm.running.name + " expects " + std::to_string(args.norm.running.channels) +
                "; check layer order");
  if (residual && residual.shape() != spec.y())
    throw Error("conv2d: a residual " + to_string(residual.shape()) + " cannot be added to " + to_string(spec.y()) +
                " behind " + args.weight.name);
  fold_norm(input.context(), args, kept);
  Backend& device = input.backend();
  const ConvFormats formats = device.conv_formats(spec);
  const Tensor x = reordered(input, formats.x);
  const Tensor added = residual ? reordered(residual, formats.y) : residual;
  Tensor y(x.context(), spec.y(), formats.y, x.dtype());
  device.conv(spec, y.view(), x.view(), {kept.weight.view(), kept.version, &kept.packed},
              {.bias = kept.shift.view(),
               .relu = args.norm.activation == Activation::relu,
               .residual = added ? added.view() : View{}});
  return record("conv2d_folded_norm", y, {}, {});
}

}  // namespace graft
