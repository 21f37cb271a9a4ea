#include "kernels/reference/rounded.h"

#include "kernels/half.h"

namespace graft {

/// The doubles in the place of one call's 16-bit operands; results are rounded when it ends.
class RoundedReference::Widened {
 public:
  explicit Widened(ReferenceBackend& exact) : exact_(exact) {}
  Widened(const Widened&) = delete;
  Widened& operator=(const Widened&) = delete;
  ~Widened() {
    for (void* block : blocks_) exact_.release(block);
  }

  ConstView in(const ConstView& v) {
    if (!v.data || !is_half(v.dtype)) return v;
    const View wide = dense_doubles(v);
    exact_.copy(wide, Write::overwrite, v);
    return wide;
  }
  WeightView in(const WeightView& w) { return {.value = in(w.value)}; }
  /// With Write::add the wide result starts with what is there.
  View out(const View& v, Write write = Write::overwrite) {
    if (!v.data || !is_half(v.dtype)) return v;
    const View wide = dense_doubles(v);
    if (write == Write::add) exact_.copy(wide, Write::overwrite, v);
    results_.push_back({v, wide});
    return wide;
  }
  void finish() {
    for (const auto& [narrow, wide] : results_) exact_.copy(narrow, Write::overwrite, wide);
  }

 private:
  View dense_doubles(const ConstView& v) {
    blocks_.push_back(exact_.allocate(v.shape.size() * size_of(DType::f64)));
    return {blocks_.back(), DType::f64, v.format, v.shape, v.shape.c};
  }

  ReferenceBackend& exact_;
  std::vector<void*> blocks_;
  std::vector<std::pair<View, View>> results_;
};

RoundedReference::RoundedReference(const BackendOptions& options)
    : exact_(options), activation_type_(options.precision == Precision::bf16 ? DType::bf16 : DType::f16) {}

std::string RoundedReference::description() const {
  return exact_.description() + ", activations rounded to " + std::string(to_string(activation_type_));
}

void RoundedReference::run_map(const MapCall& call) {
  Widened wide(exact_);
  MapCall exact = call;
  exact.out = wide.out(call.out, call.write);
  for (int i = 0; i < call.inputs; ++i) exact.in[i] = wide.in(call.in[i]);
  exact_.run_map(exact);
  wide.finish();
}

void RoundedReference::conv(const ConvSpec& spec, View y, ConstView x, WeightView w, const ConvEpilogue& epilogue) {
  Widened wide(exact_);
  ConvEpilogue exact = epilogue;
  exact.residual = wide.in(epilogue.residual);
  exact_.conv(spec, wide.out(y), wide.in(x), wide.in(w), exact);
  wide.finish();
}
void RoundedReference::conv_data_grad(const ConvSpec& spec, View dx, Write write, ConstView dy, WeightView w) {
  Widened wide(exact_);
  exact_.conv_data_grad(spec, wide.out(dx, write), write, wide.in(dy), wide.in(w));
  wide.finish();
}
void RoundedReference::conv_weight_grad(const ConvSpec& spec, View dw, Write write, ConstView dy, ConstView x) {
  Widened wide(exact_);
  exact_.conv_weight_grad(spec, dw, write, wide.in(dy), wide.in(x));
}
void RoundedReference::channel_sum(View db, Write write, ConstView dy) {
  Widened wide(exact_);
  exact_.channel_sum(db, write, wide.in(dy));
}

void RoundedReference::linear(View y, ConstView x, WeightView w, ConstView bias) {
  Widened wide(exact_);
  exact_.linear(wide.out(y), wide.in(x), wide.in(w), bias);
  wide.finish();
}
void RoundedReference::linear_data_grad(View dx, Write write, ConstView dy, WeightView w) {
  Widened wide(exact_);
  exact_.linear_data_grad(wide.out(dx, write), write, wide.in(dy), wide.in(w));
  wide.finish();
}
void RoundedReference::linear_weight_grad(View dw, Write write, ConstView dy, ConstView x) {
  Widened wide(exact_);
  exact_.linear_weight_grad(dw, write, wide.in(dy), wide.in(x));
}

void RoundedReference::batch_statistics(View stats, ConstView x) {
  Widened wide(exact_);
  exact_.batch_statistics(stats, wide.in(x));
}
void RoundedReference::normalize(View y, ConstView x, const NormalizeArgs& args, ConstView residual) {
  Widened wide(exact_);
  exact_.normalize(wide.out(y), wide.in(x), args, wide.in(residual));
  wide.finish();
}
void RoundedReference::fold_normalize(View folded, View shift, ConstView w, ConstView bias, const NormalizeArgs& args) {
  Widened wide(exact_);
  exact_.fold_normalize(wide.out(folded), shift, w, bias, args);
  wide.finish();
}
void RoundedReference::normalize_grad_sums(View sums, ConstView dy, ConstView y, ConstView x,
                                           const NormalizeArgs& args) {
  Widened wide(exact_);
  exact_.normalize_grad_sums(sums, wide.in(dy), wide.in(y), wide.in(x), args);
}
void RoundedReference::normalize_grad(View dx, Write write, View dresidual, Write residual_write, ConstView dy,
                                      ConstView y, ConstView x, const NormalizeArgs& args, ConstView sums) {
  Widened wide(exact_);
  const View wide_dx = wide.out(dx, write), wide_dresidual = wide.out(dresidual, residual_write);
  exact_.normalize_grad(wide_dx, write, wide_dresidual, residual_write, wide.in(dy), wide.in(y), wide.in(x), args,
                        sums);
  wide.finish();
}
void RoundedReference::normalize_grad_correction(View dx, ConstView x, ConstView stats, double epsilon,
                                                 ConstView weighted) {
  Widened wide(exact_);
  exact_.normalize_grad_correction(wide.out(dx, Write::add), wide.in(x), stats, epsilon, weighted);
  wide.finish();
}
void RoundedReference::update_running(View running, ConstView stats, double momentum, std::int64_t elements) {
  exact_.update_running(running, stats, momentum, elements);
}

void RoundedReference::max_pool(const PoolSpec& spec, View y, View index, ConstView x) {
  Widened wide(exact_);
  exact_.max_pool(spec, wide.out(y), index, wide.in(x));
  wide.finish();
}
void RoundedReference::max_pool_grad(const PoolSpec& spec, View dx, Write write, ConstView dy, ConstView index) {
  Widened wide(exact_);
  exact_.max_pool_grad(spec, wide.out(dx, write), write, wide.in(dy), index);
  wide.finish();
}
void RoundedReference::avg_pool(const PoolSpec& spec, View y, ConstView x) {
  Widened wide(exact_);
  exact_.avg_pool(spec, wide.out(y), wide.in(x));
  wide.finish();
}
void RoundedReference::avg_pool_grad(const PoolSpec& spec, View dx, Write write, ConstView dy) {
  Widened wide(exact_);
  exact_.avg_pool_grad(spec, wide.out(dx, write), write, wide.in(dy));
  wide.finish();
}
void RoundedReference::adaptive_avg_pool(View y, ConstView x) {
  Widened wide(exact_);
  exact_.adaptive_avg_pool(wide.out(y), wide.in(x));
  wide.finish();
}
void RoundedReference::adaptive_avg_pool_grad(View dx, Write write, ConstView dy) {
  Widened wide(exact_);
  exact_.adaptive_avg_pool_grad(wide.out(dx, write), write, wide.in(dy));
  wide.finish();
}

void RoundedReference::softmax_cross_entropy(View loss, View probabilities, ConstView logits, ConstView labels,
                                             const SoftmaxSpec& spec) {
  Widened wide(exact_);
  exact_.softmax_cross_entropy(loss, probabilities, wide.in(logits), labels, spec);
}
void RoundedReference::softmax_cross_entropy_grad(View dlogits, Write write, ConstView dloss, ConstView probabilities,
                                                  ConstView labels, const SoftmaxSpec& spec) {
  Widened wide(exact_);
  exact_.softmax_cross_entropy_grad(wide.out(dlogits, write), write, dloss, probabilities, labels, spec);
  wide.finish();
}

void RoundedReference::sigmoid_cross_entropy(View loss, View probabilities, ConstView logits, ConstView labels,
                                             const SigmoidSpec& spec) {
  Widened wide(exact_);
  exact_.sigmoid_cross_entropy(loss, probabilities, wide.in(logits), labels, spec);
}
void RoundedReference::sigmoid_cross_entropy_grad(View dlogits, Write write, ConstView dloss, ConstView probabilities,
                                                  ConstView labels, const SigmoidSpec& spec) {
  Widened wide(exact_);
  exact_.sigmoid_cross_entropy_grad(wide.out(dlogits, write), write, dloss, probabilities, labels, spec);
  wide.finish();
}

}  // namespace graft
