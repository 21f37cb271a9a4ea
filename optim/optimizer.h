// SGD with momentum, Adam and AdamW over a network's parameter arenas: one device call updates all trainable
// parameters and never visits a frozen one. Gradients are read only. Which rule and which constants is fixed at
// construction; rates, decays and the set of trainable parameters may change between steps. Formulas:
// kernels/functors.h.
#pragma once

#include <string_view>

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
};

/// Requires the parameter set to outlive it. Parameters are named by their index in ParameterSet::parameters().
class Optimizer {
 public:
  Optimizer(ParameterSet& parameters, const OptimizerSpec& spec);

  /// Follows the parameters' present `is_trainable`; call after every ParameterSet::prepare_gradients. Moments of
  /// parameters that stay trainable are kept, those of new ones start at zero, as does their step count.
  void prepare();
  /// All moments and step counts to zero.
  void reset();

  /// The rate of parameter `i` is lr * lr_scale; its decay is coupled, for AdamW decoupled.
  void set_group(std::int64_t i, double lr_scale, double decay);

  /// One update from the gradients of the last backward pass. A parameter that got no gradient is skipped, as in
  /// PyTorch. Masked rows keep value and moments.
  void step(double lr);

  // For checkpoints. A parameter has state once it was updated; moment 2 exists for Adam and AdamW only.
  int moment_count() const { return spec_.kind == OptimizerKind::sgd ? 1 : 2; }
  std::int64_t steps(std::int64_t i) const { return groups_[i].steps; }
  /// Moment `which` (1 or 2) of parameter `i`, in the parameter's shape. Errors: the parameter is frozen.
  Tensor moment(int which, std::int64_t i) const;
  void set_steps(std::int64_t i, std::int64_t steps) { groups_[i].steps = steps; }

 private:
  struct Group {
    double lr_scale = 1, decay = 0;
    std::int64_t steps = 0;
    std::int64_t offset = -1;  // into the moments; -1: frozen
  };
  void update(double lr, std::int64_t steps, std::span<const UpdateSegment> segments);

  ParameterSet& parameters_;
  OptimizerSpec spec_;
  std::vector<Group> groups_;  // one per parameter
  Tensor moment1_, moment2_;   // in the layout of the gradient arena
};

}  // namespace graft
