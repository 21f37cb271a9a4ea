#include "optim/step_reading.h"

namespace graft {

std::vector<ParameterSums> StepReading::sums() const {
  if (!sums_) throw Error("optimizer: the last step kept no sums; set StepSpec::records");
  std::vector<ParameterSums> all(parameters_);
  const double* values = static_cast<const double*>(sums_->wait());
  const double scale = control_ ? control()[kControlGradientScale] : 1;  // of the stored gradients
  for (std::size_t k = 0; k < updated_.size(); ++k) {
    const double* s = values + k * std::size_t(kUpdateSums);
    all[updated_[k]] = {s[0] / (scale * scale), s[1], s[2], s[3], s[4]};
  }
  return all;
}

double StepReading::penalty() const {
  const std::vector<ParameterSums> all = sums();
  double total = 0;
  for (std::size_t k = 0; k < updated_.size(); ++k) {
    const PenaltySpec& penalty = segments_[k].penalty;
    const ParameterSums& s = all[updated_[k]];
    if (penalty.kind == PenaltyKind::l2) total += penalty.strength / 2 * s.distance_squares;
    if (penalty.kind == PenaltyKind::l1) total += penalty.strength * s.distance;
  }
  return total;
}

double StepReading::gradient_norm() const {
  if (!control_) throw Error("optimizer: the last step did not measure its gradients; set StepSpec::max_gradient_norm");
  return control()[kControlNorm];
}

bool StepReading::was_skipped() const { return control_ && control()[kControlFactor] == 0; }

std::vector<double> StepReading::rates() const {
  std::vector<double> all(parameters_, 1.0);
  if (!has_rates_) return all;
  for (std::size_t k = 0; k < updated_.size(); ++k)
    if (segments_[k].rate_group >= 0) all[updated_[k]] = control()[kControlRates + segments_[k].rate_group];
  return all;
}

}  // namespace graft
