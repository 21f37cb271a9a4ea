#include "tensor/parameter.h"

namespace graft {
namespace {

constexpr std::int64_t kAlignment = 16;  // elements: every segment starts on a cache line

std::int64_t aligned(std::int64_t n) { return (n + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

WeightView Parameter::weight_view(DType type, bool changes_soon) const {
  if (changes_soon) packed.reset();
  std::shared_ptr<void>* const keep = changes_soon ? nullptr : &packed;
  if (type == value.dtype()) return {value.view(), version, keep};
  if (half_version != version) {
    half.backend().copy(half.view(), Write::overwrite, value.view());
    half_version = version;
  }
  return {half.view(), version, keep};
}

Tensor Parameter::gradient() const {
  if (!is_trainable || !value.variable() || !value.variable()->grad)
    throw Error("gradient: parameter " + name + " is frozen; it has none");
  return value.variable()->grad;
}

Parameter& ParameterSet::add(std::string name, const Shape& shape, Role role, int block) {
  parameters_.push_back({.name = std::move(name),
                         .shape = shape,
                         .role = role,
                         .block = block,
                         .row_mask = {},
                         .value = {},
                         .packed = {}});
  return parameters_.back();
}

RunningStatistics& ParameterSet::add_statistics(std::string name, std::int64_t channels, int block, double momentum) {
  statistics_.push_back(
      {.name = std::move(name), .channels = channels, .block = block, .momentum = momentum, .value = {}});
  return statistics_.back();
}

void ParameterSet::lay_out() {
  Context& context = *context_;
  const NamedRange range(context.backend(), "weights");
  std::int64_t size = 0;
  for (Parameter& p : parameters_) p.offset = size, size += aligned(p.shape.size());
  for (RunningStatistics& s : statistics_) s.offset = size, size += aligned(2 * s.channels);
  values_ = zeros(context, {1, size, 1, 1});
  if (context.activation_type() != context.dtype())
    half_values_ = Tensor(context, {1, size, 1, 1}, kNhwc, context.activation_type());
  for (Parameter& p : parameters_) {
    p.value = values_.window(p.offset, p.shape);
    if (half_values_) p.half = half_values_.window(p.offset, p.shape);
    p.value.set_variable(std::make_shared<Variable>(Variable{.shape = p.shape,
                                                             .format = kNhwc,
                                                             .dtype = context.dtype(),
                                                             .needs_grad = false,
                                                             .is_leaf = true,
                                                             .grad = {}}));
    ++p.version;
  }
  for (RunningStatistics& s : statistics_) {
    s.value = values_.window(s.offset, {2, s.channels, 1, 1});
    ++s.version;
  }
}

void ParameterSet::allocate(Context& context) {
  context_ = &context;
  lay_out();
  for (RunningStatistics& s : statistics_) {
    std::vector<double> initial(2 * s.channels, 0.0);
    std::fill(initial.begin() + s.channels, initial.end(), 1.0);
    s.value.from_host(initial);
  }
  lay_out_gradients();
}

void ParameterSet::grow() {
  std::vector<Tensor> before;
  for (const Parameter& p : parameters_) before.push_back(p.value);
  for (const RunningStatistics& s : statistics_) before.push_back(s.value);
  lay_out();
  auto old = before.begin();
  const auto keep = [&](Tensor& value) {
    if (*old) context_->backend().copy(value.view(), Write::overwrite, old->view());
    ++old;
  };
  for (Parameter& p : parameters_) keep(p.value);
  for (RunningStatistics& s : statistics_) keep(s.value);
  lay_out_gradients();
}

void ParameterSet::prepare_gradients() {
  lay_out_gradients();
  allocate_gradients();
}

void ParameterSet::lay_out_gradients() {
  trainable_size_ = 0;
  gradients_ = {};
  for (Parameter& p : parameters_) {
    Variable& v = *p.value.variable();
    v.grad = {};
    v.grad_written = false;
    v.needs_grad = p.is_trainable;
    if (p.is_trainable) p.gradient_offset = trainable_size_, trainable_size_ += aligned(p.shape.size());
  }
}

void ParameterSet::allocate_gradients() {
  if (trainable_size_ == 0) return;
  const NamedRange range(context_->backend(), "gradients");
  gradients_ = empty(*context_, {1, trainable_size_, 1, 1});  // untouched, so it costs nothing until training
  for (Parameter& p : parameters_)
    if (p.is_trainable) p.value.variable()->grad = gradients_.window(p.gradient_offset, p.shape);
}

void ParameterSet::clear_gradients() {
  if (!gradients_) allocate_gradients();
  for (Parameter& p : parameters_) p.value.variable()->grad_written = false;
}

void ParameterSet::zero_gradients() {
  clear_gradients();
  if (gradients_)
    context_->backend().zero(gradients_.view().data, gradients_.shape().size() * size_of(gradients_.dtype()));
  for (Parameter& p : parameters_) p.value.variable()->grad_written = p.is_trainable;
}

Parameter& ParameterSet::find(const std::string& name) {
  for (Parameter& p : parameters_)
    if (p.name == name) return p;
  throw Error("parameter: the network has none named " + name);
}

void ParameterSet::values_changed() {
  for (Parameter& p : parameters_) {
    if (!p.is_trainable) continue;
    const bool has_half = p.half_version == p.version;  // where it had not, the update stored what it changed alone
    ++p.version;
    if (has_half) p.half_version = p.version;
  }
}

}  // namespace graft
