// What the optimizer's update and its measuring pass compute on the host: everything about them that is per segment
// and not per element. The reference and the CPU use all of it, CUDA the checks; its kernels do the rest themselves.
#pragma once

#include "kernels/backend.h"

namespace graft {

/// Errors: a penalty towards anchors that are not there; a masked segment of broken rows; a rate group beyond control.
void check_update(const UpdateArena& arena);

/// Errors: as check_update; control or history of another size than MeasureSpec needs; a rate group beyond `groups`.
void check_measure(const ConstView& control, const ConstView& history, const UpdateArena& arena,
                   const MeasureSpec& spec);

/// Turns each segment's sums of g^2 and w^2 ([segments][2], host) into control and history.
void finish_measure(const View& control, const View& history, std::span<const UpdateSegment> segments,
                    const double* sums, const MeasureSpec& spec);

/// Whether nothing may change: measure_gradients found a gradient that is not finite, or training was halted.
inline bool is_skipped(const UpdateArena& arena) {
  return (arena.control.data && arena.control.as<double>()[kControlFactor] == 0) ||
         (arena.halt.data && arena.halt.as<double>()[0] != 0);
}

/// The step with the rate and number that lie on the device, if they do.
template <class Step>
Step clocked(Step step, const UpdateArena& arena) {
  if (!arena.clock.data) return step;
  step.lr = arena.clock.as<double>()[0];
  step.step = std::int64_t(arena.clock.as<double>()[1]);
  return step;
}

/// The rule of a skipped step: nothing, and no penalty either.
struct SkippedStep {
  static constexpr int kMoments = 0;
  double lr = 0;
  std::int64_t step = 0;
  template <class T>
  void count(UpdateTerms<T>& t, std::int64_t) const {
    t.kind = PenaltyKind::none;
  }
  template <class T>
  void operator()(const UpdateTerms<T>&, T&, T, T&, T&) const {}
};

/// The terms of a segment's update, with control read on the host.
template <class T, class Step>
UpdateTerms<T> terms_of(const UpdateSegment& s, const UpdateArena& arena, const Step& step) {
  const double* control = arena.control.as<double>();
  const double rate = control && s.rate_group >= 0 ? control[kControlRates + s.rate_group] : 1;
  const std::int64_t skipped = control ? std::int64_t(control[kControlSkipped]) : 0;
  return update_terms<T>(step, s.lr_scale * rate, s.decay, s.penalty, step.step - s.first_step - skipped,
                         control ? control[kControlFactor] : 1);
}

/// Calls body(begin, end) for the trainable elements of a segment, neighbouring rows together.
template <class Body>
void for_each_trainable_range(const UpdateSegment& s, const Body& body) {
  if (!s.row_mask) {
    if (s.size > 0) body(std::int64_t(0), s.size);
    return;
  }
  const std::int64_t rows = s.size / s.row_size;
  const auto trains = [&](std::int64_t row) { return row < rows && (s.row_mask[row / 32] >> (row % 32) & 1); };
  for (std::int64_t row = 0; row < rows; ++row) {
    if (!trains(row)) continue;
    const std::int64_t first = row;
    while (trains(row)) ++row;
    body(first * s.row_size, row * s.row_size);
  }
}

}  // namespace graft
