// Batch norm in two forms that share their device calls. `batch_norm` owns its statistics and differentiates through
// them in one closure. DenseNet's `normalize` treats the statistics as an input: since
//   dx = gamma*inv*(g - sum(g)/M - xhat*sum(g*xhat)/M)
// is linear in g, every consumer adds gamma*inv*g to dx and gamma*(sum g, sum g*xhat) to the statistics' gradient, and
// the statistics' own node applies the correction once, after all consumers.
// Stochastic normalisation (RunningStatistics::batch_share below 1) mixes the two kinds of statistics by channel; the
// batch's part of the gradient then belongs to the chosen channels alone.
#include <cassert>
#include <optional>

#include "tensor/ops/norm_args.h"
#include "tensor/saved.h"

namespace graft {
NormalizeArgs device_args(const BatchNormArgs& a, const Tensor& stats) {
  return {.stats = stats.view(),
          .gamma = a.gamma.value.view(),
          .beta = a.beta.value.view(),
          .epsilon = a.epsilon,
          .relu = a.activation == Activation::relu};
}

bool uses_batch_statistics(const Tensor& x, const BatchNormArgs& a) {
  return a.running.use_batch_statistics && x.context().is_training();
}

void check_norm(const Tensor& x, const BatchNormArgs& a) {
  if (x.shape().c != a.running.channels)
    throw Error("batch_norm: " + a.running.name + " expects C=" + std::to_string(a.running.channels) + ", got x " +
                to_string(x.shape()) + "; check layer order");
  if (uses_batch_statistics(x, a) && x.shape().size() == x.shape().c)
    throw Error("batch_norm: " + a.running.name +
                " has one value per channel, which has no variance; use a larger batch or image, or fixed statistics");
}

bool moves_running(const Tensor& x, const BatchNormArgs& a) {
  return a.running.update_running && x.context().is_training();
}

void move_running(const Tensor& x, const Tensor& stats, const BatchNormArgs& a) {
  if (!moves_running(x, a)) return;
  x.backend().update_running(a.running.value.view(), stats.view(), a.momentum, x.shape().n * x.shape().pixels());
  ++a.running.version;
}

namespace {

/// The batch's statistics [2,C], towards which the running ones move if they are to.
Tensor measured(const Tensor& x, const BatchNormArgs& a) {
  Tensor stats = empty(x.context(), {2, x.shape().c, 1, 1});
  if (!moves_running(x, a)) {
    x.backend().batch_statistics(stats.view(), x.view());
    return stats;
  }
  x.backend().batch_statistics_and_running(stats.view(), a.running.value.view(), a.momentum, x.view());
  ++a.running.version;
  return stats;
}

/// Room for the bits that tell backward where the ReLU let y pass; empty where there is no ReLU, nothing will be
/// recorded, or the device keeps no masks: then backward needs y itself.
Tensor relu_mask_of(const Tensor& y, const BatchNormArgs& a, bool is_recorded) {
  if (a.activation != Activation::relu || !is_recorded || !y.backend().has_relu_masks()) return {};
  return Tensor(y.context(), relu_mask_shape(y.shape()), kNhwc, DType::u8);
}

NormalizeArgs with_mask(NormalizeArgs norm, const Tensor& mask) {
  if (mask) norm.relu_mask = mask.view();
  return norm;
}

/// Whose channels use the batch's statistics, where not all of them do.
using Choice = std::optional<ChannelChoice>;

Choice choose_channels(Context& context, const RunningStatistics& running) {
  if (running.batch_share >= 1) return {};
  return ChannelChoice{.p = running.batch_share,
                       .seed = context.seed(),
                       .call = context.next_random_call(),
                       .channels = running.channels};
}

/// The batch's statistics in the chosen channels, the running ones, copied, in the others.
Tensor mixed(const Tensor& batch_stats, const RunningStatistics& running, const Choice& choice) {
  if (!choice) return batch_stats;
  Tensor stats = empty(batch_stats.context(), batch_stats.shape());
  stats.backend().map(SelectChannels{*choice}, stats.view(), Write::overwrite,
                      {batch_stats.view(), running.value.view()});
  return stats;
}

/// Sums [2,C] without those of channels that used running statistics.
Tensor of_batch_channels(const Tensor& sums, const Choice& choice) {
  if (!choice) return sums;
  Tensor masked = empty_like(sums);
  sums.backend().map(MaskChannels{*choice}, masked.view(), Write::overwrite, {sums.view()});
  return masked;
}

struct Normalized {
  Tensor x, stats;
  NormalizeArgs norm;  // points into stats
  Tensor mask;         // to be written; empty: none
  Tensor residual;
  bool is_recorded = false;  // backward will need x
};

/// norm(x) [+ residual], then perhaps ReLU. Backward needs x in any case, so that it can make this again. With a
/// residual it would need that too, which is the block's input and the end of a chain of them: that is kept.
Tensor normalized(const Normalized& n) {
  const auto make = [x = n.x, stats = n.stats](const NormalizeArgs& norm, const Tensor& added) {
    Tensor y = empty_like(x);
    x.backend().normalize(y.view(), x.view(), norm, added ? added.view() : View{});
    return y;
  };
  Tensor y = make(with_mask(n.norm, n.mask), n.residual);
  if (n.is_recorded && !n.residual && n.x.context().recomputes_norms())
    y.set_recipe(std::make_shared<Recipe>([make, norm = n.norm] { return make(norm, {}); }));
  return y;
}

struct GradientSums {
  ConstView dy, y;
  const Tensor &x, &stats;
  const NormalizeArgs& norm;  // points into stats
  bool batch = false;         // the statistics are the batch's: dx needs the sums too
  Destination weighted;       // of DenseNet's statistics
};

/// The sums [2,C] of normalize_grad_sums, if anybody needs them; gamma (input 1) and beta (input 2) take theirs.
Tensor gradient_sums(Grads& g, const GradientSums& of) {
  Tensor sums = empty(of.x.context(), of.stats.shape());
  if (!of.batch && !g.needs(1) && !g.needs(2)) return sums;
  const Destination dgamma = g.destination(1), dbeta = g.destination(2);
  of.x.backend().normalize_parameter_grads(sums.view(),
                                           {.dgamma = dgamma.view(),
                                            .gamma_write = dgamma.write,
                                            .dbeta = dbeta.view(),
                                            .beta_write = dbeta.write,
                                            .weighted = of.weighted.view(),
                                            .weighted_write = of.weighted.write},
                                           of.dy, of.y, of.x.view(), of.norm);
  return sums;
}

}  // namespace

Tensor batch_norm(const Tensor& x, const BatchNormArgs& args, const Tensor& residual, const Tensor& taken) {
  check_norm(x, args);
  const bool batch = uses_batch_statistics(x, args);
  const Choice choice = batch ? choose_channels(x.context(), args.running) : Choice{};
  Tensor stats = args.running.value;
  if (batch) {
    assert(!taken || !choice);
    const Tensor batch_stats = taken ? taken : choice ? empty(x.context(), {2, x.shape().c, 1, 1}) : measured(x, args);
    stats = batch_stats;
    if (choice) {  // mixed with the running ones before they move
      x.backend().batch_statistics(batch_stats.view(), x.view());
      stats = mixed(batch_stats, args.running, choice);
      move_running(x, batch_stats, args);
    }
  }
  const NormalizeArgs unmasked = device_args(args, stats);
  const Tensor mask = relu_mask_of(x, args, will_record({&x, &args.gamma.value, &args.beta.value, &residual}));
  const Tensor y = normalized({.x = x,
                               .stats = stats,
                               .norm = unmasked,
                               .mask = mask,
                               .residual = residual,
                               .is_recorded = will_record({&x, &args.gamma.value, &args.beta.value})});

  const Saved saved_y = unmasked.relu && !mask ? Saved(y) : Saved{};
  return record("batch_norm", y, {x, args.gamma.value, args.beta.value, residual}, [=](Tensor& dy, Grads& g) {
    Backend& device = dy.backend();
    const NormalizeArgs norm = with_mask(unmasked, mask);
    const Tensor y_again = saved_y.get();
    const ConstView y_view = y_again ? y_again.view() : View{};
    const Tensor sums = gradient_sums(
        g, {.dy = dy.view(), .y = y_view, .x = x, .stats = stats, .norm = norm, .batch = batch, .weighted = {}});
    // Every element of dy is read before it is written, so the first taker may have its memory.
    Destination dresidual = g.destination(3, &dy);
    Destination dx = dresidual ? g.destination(0) : g.destination(0, &dy);
    if (!dx && !dresidual) return;
    const Tensor batch_sums = batch && dx ? of_batch_channels(sums, choice) : Tensor{};
    device.normalize_grad(dx.view(), dx.write, dresidual.view(), dresidual.write, dy.view(), y_view, x.view(), norm,
                          batch_sums ? batch_sums.view() : View{});
  });
}

Tensor batch_statistics(const Tensor& x, Tensor stats, double epsilon) {
  x.backend().batch_statistics(stats.view(), x.view());
  return record("batch_statistics", stats, {x}, [=, saved = stats](Tensor& weighted, Grads& g) {
    g.accumulate(0, [&](View dx, Write) {  // the consumers' direct parts are there already
      weighted.backend().normalize_grad_correction(dx, x.view(), saved.view(), epsilon, weighted.view());
    });
  });
}

Tensor normalize(const Tensor& x, const Tensor& batch_stats, const BatchNormArgs& args) {
  check_norm(x, args);
  const bool batch = uses_batch_statistics(x, args);
  const Choice choice = batch ? choose_channels(x.context(), args.running) : Choice{};
  const Tensor stats = batch ? mixed(batch_stats, args.running, choice) : args.running.value;
  if (batch) move_running(x, batch_stats, args);
  const NormalizeArgs unmasked = device_args(args, stats);
  const Tensor statistics_input = batch ? batch_stats : Tensor{};
  const Tensor mask = relu_mask_of(x, args, will_record({&x, &args.gamma.value, &args.beta.value, &statistics_input}));
  const Tensor y = normalized({.x = x,
                               .stats = stats,
                               .norm = unmasked,
                               .mask = mask,
                               .residual = {},
                               .is_recorded = will_record({&x, &args.gamma.value, &args.beta.value})});

  const Saved saved_y = unmasked.relu && !mask ? Saved(y) : Saved{};
  return record("normalize", y, {x, args.gamma.value, args.beta.value, statistics_input}, [=](Tensor& dy, Grads& g) {
    Backend& device = dy.backend();
    const NormalizeArgs norm = with_mask(unmasked, mask);
    const Tensor y_again = saved_y.get();
    const ConstView y_view = y_again ? y_again.view() : View{};
    const Destination weighted = g.destination(3);
    const Tensor sums = gradient_sums(g, {.dy = dy.view(),
                                          .y = y_view,
                                          .x = x,
                                          .stats = stats,
                                          .norm = norm,
                                          .batch = batch,
                                          .weighted = choice ? Destination{} : weighted});
    if (choice && weighted) {
      const Tensor batch_sums = of_batch_channels(sums, choice);
      for (int i : {0, 1})
        device.map(Multiply{}, row(weighted.view(), i), weighted.write,
                   {norm.gamma, row(ConstView(batch_sums.view()), i)});
    }
    g.accumulate(0, [&](View dx, Write w) {
      device.normalize_grad(dx, w, {}, Write::overwrite, dy.view(), y_view, x.view(), norm, {});
    });
  });
}

}  // namespace graft
