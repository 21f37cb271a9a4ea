// Device calls that come again and again, a training step's or a prediction's: made one by one until the device has
// chosen its algorithms and planned their memory, then captured once and replayed while what they depend on stays.
#pragma once

#include "kernels/capture.h"
#include "tensor/context.h"

namespace graft {

/// Identity: what the calls depend on beside their planned addresses and the contents of device memory.
template <class Identity>
class ReplayedCalls {
 public:
  /// `kind`: see Backend::begin_step.
  ReplayedCalls(Backend& device, std::int64_t kind) : device_(device), kind_(kind) {}

  // Each time: begin(); the calls themselves or, if can_replay(), their replay(); end().
  PlannedStep begin() { return {device_, kind_}; }
  /// Whether the algorithms are chosen, the last time got the addresses planned for it, and this time will.
  bool can_replay(const PlannedStep& step) const { return is_settled_ && step.addresses() != 0; }
  bool are_current(const PlannedStep& step, const Identity& identity) const {
    return captured_ && addresses_ == step.addresses() && identity_ == identity;
  }
  /// To be followed by replay(). Errors: those of `calls`.
  template <class Calls>
  void capture(const PlannedStep& step, Identity identity, const Calls& calls) {
    captured_ = nullptr;
    captured_ = captured_calls(device_, calls);
    addresses_ = step.addresses();
    identity_ = std::move(identity);
  }
  void replay() { captured_->replay(); }
  void end(PlannedStep& step) {
    is_settled_ = step.end();
    if (!is_settled_) captured_ = nullptr;  // its addresses may be others' now
  }

 private:
  Backend& device_;
  std::int64_t kind_;
  bool is_settled_ = false;
  std::unique_ptr<CapturedStep> captured_;
  std::uint64_t addresses_ = 0;
  Identity identity_;
};

}  // namespace graft
