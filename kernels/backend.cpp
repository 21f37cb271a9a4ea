// Calls that join others, for devices that have nothing better.
#include "kernels/backend.h"

namespace graft {

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

}  // namespace graft
