#include "optim/optimizer.h"

#include <cmath>
#include <map>

namespace graft {
namespace {

std::int64_t row_size(const Parameter& p) {
  const bool is_weight = p.role == Role::conv_weight || p.role == Role::linear_weight;
  return is_weight ? p.shape.size() / p.shape.n : 1;
}

}  // namespace

OptimizerKind parse_optimizer(std::string_view name) {
  if (name == "sgd") return OptimizerKind::sgd;
  if (name == "adam") return OptimizerKind::adam;
  if (name == "adamw") return OptimizerKind::adamw;
  throw UsageError("optimizer: '" + std::string(name) + "' is unknown; choose sgd, adam or adamw");
}

Optimizer::Optimizer(ParameterSet& parameters, const OptimizerSpec& spec)
    : parameters_(parameters), spec_(spec), groups_(parameters.parameters().size()) {
  prepare();
}

void Optimizer::prepare() {
  Context& context = parameters_.context();
  const std::int64_t size = parameters_.trainable_size();
  const Tensor old1 = moment1_, old2 = moment2_;
  moment1_ = size > 0 ? zeros(context, {1, size, 1, 1}) : Tensor{};
  moment2_ = size > 0 && moment_count() == 2 ? zeros(context, {1, size, 1, 1}) : Tensor{};
  std::size_t i = 0;
  for (const Parameter& p : parameters_.parameters()) {
    Group& group = groups_[i++];
    if (p.is_trainable && group.offset >= 0) {
      const auto keep = [&](const Tensor& to, const Tensor& from) {
        context.backend().copy(to.window(p.gradient_offset, p.shape).view(), Write::overwrite,
                               from.window(group.offset, p.shape).view());
      };
      keep(moment1_, old1);
      if (moment2_) keep(moment2_, old2);
    } else {
      group.steps = 0;
    }
    group.offset = p.is_trainable ? p.gradient_offset : -1;
  }
}

void Optimizer::reset() {
  for (const Tensor& moment : {moment1_, moment2_})
    if (moment) moment.backend().zero(moment.view().data, moment.shape().size() * size_of(moment.dtype()));
  for (Group& group : groups_) group.steps = 0;
}

void Optimizer::set_group(std::int64_t i, double lr_scale, double decay) {
  groups_[i].lr_scale = lr_scale;
  groups_[i].decay = decay;
}

void Optimizer::step(double lr) {
  // Parameters unfrozen later have taken fewer steps; Adam's bias correction is each parameter's own.
  std::map<std::int64_t, std::vector<UpdateSegment>> by_steps;
  std::size_t i = 0;
  for (const Parameter& p : parameters_.parameters()) {
    Group& group = groups_[i++];
    if (!p.is_trainable || !p.has_gradient()) continue;
    if (group.offset != p.gradient_offset)
      throw Error("optimizer: the set of trainable parameters changed at " + p.name + "; call prepare() first");
    by_steps[++group.steps].push_back({.value_offset = p.offset,
                                       .state_offset = p.gradient_offset,
                                       .size = p.shape.size(),
                                       .lr_scale = group.lr_scale,
                                       .decay = group.decay,
                                       .row_size = row_size(p),
                                       .row_mask = p.row_mask.empty() ? nullptr : p.row_mask.data()});
  }
  for (const auto& [steps, segments] : by_steps) update(lr, steps, segments);
  parameters_.values_changed();
}

void Optimizer::update(double lr, std::int64_t steps, std::span<const UpdateSegment> segments) {
  Backend& device = parameters_.context().backend();
  const UpdateArena arena{.values = parameters_.values().view(),
                          .gradients = parameters_.gradients().view(),
                          .moment1 = moment1_.view(),
                          .moment2 = moment2_ ? moment2_.view() : View{},
                          .segments = segments};
  if (spec_.kind == OptimizerKind::sgd) {
    device.update(arena, SgdStep{.lr = lr, .momentum = spec_.momentum, .nesterov = spec_.nesterov});
    return;
  }
  device.update(arena, AdamStep{.lr = lr,
                                .beta1 = spec_.beta1,
                                .beta2 = spec_.beta2,
                                .epsilon = spec_.epsilon,
                                .correction1 = 1 - std::pow(spec_.beta1, double(steps)),
                                .correction2 = 1 - std::pow(spec_.beta2, double(steps)),
                                .decoupled = spec_.kind == OptimizerKind::adamw});
}

Tensor Optimizer::moment(int which, std::int64_t i) const {
  const Parameter& p = parameters_.parameters()[i];
  const Tensor& moments = which == 1 ? moment1_ : moment2_;
  if (groups_[i].offset < 0 || !moments)
    throw Error("optimizer: " + p.name + " is frozen or has no moment " + std::to_string(which));
  return moments.window(groups_[i].offset, p.shape);
}

}  // namespace graft
