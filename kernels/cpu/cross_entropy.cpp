#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/batch_report.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/runs.h"
#include "kernels/functors.h"

namespace graft {
namespace {

double weight_of(const SoftmaxSpec& spec, std::int64_t c) {
  return spec.class_weights.data ? double(spec.class_weights.as<float>()[c]) : 1.0;
}

double total_weight(const SoftmaxSpec& spec, const ConstView& labels) {
  double total = 0;
  for (std::int64_t n = 0; n < labels.shape.n; ++n) total += weight_of(spec, labels.as<std::int32_t>()[n]);
  return total;
}

LogitCrossEntropy cross_entropy_at(const SigmoidSpec& spec, std::int64_t label, std::int64_t c) {
  return logit_cross_entropy(spec.targets.as<float>()[label * spec.targets.pitch + c] > 0.5F, spec.label_smoothing,
                             spec.positive_weights.data ? double(spec.positive_weights.as<float>()[c]) : 1.0);
}

}  // namespace

// Rows are few and short beside the network, so sums are taken in double.
void CpuBackend::softmax_cross_entropy(View loss, View probabilities, ConstView logits, ConstView labels,
                                       const SoftmaxSpec& spec) {
  const std::int64_t classes = logits.shape.c;
  std::vector<double> x(static_cast<std::size_t>(classes));
  double total = 0;
  for (std::int64_t n = 0; n < logits.shape.n; ++n) {
    with_stored_type(logits.dtype, [&](auto stored) {
      const auto* row = logits.as<decltype(stored)>() + n * logits.pitch;
      for (std::int64_t c = 0; c < classes; ++c) x[std::size_t(c)] = double(float(row[c]));
    });
    float* p = probabilities.as<float>() + n * probabilities.pitch;
    const double largest = *std::ranges::max_element(x);
    double sum = 0;
    for (const double v : x) sum += std::exp(v - largest);
    const double log_sum = std::log(sum) + largest;
    for (std::int64_t c = 0; c < classes; ++c) p[c] = float(std::exp(x[std::size_t(c)] - log_sum));
    const std::int32_t label = labels.as<std::int32_t>()[n];
    total += (1 - spec.label_smoothing) * weight_of(spec, label) * (log_sum - x[std::size_t(label)]);
    if (spec.label_smoothing > 0)
      for (std::int64_t c = 0; c < classes; ++c)
        total += spec.label_smoothing / double(classes) * weight_of(spec, c) * (log_sum - x[std::size_t(c)]);
  }
  loss.as<float>()[0] = float(total / total_weight(spec, labels));
}

void CpuBackend::softmax_cross_entropy_grad(View dlogits, Write write, ConstView dloss, ConstView probabilities,
                                            ConstView labels, const SoftmaxSpec& spec) {
  const std::int64_t classes = dlogits.shape.c;
  const double scale = double(dloss.as<float>()[0]) / total_weight(spec, labels), smoothing = spec.label_smoothing;
  double all_weights = 0;
  for (std::int64_t c = 0; c < classes; ++c) all_weights += weight_of(spec, c);
  const auto write_row = [&]<class T>(T* d, std::int64_t n) {
    const float* p = probabilities.as<float>() + n * probabilities.pitch;
    const std::int32_t label = labels.as<std::int32_t>()[n];
    // loss_n = sum_c t_c * (log_sum - x_c), so d/dx_c = p_c * sum(t) - t_c.
    const double sum_t = (1 - smoothing) * weight_of(spec, label) + smoothing / double(classes) * all_weights;
    for (std::int64_t c = 0; c < classes; ++c) {
      const double t =
          (c == label ? (1 - smoothing) * weight_of(spec, c) : 0.0) + smoothing / double(classes) * weight_of(spec, c);
      const float g = float(scale * (double(p[c]) * sum_t - t));
      d[c] = T(write == Write::add ? float(d[c]) + g : g);
    }
  };
  with_stored_type(dlogits.dtype, [&](auto stored) {
    for (std::int64_t n = 0; n < dlogits.shape.n; ++n) write_row(dlogits.as<decltype(stored)>() + n * dlogits.pitch, n);
  });
}

void CpuBackend::sigmoid_cross_entropy(View loss, View probabilities, ConstView logits, ConstView labels,
                                       const SigmoidSpec& spec) {
  double total = 0;
  with_stored_type(logits.dtype, [&](auto stored) {
    for (std::int64_t n = 0; n < logits.shape.n; ++n)
      for (std::int64_t c = 0; c < logits.shape.c; ++c) {
        const double x = double(float(logits.as<decltype(stored)>()[n * logits.pitch + c]));
        probabilities.as<float>()[n * probabilities.pitch + c] = float(1 / (1 + std::exp(-x)));
        total += cross_entropy_at(spec, labels.as<std::int32_t>()[n], c).loss(x);
      }
  });
  loss.as<float>()[0] = float(total / double(logits.shape.n * logits.shape.c));
}

void CpuBackend::sigmoid_cross_entropy_grad(View dlogits, Write write, ConstView dloss, ConstView probabilities,
                                            ConstView labels, const SigmoidSpec& spec) {
  const double scale = double(dloss.as<float>()[0]) / double(dlogits.shape.n * dlogits.shape.c);
  with_stored_type(dlogits.dtype, [&]<class T>(T) {
    for (std::int64_t n = 0; n < dlogits.shape.n; ++n)
      for (std::int64_t c = 0; c < dlogits.shape.c; ++c) {
        const double p = double(probabilities.as<float>()[n * probabilities.pitch + c]);
        const float g = float(scale * cross_entropy_at(spec, labels.as<std::int32_t>()[n], c).slope(p));
        T& d = dlogits.as<T>()[n * dlogits.pitch + c];
        d = T(write == Write::add ? float(d) + g : g);
      }
  });
}

void CpuBackend::report_batch(View report, ConstView loss, ConstView penalty, ConstView probabilities, ConstView labels,
                              ConstView targets) {
  report_on_host<float>(report, loss, penalty, probabilities, labels, targets);
}

}  // namespace graft
