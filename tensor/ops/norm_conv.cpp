// A norm with its ReLU and the pointwise convolution behind it as one operation, for devices that have it. It equals
// `normalize` and then `conv2d`, but keeps nothing of what lies between: backward makes that again from x.
#include "tensor/ops/norm_args.h"

namespace graft {
namespace {

ConvSpec spec_of(const Tensor& x, const Parameter& weight) {
  return {.x = x.shape(), .k = weight.shape.n, .r = weight.shape.h, .s = weight.shape.w};
}

ConvNormArgs conv_norm_args(const NormConvArgs& a) {
  return {.weight = a.weight, .bias = nullptr, .geometry = {}, .norm = a.next};
}

/// Batch statistics, or running ones, of all channels: not both at once.
bool is_plain(const Tensor& x, const BatchNormArgs& a) {
  return a.activation == Activation::relu && (a.running.batch_share >= 1 || !uses_batch_statistics(x, a));
}

Tensor statistics_of(const Tensor& x, const Tensor& batch_stats, const BatchNormArgs& a) {
  return uses_batch_statistics(x, a) ? batch_stats : a.running.value;
}

}  // namespace

bool can_fuse_norm_conv(const Tensor& x, const Tensor& batch_stats, const NormConvArgs& a) {
  const ConvSpec spec = spec_of(x, a.weight);
  if (x.format() != kNhwc || x.shape().c != a.weight.shape.c || x.shape().c != a.norm.running.channels) return false;
  if (a.weight.shape.n != a.next.running.channels) return false;
  if (!spec.is_pointwise() || a.weight.adapter.up || !is_plain(x, a.norm) || !is_plain(x, a.next)) return false;
  const Tensor stats = statistics_of(x, batch_stats, a.norm);
  const NormConvUse use = can_fold_norm(x.context(), conv_norm_args(a)) ? NormConvUse::prediction
                          : will_record({&x, &a.norm.gamma.value, &a.norm.beta.value, &batch_stats, &a.weight.value})
                              ? NormConvUse::training
                              : NormConvUse::forward;
  return x.backend().fuses_norm_conv(spec, x.view(), device_args(a.norm, stats), a.weight.weight_view(x.dtype()), use);
}

NormConvResult fused_norm_conv(const Tensor& x, const Tensor& batch_stats, const NormConvArgs& a, FoldedNorm& kept) {
  check_norm(x, a.norm);
  Context& context = x.context();
  Backend& device = context.backend();
  const ConvSpec spec = spec_of(x, a.weight);
  const bool batch = uses_batch_statistics(x, a.norm);
  const Tensor stats = statistics_of(x, batch_stats, a.norm);
  if (batch) move_running(x, batch_stats, a.norm);
  const NormalizeArgs norm = device_args(a.norm, stats);
  const Tensor y(context, spec.y(), kNhwc, x.dtype());

  if (can_fold_norm(context, conv_norm_args(a))) {
    fold_norm(context, conv_norm_args(a), kept);
    device.norm_conv(spec, y.view(), {.bias = kept.shift.view(), .relu = true}, x.view(), norm,
                     {kept.weight.view(), kept.version, &kept.packed});
    return {.y = record("norm_conv", y, {}, {}), .stats = {}, .is_next = true};
  }
  kept = {};  // training needs the memory

  check_norm(y, a.next);
  const bool measures = uses_batch_statistics(y, a.next), moves = measures && moves_running(y, a.next);
  const Tensor y_stats = measures ? empty(context, {2, y.shape().c, 1, 1}) : Tensor{};
  const bool trains = a.weight.is_trainable, changes_soon = trains && context.is_recording();
  const auto weight_view = [changes_soon, type = x.dtype(), &weight = a.weight] {
    return weight.weight_view(type, changes_soon);
  };
  device.norm_conv(spec, y.view(),
                   {.stats = measures ? y_stats.view() : View{},
                    .running = moves ? a.next.running.value.view() : View{},
                    .momentum = a.next.momentum},
                   x.view(), norm, weight_view());
  if (moves) ++a.next.running.version;

  const Tensor statistics_input = batch ? batch_stats : Tensor{};
  const auto backward = [=, &device](Tensor& dy, Grads& g) {
    g.accumulate(4, [&](View dw, Write w) { device.norm_conv_weight_grad(spec, dw, w, dy.view(), x.view(), norm); });
    if (!g.needs(0) && !g.needs(1) && !g.needs(2) && !g.needs(3)) return;
    const Tensor sums = empty(x.context(), stats.shape());
    const Destination dgamma = g.destination(1), dbeta = g.destination(2), weighted = g.destination(3);
    const Destination dx = g.destination(0);
    device.norm_conv_data_grad(spec, dx.view(), dx.write, sums.view(),
                               {.dgamma = dgamma.view(),
                                .gamma_write = dgamma.write,
                                .dbeta = dbeta.view(),
                                .beta_write = dbeta.write,
                                .weighted = weighted.view(),
                                .weighted_write = weighted.write},
                               dy.view(), x.view(), norm, weight_view());
  };
  const Tensor recorded =
      record("norm_conv", y, {x, a.norm.gamma.value, a.norm.beta.value, statistics_input, a.weight.value}, backward);
  return {.y = recorded, .stats = y_stats};
}

}  // namespace graft
