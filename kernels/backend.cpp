// Calls that join others, for devices that have nothing better.
#include "kernels/backend.h"

#include "kernels/scratch.h"

namespace graft {
namespace {

/// One image of a dense batch.
template <class V>
V image(V batch, std::int64_t n) {
  batch.shape.n = 1;
  const std::int64_t bytes = batch.shape.size() * size_of(batch.dtype);
  batch.data =
      static_cast<std::conditional_t<std::is_same_v<V, View>, std::byte, const std::byte>*>(batch.data) + n * bytes;
  return batch;
}

}  // namespace

void Backend::index_select(View y, ConstView x, ConstView index) {
  std::vector<std::int32_t> from(static_cast<std::size_t>(index.shape.size()));
  copy_out(from.data(), index.data, std::int64_t(from.size() * sizeof(std::int32_t)));
  for (std::int64_t n = 0; n < y.shape.n; ++n)
    copy(image(y, n), Write::overwrite, image(x, from[static_cast<std::size_t>(n)]));
}

void Backend::relu_grad_and_sum(View g, View db, Write write, ConstView dy, ConstView y) {
  map(ReluGrad{}, g, Write::overwrite, {dy, y});
  channel_sum(db, write, g);
}

void Backend::batch_statistics_and_running(View stats, View running, double momentum, ConstView x) {
  batch_statistics(stats, x);
  update_running(running, stats, momentum, x.shape.n * x.shape.pixels());
}

void Backend::normalize_parameter_grads(View sums, const NormalizeParameterGrads& to, ConstView dy, ConstView y,
                                        ConstView x, const NormalizeArgs& args) {
  normalize_grad_sums(sums, dy, y, x, args);
  if (to.dgamma.data) copy(to.dgamma, to.gamma_write, row(sums, 1));
  if (to.dbeta.data) copy(to.dbeta, to.beta_write, row(sums, 0));
  for (int i = 0; to.weighted.data && i < 2; ++i)
    map(Multiply{}, row(to.weighted, i), to.weighted_write, {args.gamma, row(ConstView(sums), i)});
}

void Backend::norm_conv(const ConvSpec& spec, View y, const NormConvEpilogue& epilogue, ConstView x,
                        const NormalizeArgs& args, WeightView w) {
  const ScratchView between(*this, x.dtype, spec.x, x.format);
  normalize(between, x, args, {});
  conv(spec, y, between, w, {.bias = epilogue.bias, .relu = epilogue.relu});
  if (epilogue.stats.data && epilogue.running.data)
    batch_statistics_and_running(epilogue.stats, epilogue.running, epilogue.momentum, y);
  else if (epilogue.stats.data)
    batch_statistics(epilogue.stats, y);
}

void Backend::norm_conv_weight_grad(const ConvSpec& spec, View dw, Write write, ConstView dy, ConstView x,
                                    const NormalizeArgs& args) {
  const ScratchView between(*this, x.dtype, spec.x, x.format);
  normalize(between, x, args, {});
  conv_weight_grad(spec, dw, write, dy, between);
}

void Backend::norm_conv_data_grad(const ConvSpec& spec, View dx, Write write, View sums,
                                  const NormalizeParameterGrads& to, ConstView dy, ConstView x,
                                  const NormalizeArgs& args, WeightView w) {
  const ScratchView between(*this, x.dtype, spec.x, x.format), gradient(*this, x.dtype, spec.x, x.format);
  normalize(between, x, args, {});
  conv_data_grad(spec, gradient, Write::overwrite, dy, w);
  normalize_parameter_grads(sums, to, gradient, between, x, args);
  if (dx.data) normalize_grad(dx, write, {}, Write::overwrite, gradient, between, x, args, {});
}

}  // namespace graft
