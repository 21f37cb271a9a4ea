// The report of a batch on devices whose memory the host can read; the CUDA kernel is cuda/report.cu.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/backend.h"

namespace graft {

/// Backend::report_batch where activations are T. The first largest wins, as std::max_element has it: a NaN in front
/// stays the largest, elsewhere it is passed over. With targets an image's answers are one for each class.
template <class T>
void report_on_host(const View& report, const ConstView& loss, const ConstView& penalty, const ConstView& probabilities,
                    const ConstView& labels, const ConstView& targets) {
  double* r = report.as<double>();
  r[kReportLoss] = double(loss.as<T>()[0]);
  r[kReportPenalty] = penalty.data ? double(penalty.as<T>()[0]) : 0;
  const std::int64_t classes = probabilities.shape.c;
  std::int64_t correct = 0;
  for (std::int64_t n = 0; n < probabilities.shape.n; ++n) {
    const T* p = probabilities.as<T>() + n * probabilities.pitch;
    const std::int32_t label = labels.as<std::int32_t>()[n];
    if (!targets.data) {
      correct += std::max_element(p, p + classes) - p == label;
      continue;
    }
    const T* t = targets.as<T>() + label * targets.pitch;
    for (std::int64_t c = 0; c < classes; ++c) correct += (p[c] > T(0.5)) == (t[c] > T(0.5));
  }
  r[kReportCorrect] = double(correct);
  if (!std::isfinite(r[kReportLoss]) || !std::isfinite(r[kReportPenalty])) r[kReportHalted] = 1;
}

}  // namespace graft
