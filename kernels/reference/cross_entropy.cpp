// Softmax cross-entropy as PyTorch defines it with class weights w and label smoothing s, for C classes:
//   loss = sum_n [(1-s) w[t_n] nll(n,t_n) + s/C sum_c w[c] nll(n,c)] / sum_n w[t_n],  nll(n,c) = -log softmax(x_n)[c]
// and for several labels per image the mean of LogitCrossEntropy over all rows and classes.
#include <cmath>

#include "kernels/batch_report.h"
#include "kernels/functors.h"
#include "kernels/reference/reference.h"

namespace graft {
namespace {

double weight_of(const SoftmaxSpec& spec, std::int64_t c) {
  return spec.class_weights.data ? spec.class_weights.as<double>()[c] : 1;
}

double total_weight(const SoftmaxSpec& spec, const ConstView& labels) {
  double total = 0;
  for (std::int64_t n = 0; n < labels.shape.n; ++n) total += weight_of(spec, labels.as<std::int32_t>()[n]);
  return total;
}

/// What nll(n,c) is multiplied by in the sum above.
double share(const SoftmaxSpec& spec, std::int64_t classes, std::int64_t label, std::int64_t c) {
  const double smooth = spec.label_smoothing / double(classes) * weight_of(spec, c);
  return c == label ? (1 - spec.label_smoothing) * weight_of(spec, c) + smooth : smooth;
}

LogitCrossEntropy cross_entropy_at(const SigmoidSpec& spec, std::int64_t label, std::int64_t c) {
  return logit_cross_entropy(spec.targets.as<double>()[label * spec.targets.pitch + c] > 0.5, spec.label_smoothing,
                             spec.positive_weights.data ? spec.positive_weights.as<double>()[c] : 1);
}

}  // namespace

void ReferenceBackend::softmax_cross_entropy(View loss, View probabilities, ConstView logits, ConstView labels,
                                             const SoftmaxSpec& spec) {
  const std::int64_t classes = logits.shape.c;
  double total = 0;
  for (std::int64_t n = 0; n < logits.shape.n; ++n) {
    const double* x = logits.as<double>() + n * logits.pitch;
    double* p = probabilities.as<double>() + n * probabilities.pitch;
    const double largest = *std::max_element(x, x + classes);
    double sum = 0;
    for (std::int64_t c = 0; c < classes; ++c) sum += std::exp(x[c] - largest);
    const double log_sum = std::log(sum) + largest;
    for (std::int64_t c = 0; c < classes; ++c) {
      p[c] = std::exp(x[c] - log_sum);
      const double part = share(spec, classes, labels.as<std::int32_t>()[n], c);
      if (part != 0) total += part * (log_sum - x[c]);  // a class without share may have probability 0
    }
  }
  loss.as<double>()[0] = total / total_weight(spec, labels);
}

/// d/dx_c of sum_k share_k nll_k = p_c sum_k share_k - share_c
void ReferenceBackend::softmax_cross_entropy_grad(View dlogits, Write write, ConstView dloss, ConstView probabilities,
                                                  ConstView labels, const SoftmaxSpec& spec) {
  const std::int64_t classes = dlogits.shape.c;
  const double scale = dloss.as<double>()[0] / total_weight(spec, labels);
  for (std::int64_t n = 0; n < dlogits.shape.n; ++n) {
    const double* p = probabilities.as<double>() + n * probabilities.pitch;
    double* d = dlogits.as<double>() + n * dlogits.pitch;
    const std::int64_t label = labels.as<std::int32_t>()[n];
    double shares = 0;
    for (std::int64_t c = 0; c < classes; ++c) shares += share(spec, classes, label, c);
    for (std::int64_t c = 0; c < classes; ++c) {
      const double g = scale * (p[c] * shares - share(spec, classes, label, c));
      d[c] = write == Write::add ? d[c] + g : g;
    }
  }
}

void ReferenceBackend::sigmoid_cross_entropy(View loss, View probabilities, ConstView logits, ConstView labels,
                                             const SigmoidSpec& spec) {
  double total = 0;
  for (std::int64_t n = 0; n < logits.shape.n; ++n)
    for (std::int64_t c = 0; c < logits.shape.c; ++c) {
      const double x = logits.as<double>()[n * logits.pitch + c];
      probabilities.as<double>()[n * probabilities.pitch + c] = 1 / (1 + std::exp(-x));
      total += cross_entropy_at(spec, labels.as<std::int32_t>()[n], c).loss(x);
    }
  loss.as<double>()[0] = total / double(logits.shape.n * logits.shape.c);
}

void ReferenceBackend::sigmoid_cross_entropy_grad(View dlogits, Write write, ConstView dloss, ConstView probabilities,
                                                  ConstView labels, const SigmoidSpec& spec) {
  const double scale = dloss.as<double>()[0] / double(dlogits.shape.n * dlogits.shape.c);
  for (std::int64_t n = 0; n < dlogits.shape.n; ++n)
    for (std::int64_t c = 0; c < dlogits.shape.c; ++c) {
      const double p = probabilities.as<double>()[n * probabilities.pitch + c];
      const double g = scale * cross_entropy_at(spec, labels.as<std::int32_t>()[n], c).slope(p);
      double& d = dlogits.as<double>()[n * dlogits.pitch + c];
      d = write == Write::add ? d + g : g;
    }
}

void ReferenceBackend::report_batch(View report, ConstView loss, ConstView penalty, ConstView probabilities,
                                    ConstView labels, ConstView targets) {
  report_on_host<double>(report, loss, penalty, probabilities, labels, targets);
}

}  // namespace graft
