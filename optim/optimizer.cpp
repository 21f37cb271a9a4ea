#include "optim/optimizer.h"

#include <algorithm>
#include <cmath>

namespace graft {
namespace {

std::int64_t row_size(const Parameter& p) {
  const bool is_vector = p.role == Role::bias || p.role == Role::norm_scale || p.role == Role::norm_shift;
  return is_vector ? 1 : p.shape.size() / p.shape.n;
}

bool is_penalty_strength(double x) { return x >= 0 && std::isfinite(x); }

/// Sets the elements of an f64 tensor in memory order.
void write(const Tensor& t, std::span<const double> values) {
  t.backend().copy_in(t.view().data, values.data(), t.shape().size() * size_of(DType::f64));
}

/// f64 on every device.
Tensor filled(Context& context, const Shape& shape, std::span<const double> values) {
  const Tensor t(context, shape, kNhwc, DType::f64);
  write(t, values);
  return t;
}

/// Elements of an f64 tensor in memory order. Waits for the device.
std::vector<double> read(const Tensor& t) {
  std::vector<double> values(static_cast<std::size_t>(t.shape().size()));
  t.backend().copy_out(values.data(), t.view().data, t.shape().size() * size_of(DType::f64));
  return values;
}

View view_or_null(const Tensor& t) { return t ? t.view() : View{}; }

}  // namespace

OptimizerKind parse_optimizer(std::string_view name) {
  if (name == "sgd") return OptimizerKind::sgd;
  if (name == "adam") return OptimizerKind::adam;
  if (name == "adamw") return OptimizerKind::adamw;
  throw UsageError("optimizer: '" + std::string(name) + "' is unknown; choose sgd, adam or adamw");
}

Optimizer::Optimizer(ParameterSet& parameters, const OptimizerSpec& spec)
    : parameters_(parameters), spec_(spec), states_(parameters.parameters().size()) {
  prepare();
  if (spec_.loss_scaling) prepare_control(0);
}

void Optimizer::prepare() {
  settle();
  Context& context = parameters_.context();
  const bool has_stepped = std::ranges::any_of(states_, [](const State& s) { return s.steps > 0; });
  Tensor old1, old2;  // before the first step they would be zeros
  if (has_stepped) old1 = moment1_, old2 = moment2_;
  moment1_ = moment2_ = {};
  if (has_stepped) make_moments();
  std::size_t i = 0;
  for (const Parameter& p : parameters_.parameters()) {
    State& state = states_[i++];
    if (p.is_trainable && state.offset >= 0) {
      const auto keep = [&](const Tensor& to, const Tensor& from) {
        context.backend().copy(to.window(p.gradient_offset, p.shape).view(), Write::overwrite,
                               from.window(state.offset, p.shape).view());
      };
      if (old1) keep(moment1_, old1);
      if (old2) keep(moment2_, old2);
    } else {
      state.steps = 0;
    }
    state.offset = p.is_trainable ? p.gradient_offset : -1;
  }
}

void Optimizer::make_moments() {
  const std::int64_t size = parameters_.trainable_size();
  if (moment1_ || size == 0) return;
  Context& context = parameters_.context();
  const NamedRange range(context.backend(), "moments");
  moment1_ = zeros(context, {1, size, 1, 1});
  if (moment_count() == 2) moment2_ = zeros(context, {1, size, 1, 1});
}

void Optimizer::reset() {
  settle();
  for (const Tensor& moment : {moment1_, moment2_})
    if (moment) moment.backend().zero(moment.view().data, moment.shape().size() * size_of(moment.dtype()));
  for (State& state : states_) state.steps = 0;
}

void Optimizer::set_group(std::size_t i, const ParameterGroup& group) {
  const std::string& name = parameters_.parameters().at(i).name;
  if (!is_penalty_strength(group.penalty.strength) || !is_penalty_strength(group.decay))
    throw Error("optimizer: penalties and weight decay must be 0 or more; " + name + " has " +
                std::to_string(group.penalty.strength) + " and " + std::to_string(group.decay));
  if (!std::isfinite(group.lr_scale) || group.rate_group < -1)
    throw Error("optimizer: " + name + " needs a finite lr_scale and a rate group of -1 or more");
  states_[i].group = group;
}

void Optimizer::keep_anchors() {
  const NamedRange range(parameters_.context().backend(), "anchors");
  const Tensor& values = parameters_.values();
  if (!anchors_) anchors_ = empty_like(values);
  anchors_.backend().copy(anchors_.view(), Write::overwrite, values.view());
}

Tensor Optimizer::anchor(std::size_t i) const {
  const Parameter& p = parameters_.parameters().at(i);
  if (!anchors_) throw Error("optimizer: no anchors are kept, not even that of " + p.name + "; call keep_anchors()");
  return anchors_.window(p.offset, p.shape);
}

void Optimizer::check(const StepSpec& spec) const {
  if (!std::isfinite(spec.lr)) throw Error("optimizer: the learning rate is not finite");
  if (!(spec.loss_scale > 0) || !std::isfinite(spec.loss_scale))
    throw Error("optimizer: loss_scale must be positive and finite, got " + std::to_string(spec.loss_scale));
  if (spec_.loss_scaling && spec.loss_scale != 1)
    throw Error("optimizer: the loss scale is on the device; leave StepSpec::loss_scale at 1");
  if (!(spec.max_gradient_norm >= 0))
    throw Error("optimizer: max_gradient_norm must be 0 (off) or more, got " + std::to_string(spec.max_gradient_norm));
  if (!spec.relative_rates) return;
  const RelativeRates& r = *spec.relative_rates;
  if (!(r.epsilon >= 0) || !(r.min_weight_norm >= 0) || r.window < 1)
    throw Error("optimizer: relative rates need epsilon and min_weight_norm of 0 or more and a window of 1 or more");
}

std::vector<std::size_t> Optimizer::parameters_with_gradient() const {
  std::vector<std::size_t> found;
  std::size_t i = 0;
  for (const Parameter& p : parameters_.parameters()) {
    if (p.is_trainable && p.has_gradient()) {
      if (states_[i].offset != p.gradient_offset)
        throw Error("optimizer: the set of trainable parameters changed at " + p.name + "; call prepare() first");
      found.push_back(i);
    }
    ++i;
  }
  if (!found.empty() && !parameters_.gradients())
    throw Error("optimizer: the gradients lie outside the arena; call clear_gradients() before the backward pass");
  return found;
}

void Optimizer::make_segments(const std::vector<std::size_t>& updated, bool has_rates) {
  segments_.clear();
  for (std::size_t i : updated) {
    const Parameter& p = parameters_.parameters()[i];
    const State& state = states_[i];
    segments_.push_back({.value_offset = p.offset,
                         .state_offset = p.gradient_offset,
                         .size = p.shape.size(),
                         .lr_scale = state.group.lr_scale,
                         .decay = state.group.decay,
                         .row_size = row_size(p),
                         .row_mask = p.row_mask.empty() ? nullptr : p.row_mask.data(),
                         .penalty = state.group.penalty,
                         .rate_group = has_rates ? state.group.rate_group : -1,
                         .first_step = step_ - state.steps});
  }
}

void Optimizer::begin_step(const StepSpec& spec) {
  check(spec);
  const std::vector<std::size_t> updated = parameters_with_gradient();
  // The device counts skipped steps for all parameters at once.
  if (updated != updated_ || !measures(spec)) settle();
  make_room(spec);
  updated_ = updated;
  step_spec_ = spec;
  ++step_;
  for (std::size_t i : updated_) ++states_[i].steps;  // parameters unfrozen later have taken fewer
  make_segments(updated_, spec.relative_rates.has_value());
  has_measured_ = measures(spec);
  may_have_skipped_ = may_have_skipped_ || (has_measured_ && !segments_.empty());
  if (segments_.empty()) return;
  parameters_.context().backend().prepare_update(arena());
  parameters_.values_changed();
}

void Optimizer::make_room(const StepSpec& spec) {
  make_moments();
  if (measures(spec)) prepare_control(spec.relative_rates ? rate_groups() : 0);
  if (spec.relative_rates) prepare_history(rate_groups(), spec.relative_rates->window);
  if (spec.records && !sums_)  // for every parameter, so that it stays where it is
    sums_ = Tensor(parameters_.context(), {std::int64_t(states_.size()), kUpdateSums, 1, 1}, kNhwc, DType::f64);
}

void Optimizer::run_step() {
  if (segments_.empty()) return;
  if (has_measured_) measure(arena());
  update(arena());
}

UpdateArena Optimizer::arena() const {
  const Shape sums{std::int64_t(segments_.size()), kUpdateSums, 1, 1};
  return {.values = parameters_.values().view(),
          .gradients = parameters_.gradients().view(),
          .moment1 = moment1_.view(),
          .moment2 = view_or_null(moment2_),
          .segments = segments_,
          .anchors = view_or_null(anchors_),
          .control = has_measured_ ? control_.view() : View{},
          .sums = step_spec_.records ? sums_.window(0, sums).view() : View{},
          .half_values = view_or_null(parameters_.half_values()),
          .clock = step_spec_.clock,
          .halt = step_spec_.halt};
}

StepIdentity Optimizer::identity() const {
  const StepSpec& spec = step_spec_;
  StepIdentity id{.segments = segments_};
  if (segments_.empty()) return id;
  const UpdateArena a = arena();
  id.addresses = {a.values.data,     a.gradients.data, a.moment1.data, a.moment2.data, a.anchors.data,
                  a.control.data,    a.sums.data,      a.clock.data,   a.halt.data,    view_or_null(history_).data,
                  a.half_values.data};
  id.numbers = {spec.loss_scale, spec.max_gradient_norm};
  if (const auto& r = spec.relative_rates)
    id.numbers.insert(id.numbers.end(), {r->epsilon, r->min_weight_norm, double(r->window)});
  if (!spec.clock.data) id.numbers.insert(id.numbers.end(), {spec.lr, double(step_)});
  return id;
}

std::int64_t Optimizer::rate_groups() const {
  int last = -1;
  for (const State& state : states_) last = std::max(last, state.group.rate_group);
  return last + 1;
}

void Optimizer::prepare_control(std::int64_t groups) {
  if (control_ && control_.shape().c == control_size(groups)) return;
  settle();
  std::vector<double> start(std::size_t(control_size(groups)), 1.0);  // every rate
  start[kControlSkipped] = 0;
  if (spec_.loss_scaling) {
    const LossScaleState state = control_ ? loss_scale_state() : LossScaleState{.scale = spec_.loss_scaling->initial};
    start[kControlLossScale] = state.scale, start[kControlGoodSteps] = state.good_steps;
  }
  control_ = filled(parameters_.context(), {1, control_size(groups), 1, 1}, start);
}

void Optimizer::prepare_history(std::int64_t groups, int window) {
  const std::int64_t width = 1 + window;
  if (groups == 0 || (history_ && history_.shape() == Shape{groups, width, 1, 1})) return;
  std::vector<double> rows;
  if (history_ && history_.shape().c == width) rows = read(history_);  // groups came or went
  rows.resize(std::size_t(groups * width), 0.0);
  history_ = filled(parameters_.context(), {groups, width, 1, 1}, rows);
}

Tensor Optimizer::loss_scale() const {
  return spec_.loss_scaling ? control_.window(kControlLossScale, {1, 1, 1, 1}) : Tensor{};
}

Optimizer::LossScaleState Optimizer::loss_scale_state() const {
  const std::vector<double> control = read(control_);
  return {control[kControlLossScale], control[kControlGoodSteps], skipped_steps()};
}

void Optimizer::restore_loss_scale(const LossScaleState& state) {
  settle();
  std::vector<double> control = read(control_);
  control[kControlLossScale] = state.scale, control[kControlGoodSteps] = state.good_steps;
  write(control_, control);
  skipped_before_ = state.skipped_steps;
}

void Optimizer::measure(const UpdateArena& arena) {
  const StepSpec& spec = step_spec_;
  MeasureSpec measured{.loss_scale = spec.loss_scale,
                       .scales_loss = spec_.loss_scaling.has_value(),
                       .scaling = spec_.loss_scaling.value_or(LossScaling{}),
                       .max_gradient_norm = spec.max_gradient_norm,
                       .relative_rates = spec.relative_rates.has_value()};
  if (spec.relative_rates) {
    measured.groups = rate_groups();
    measured.epsilon = spec.relative_rates->epsilon;
    measured.min_weight_norm = spec.relative_rates->min_weight_norm;
    measured.window = spec.relative_rates->window;
  }
  parameters_.context().backend().measure_gradients(control_.view(), view_or_null(history_), arena, measured);
}

void Optimizer::update(const UpdateArena& arena) {
  const double lr = step_spec_.lr;
  Backend& device = parameters_.context().backend();
  if (spec_.kind == OptimizerKind::sgd)
    device.update(arena, SgdStep{.lr = lr, .momentum = spec_.momentum, .nesterov = spec_.nesterov, .step = step_});
  else
    device.update(arena, AdamStep{.lr = lr,
                                  .beta1 = spec_.beta1,
                                  .beta2 = spec_.beta2,
                                  .epsilon = spec_.epsilon,
                                  .decoupled = spec_.kind == OptimizerKind::adamw,
                                  .step = step_});
}

std::int64_t Optimizer::skipped() const {
  return may_have_skipped_ ? std::int64_t(read(control_)[kControlSkipped]) : 0;
}

void Optimizer::settle() {
  const std::int64_t count = skipped();
  may_have_skipped_ = false;
  if (count == 0) return;
  for (std::size_t i : updated_) states_[i].steps -= count;
  skipped_before_ += count;
  std::vector<double> control = read(control_);
  control[kControlSkipped] = 0;  // in place: captured steps know the address
  write(control_, control);
}

StepReading Optimizer::reading() const {
  Backend& device = parameters_.context().backend();
  const auto begin_copy = [&](const Tensor& t, std::int64_t numbers) {
    return device.begin_copy_out(t.view().data, numbers * size_of(DType::f64));
  };
  StepReading r;
  r.parameters_ = states_.size();
  r.updated_ = updated_;
  r.segments_ = segments_;
  r.has_rates_ = step_spec_.relative_rates.has_value();
  if (has_measured_) r.control_ = begin_copy(control_, control_.shape().size());
  if (step_spec_.records) r.sums_ = begin_copy(sums_, std::int64_t(segments_.size()) * kUpdateSums);
  return r;
}

std::int64_t Optimizer::steps(std::int64_t i) const {
  const bool is_updated = std::find(updated_.begin(), updated_.end(), std::size_t(i)) != updated_.end();
  return states_[std::size_t(i)].steps - (is_updated ? skipped() : 0);
}

void Optimizer::set_steps(std::int64_t i, std::int64_t steps) {
  settle();
  make_moments();
  states_[std::size_t(i)].steps = steps;
}

Optimizer::RateHistory Optimizer::rate_history() const {
  if (!history_) return {};
  return {int(history_.shape().c - 1), read(history_)};
}

void Optimizer::restore_rate_history(const RateHistory& history) {
  const std::size_t width = std::size_t(1 + history.window);
  if (history.rows.empty()) {
    history_ = {};
    return;
  }
  if (history.window < 1 || history.rows.size() % width != 0)
    throw Error("optimizer: a gradient history of window " + std::to_string(history.window) + " cannot have " +
                std::to_string(history.rows.size()) + " numbers");
  history_ = filled(parameters_.context(), {std::int64_t(history.rows.size() / width), std::int64_t(width), 1, 1},
                    history.rows);
}

Tensor Optimizer::moment(int which, std::int64_t i) const {
  const Parameter& p = parameters_.parameters()[std::size_t(i)];
  const Tensor& moments = which == 1 ? moment1_ : moment2_;
  if (states_[std::size_t(i)].offset < 0 || !moments)
    throw Error("optimizer: " + p.name + " is frozen or has no moment " + std::to_string(which));
  return moments.window(states_[std::size_t(i)].offset, p.shape);
}

}  // namespace graft
