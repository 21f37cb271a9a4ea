// The context of a computation: one device, one tape, the random numbers of dropout and the names of the modules being
// executed. Created in `main`, handed down, never global. Every tensor reaches its context.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tensor/tape.h"

namespace graft {

class Context {
 public:
  explicit Context(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {}
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context() { tape_.clear(); }

  Backend& backend() { return *backend_; }
  DType dtype() const { return backend_->compute_type(); }               // of parameters, statistics, losses
  DType activation_type() const { return backend_->activation_type(); }  // of what flows through the network
  Tape& tape() { return tape_; }

  /// Off under NoGrad.
  bool is_recording() const { return is_recording_; }

  /// Training or evaluation: evaluation makes batch norm use its running statistics and dropout do nothing. It leaves
  /// the freezing switches of parameters and statistics as they are.
  bool is_training() const { return is_training_; }
  void set_training(bool on) { is_training_ = on; }

  /// When on, batch norm is folded into the convolution before it where nothing is recorded; see Inference.
  bool folds_norms() const { return folds_norms_; }

  /// When on, what batch norms give is computed again in backward instead of being kept: less memory, one more pass per
  /// norm, the same bits.
  bool recomputes_norms() const { return recomputes_norms_; }
  void set_recomputes_norms(bool on) { recomputes_norms_ = on; }

  /// When on, every operation's result is checked and the first value that is not finite throws an Error naming the
  /// module and operation. Slow: for finding the culprit after a loss went bad.
  bool checks_finite() const { return checks_finite_; }
  void set_checks_finite(bool on) { checks_finite_ = on; }

  /// Random numbers of dropout and of stochastic normalisation: keyed by the seed, the step, and the order of these
  /// calls within it (at most 256). The first form keeps the step's number on the host. With the second it lies on the
  /// device as first_random_call(step) in `base`, so that what is recorded of a step can be repeated as another step.
  void start_step(std::uint64_t seed, std::int64_t step) { seed_ = seed, random_call_ = {first_random_call(step)}; }
  void start_step(std::uint64_t seed, const double* base) { seed_ = seed, random_call_ = {0, base}; }
  static std::uint32_t first_random_call(std::int64_t step) { return std::uint32_t(step) << 8; }
  std::uint64_t seed() const { return seed_; }
  RandomCall next_random_call() { return {random_call_.count++, random_call_.base}; }

  /// Reorders between memory formats that operations had to insert since the start.
  std::int64_t reorders = 0;

  /// "layer1.0.conv1": where execution is now.
  std::string scope() const;

 private:
  friend class Scope;
  friend class NoGrad;
  friend class EvaluationMode;
  friend class Inference;

  /// A switch has another value while it lives.
  class Setting {
   public:
    Setting(bool& is_on, bool value) : is_on_(is_on), before_(std::exchange(is_on, value)) {}
    Setting(const Setting&) = delete;
    Setting& operator=(const Setting&) = delete;
    ~Setting() { is_on_ = before_; }

   private:
    bool& is_on_;
    bool before_;
  };

  std::unique_ptr<Backend> backend_;
  Tape tape_;
  bool is_recording_ = true;
  bool is_training_ = true;
  bool recomputes_norms_ = false;
  bool folds_norms_ = false;
  bool checks_finite_ = false;
  std::uint64_t seed_ = 0;
  RandomCall random_call_;
  std::vector<std::string_view> scope_;
};

/// A range of device calls, for profilers; see Backend::push_range.
class NamedRange {
 public:
  NamedRange(Backend& backend, std::string_view name) : backend_(backend) { backend_.push_range(name); }
  NamedRange(const NamedRange&) = delete;
  NamedRange& operator=(const NamedRange&) = delete;
  ~NamedRange() { backend_.pop_range(); }

 private:
  Backend& backend_;
};

/// A step whose memory the device may plan; see Backend::begin_step for what `kind` means. A step that throws ends too.
class PlannedStep {
 public:
  PlannedStep(Backend& backend, std::int64_t kind) : backend_(backend), addresses_(backend.begin_step(kind)) {}
  PlannedStep(const PlannedStep&) = delete;
  PlannedStep& operator=(const PlannedStep&) = delete;
  ~PlannedStep() { end(); }
  std::uint64_t addresses() const { return addresses_; }
  /// Whether it kept to its plan.
  bool end() { return std::exchange(has_ended_, true) || backend_.end_step(); }

 private:
  Backend& backend_;
  std::uint64_t addresses_;
  bool has_ended_ = false;
};

/// Names what runs while it lives.
class Scope {
 public:
  Scope(Context& context, std::string_view name) : context_(context), range_(context.backend(), name) {
    context_.scope_.push_back(name);
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
  ~Scope() { context_.scope_.pop_back(); }

 private:
  Context& context_;
  NamedRange range_;
};

/// Nothing is recorded while it lives: evaluation and prediction.
class NoGrad {
 public:
  explicit NoGrad(Context& context) : recording_(context.is_recording_, false) {}

 private:
  Context::Setting recording_;
};

/// Evaluation while it lives: running statistics, no dropout; freezing switches are untouched.
class EvaluationMode {
 public:
  explicit EvaluationMode(Context& context) : training_(context.is_training_, false) {}

 private:
  Context::Setting training_;
};

/// Prediction alone while it lives: nothing is recorded, and batch norms are folded into convolutions, which is faster
/// and rounds otherwise. Validation and kept features do without: they stay the bits that training computes.
class Inference {
 public:
  explicit Inference(Context& context) : no_grad_(context), folding_(context.folds_norms_, true) {}

 private:
  NoGrad no_grad_;
  Context::Setting folding_;
};

}  // namespace graft
