// What cuDNN computes, for the host model: a convolution's graph on the reference device, in double, its result rounded
// once. As cuDNN does, it refuses some epilogues, so that the passes that take their place run too.
#include <memory>
#include <vector>

#include "kernels/cuda/cuda_backend.h"

namespace graft {

struct ConvPlans::State {
  std::unique_ptr<Backend> reference = make_backend({DeviceKind::reference, 0}, {.threads = 1});
  std::vector<PlanRecord> records;
};

namespace {

View dense(const void* data, DType dtype, const Shape& shape) {
  return {.data = const_cast<void*>(data), .dtype = dtype, .format = kNhwc, .shape = shape, .pitch = shape.c};
}

/// A graph's operand in double.
class Wide {
 public:
  Wide(Backend& reference, const void* data, DType dtype, const Shape& shape)
      : reference_(reference),
        narrow_(dense(data, dtype, shape)),
        values_(data ? std::size_t(shape.size()) : 0),
        view_(dense(data ? values_.data() : nullptr, DType::f64, shape)) {}

  View read() {
    if (narrow_.data) reference_.copy(view_, Write::overwrite, narrow_);
    return view_;
  }
  View result() const { return view_; }
  void write() { reference_.copy(narrow_, Write::overwrite, view_); }

 private:
  Backend& reference_;
  View narrow_;
  std::vector<double> values_;
  View view_;
};

/// Without TF32 cuDNN adds no tensor; and in float16 no plan's ReLU shall keep a NaN.
bool is_refused(const GraphSpec& spec) {
  return (spec.has_residual && spec.dtype == DType::f32) || (spec.has_relu && spec.dtype == DType::f16);
}

}  // namespace

ConvPlans::ConvPlans(const PlanDevice&, const PlanOptions&) : state_(std::make_unique<State>()) {}
ConvPlans::~ConvPlans() = default;
const std::vector<PlanRecord>& ConvPlans::records() const { return state_->records; }
void ConvPlans::begin_step() {}

bool ConvPlans::try_run(const GraphSpec& spec, const GraphPointers& p) {
  if (is_refused(spec)) return false;
  Backend& reference = *state_->reference;
  const ConvSpec& conv = spec.conv;
  const auto wide = [&](const void* data, const Shape& shape) { return Wide(reference, data, spec.dtype, shape); };
  Wide x = wide(p.x, conv.x), y = wide(p.y, conv.y()), w = wide(p.w, {conv.k, conv.x.c, conv.r, conv.s});
  Wide bias(reference, spec.has_bias ? p.bias : nullptr, DType::f32, {1, conv.k, 1, 1});
  Wide residual = wide(spec.has_residual ? p.residual : nullptr, conv.y());
  switch (spec.kind) {
    case GraphKind::conv:
      reference.conv(conv, y.result(), x.read(), {w.read()},
                     {.bias = bias.read(), .relu = spec.has_relu, .residual = residual.read()});
      y.write();
      return true;
    case GraphKind::data_grad:
      reference.conv_data_grad(conv, x.result(), Write::overwrite, y.read(), {w.read()});
      x.write();
      return true;
    case GraphKind::weight_grad:
      reference.conv_weight_grad(conv, w.result(), Write::overwrite, y.read(), x.read());
      w.write();
      return true;
    default:
      return false;
  }
}

void ConvPlans::run(const GraphSpec& spec, const GraphPointers& pointers) {
  if (!try_run(spec, pointers)) throw Error(to_string(spec) + ": refused");
}

bool CudaBackend::fuses_norm_conv(const ConvSpec& spec, ConstView x, const NormalizeArgs&, const WeightView& w,
                                  NormConvUse) {
  return gpu::can_norm_conv(spec, {x, w.value});
}

bool CudaBackend::prefers_growth(const GraphSpec&, View, const ConvWay&, const ConvWay&) { return true; }

ConvPlans& CudaBackend::conv_plans() {
  if (!conv_plans_) conv_plans_ = std::make_unique<ConvPlans>(PlanDevice{*this, stream(), "host model"}, plan_options_);
  return *conv_plans_;
}

}  // namespace graft
