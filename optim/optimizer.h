// SGD with momentum, Adam and AdamW over a network's parameter arenas: one device call updates all trainable
// parameters and never visits a frozen or masked element. Penalties, Auto-RGN's rates of every step, gradient clipping
// and loss scaling belong to the same update; clipping, scaling and rates cost one more call that measures the
// gradients. Gradients are read only. Which rule and which constants is fixed at construction; rates, decays, penalties
// and the set of trainable parameters may change between steps. Formulas: kernels/functors.h.
#pragma once

#include <optional>
#include <string_view>

#include "optim/step_reading.h"
#include "tensor/parameter.h"

namespace graft {

enum class OptimizerKind { sgd, adam, adamw };

/// "sgd", "adam", "adamw". Errors: any other (UsageError).
OptimizerKind parse_optimizer(std::string_view name);

struct OptimizerSpec {
  OptimizerKind kind = OptimizerKind::adam;
  double momentum = 0.9;  // sgd
  bool nesterov = false;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;  // adam, adamw
  /// For gradients in f16: the loss is multiplied by a scale that lives on the device and follows the gradients, see
  /// Optimizer::loss_scale. Every step is then measured, and skipped if a gradient is not finite.
  std::optional<LossScaling> loss_scaling = {};
};

/// How the optimizer treats one parameter.
struct ParameterGroup {
  double lr_scale = 1;  // on the step's rate
  double decay = 0;     // coupled; for AdamW decoupled
  PenaltySpec penalty;
  /// Parameters of one group share their relative rate, from their common norms; -1: no relative rate. A group's
  /// number must name the same parameters all through a run: the gradient history goes by it.
  int rate_group = -1;
};

/// Auto-RGN of every step: group k's rate is multiplied by r_k / max r, where r_k is the mean over the last `window`
/// steps of |g_k| / (|w_k| + epsilon). Groups of |w_k| < min_weight_norm stay out of the maximum, with multiplier 1.
struct RelativeRates {
  double epsilon;
  double min_weight_norm = 1e-8;
  int window = 5;
  friend bool operator==(const RelativeRates&, const RelativeRates&) = default;
};

struct StepSpec {
  double lr;
  /// The gradients are those of loss * loss_scale. Unless it is 1, they are checked: one that is not finite skips the
  /// step. Must be 1 with OptimizerSpec::loss_scaling.
  double loss_scale = 1;
  /// Gradients are scaled down to this norm over all trainable elements; 0: off, and infinity only measures and checks.
  double max_gradient_norm = 0;
  bool records = false;  // keep sums()
  std::optional<RelativeRates> relative_rates;
  ConstView clock, halt;  // as UpdateArena has them: the rate and the step's number on the device, and a stop there
};

/// What a step's device calls depend on beside the contents of device memory: while it stays the same they can be
/// captured once and replayed.
struct StepIdentity {
  std::vector<const void*> addresses;
  std::vector<double> numbers;
  std::vector<UpdateSegment> segments;
  friend bool operator==(const StepIdentity&, const StepIdentity&) = default;
};

/// Requires the parameter set to outlive it. Parameters are named by their index in ParameterSet::parameters().
class Optimizer {
 public:
  Optimizer(ParameterSet& parameters, const OptimizerSpec& spec);

  /// Follows the parameters' present `is_trainable`; call after any change of it. Moments of parameters that stay
  /// trainable are kept, those of new ones start at zero, as does their step count. Moments take memory from the first
  /// step on.
  void prepare();
  /// All moments and step counts to zero. Anchors and the gradient history stay.
  void reset();

  /// Errors: a penalty or decay below 0 or not finite, lr_scale not finite, a rate group below -1.
  void set_group(std::size_t i, const ParameterGroup& group);
  const ParameterGroup& group(std::size_t i) const { return states_.at(i).group; }

  /// Copies the present values as the anchors w0 of all parameters.
  void keep_anchors();
  bool has_anchors() const { return bool(anchors_); }
  /// Parameter `i`'s anchor, in its shape; writing to it moves the anchor. Errors: none are kept.
  Tensor anchor(std::size_t i) const;

  bool scales_loss() const { return spec_.loss_scaling.has_value(); }
  /// The factor that the next backward pass must apply (Tape::backward's device_scale), on the device; empty without
  /// OptimizerSpec::loss_scaling. Valid until the next call that is not const.
  Tensor loss_scale() const;

  /// One update from the gradients of the last backward pass. A parameter that got no gradient is skipped, as in
  /// PyTorch. Masked rows keep value and moments. A gradient that is not finite, where gradients are measured
  /// (loss_scale != 1, max_gradient_norm > 0, relative_rates), makes the whole step a no-op: values, moments, step
  /// counts and history stay.
  /// Errors: a spec out of range; a penalty towards anchors that are not kept; prepare() or, before the backward pass,
  /// ParameterSet::clear_gradients() was forgotten.
  void step(const StepSpec& spec) { begin_step(spec), run_step(); }
  void step(double lr) { step(StepSpec{.lr = lr}); }

  /// Allocates what a step of this kind keeps on the device; begin_step does so too.
  void make_room(const StepSpec& spec);
  // A step in its two halves, for captured steps. With `clock` the step's number that belongs there is step_number().
  /// The host's half: counts, checks, and what the device needs beforehand. Goes by the gradients that the last
  /// backward pass gave, or will give again. Errors: as step().
  void begin_step(const StepSpec& spec);
  /// The device's half. Neither copies nor waits, so that it can be captured; a replay takes its place.
  void run_step();
  std::int64_t step_number() const { return step_; }  // begun so far
  /// Of the step that was begun last.
  StepIdentity identity() const;

  // Of the last step. The first begins a copy, the others wait for it: see StepReading.
  StepReading reading() const;
  std::vector<ParameterSums> sums() const { return reading().sums(); }
  double penalty() const { return reading().penalty(); }
  double gradient_norm() const { return reading().gradient_norm(); }
  bool was_skipped() const { return reading().was_skipped(); }
  /// Of all steps so far, those of a checkpoint's run included. Waits for the device.
  std::int64_t skipped_steps() const { return skipped_before_ + skipped(); }
  std::vector<double> rates() const { return reading().rates(); }

  // For checkpoints. A parameter has state once it was updated; moment 2 exists for Adam and AdamW only.
  int moment_count() const { return spec_.kind == OptimizerKind::sgd ? 1 : 2; }
  /// Updates that parameter `i` has had.
  std::int64_t steps(std::int64_t i) const;
  /// Moment `which` (1 or 2) of parameter `i`, in the parameter's shape. Errors: the parameter is frozen; there are no
  /// moments yet, neither by a step nor by set_steps.
  Tensor moment(int which, std::int64_t i) const;
  void set_steps(std::int64_t i, std::int64_t steps);

  struct LossScaleState {
    double scale = 1, good_steps = 0;  // in a row since it last changed
    std::int64_t skipped_steps = 0;
  };
  /// Waits for the device. Requires OptimizerSpec::loss_scaling.
  LossScaleState loss_scale_state() const;
  void restore_loss_scale(const LossScaleState& state);

  /// Past gradient ratios of every rate group: [groups][1 + window], the number of ratios ever, then the last ones in a
  /// ring. Empty before the first step with relative_rates.
  struct RateHistory {
    int window = 0;
    std::vector<double> rows;
  };
  RateHistory rate_history() const;
  /// Errors: rows that are not whole.
  void restore_rate_history(const RateHistory& history);

 private:
  struct State {
    ParameterGroup group;
    std::int64_t steps = 0;    // begun; those skipped since `settle` are still counted
    std::int64_t offset = -1;  // into the moments; -1: frozen
  };
  void check(const StepSpec& spec) const;
  std::vector<std::size_t> parameters_with_gradient() const;
  void make_segments(const std::vector<std::size_t>& updated, bool has_rates);
  void prepare_control(std::int64_t groups);
  void prepare_history(std::int64_t groups, int window);
  bool measures(const StepSpec& spec) const {
    return spec_.loss_scaling || spec.loss_scale != 1 || spec.max_gradient_norm > 0 || spec.relative_rates;
  }
  UpdateArena arena() const;
  void make_moments();
  void measure(const UpdateArena& arena);
  void update(const UpdateArena& arena);
  std::int64_t skipped() const;
  /// Takes the steps that were skipped out of the counts. Waits for the device.
  void settle();
  std::int64_t rate_groups() const;

  ParameterSet& parameters_;
  OptimizerSpec spec_;
  std::vector<State> states_;        // one per parameter
  Tensor moment1_, moment2_;         // in the layout of the gradient arena
  Tensor anchors_;                   // in the layout of the value arena
  Tensor control_, history_, sums_;  // f64, as Backend::measure_gradients and update describe them

  std::int64_t step_ = 0;  // begun so far
  // The last step: which parameters it updated, and how.
  std::vector<std::size_t> updated_;
  std::vector<UpdateSegment> segments_;
  StepSpec step_spec_{.lr = 0};
  bool has_measured_ = false;
  bool may_have_skipped_ = false;    // since `settle`
  std::int64_t skipped_before_ = 0;  // up to then
};

}  // namespace graft
