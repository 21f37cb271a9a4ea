// What an optimizer's step found out, on its way from the device. The copy is begun right after the step, so that it
// holds that step's numbers whenever they are read; reading waits until they are there.
#pragma once

#include <memory>
#include <vector>

#include "kernels/backend.h"

namespace graft {

/// Sums over a parameter's trainable elements at a step: g of the loss, unclipped and without penalties; w before the
/// step. w0 is 0 for a penalty towards zero and where no anchors are kept, else the anchor.
struct ParameterSums {
  double gradient_squares = 0, weight_squares = 0, change_squares = 0, distance_squares = 0, distance = 0;
};

class StepReading {
 public:
  /// One entry per parameter; zeros where it was not updated. Squares of gradients are not finite in a skipped step.
  /// Errors: the step did not record.
  std::vector<ParameterSums> sums() const;
  /// Value of all penalties before the step, in loss units. Errors: the step did not record.
  double penalty() const;
  /// Norm of the loss's gradient before clipping. Errors: the step did not measure gradients.
  double gradient_norm() const;
  bool was_skipped() const;
  /// Multiplier of every parameter from StepSpec::relative_rates; 1 where it has none.
  std::vector<double> rates() const;

 private:
  friend class Optimizer;
  const double* control() const { return static_cast<const double*>(control_->wait()); }

  std::size_t parameters_ = 0;
  std::vector<std::size_t> updated_;  // parameters, one per segment
  std::vector<UpdateSegment> segments_;
  bool has_rates_ = false;
  std::unique_ptr<HostCopy> control_, sums_;  // null: not measured, not recorded
};

}  // namespace graft
