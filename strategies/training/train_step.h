// One step of training on the device: forward, backward and, with the last of an update's batches, the update. Numbers
// that change from step to step lie in device memory before it begins, what it finds out is read afterwards, and
// nothing in between depends on the host. So where the device can (Backend::supports_capture) the calls are captured
// once and replayed. What is stepped on, and what becomes of the results, is fit.cpp's business.
#pragma once

#include <map>
#include <optional>

#include "nn/losses.h"
#include "optim/optimizer.h"
#include "strategies/batches/batch_source.h"
#include "strategies/strategy.h"
#include "strategies/training/replayed_calls.h"
#include "strategies/training/shared_update.h"

namespace graft {

/// A batch's part in an update.
struct StepCall {
  const DeviceBatch& batch;      // from TrainStep::inputs; empty: other ranks have all the update's batches
  double lr = 0;                 // read with the last batch
  std::int64_t random_step = 0;  // for Context::start_step
  double share = 1;              // of the batch's task loss in the update's
  double penalty_share = 1;      // of its penalty
  std::int64_t images_in_update = 0;
  bool is_first = true, is_last = true;  // of the update's batches that are this rank's
  DealtBatches dealt = {};               // read with the last batch
  bool records = false;                  // the optimizer keeps sums; with the last batch
};

/// What a step found out. Reading waits until the device is there; later steps do not change it.
class StepResult {
 public:
  StepResult(std::unique_ptr<HostCopy> report, std::optional<StepReading> update)
      : report_(std::move(report)), update_(std::move(update)) {}
  double loss() const { return number(kReportLoss); }
  double penalty() const { return number(kReportPenalty); }  // of this batch, beside what the update applies
  /// Right answers: of one label per image at most one, of several one for each class.
  std::int64_t correct() const { return std::int64_t(number(kReportCorrect)); }
  /// Of the update, if it recorded or measured anything.
  const std::optional<StepReading>& update() const { return update_; }

 private:
  double number(std::int64_t i) const { return static_cast<const double*>(report_->wait())[i]; }
  std::unique_ptr<HostCopy> report_;
  std::optional<StepReading> update_;
};

class TrainStep {
 public:
  struct Spec {
    Network& network;
    Strategy& strategy;
    Optimizer& optimizer;
    const TaskLoss& loss;
    const TrainSettings& settings;
    Ranks& ranks = lone_rank();  // that share an update's batches
    bool captures = false;       // steps of a kind are replayed once the device and the memory plan have settled
  };
  explicit TrainStep(const Spec& spec);

  /// What holds from now on, and how many parts of the network are frozen at its front (frozen_prefix.h).
  void follow(const EpochPlan& plan, int frozen_parts);
  /// Drops what was captured: after any change of what trains, of batch norm's switches or of the tensors themselves.
  void forget() { calls_.clear(); }
  /// Where batches of `images` images are to be put: the same memory every time.
  DeviceBatch& inputs(std::int64_t images) { return inputs_[images].batch; }
  /// One step. A loss or penalty that is not finite leaves the weights as they are, in this step and all later ones.
  /// Errors, on a device that captures: the step waits for the device or copies to or from the host.
  StepResult run(const StepCall& call);
  /// The network's answers, as a step computes them.
  Tensor logits(const DeviceBatch& batch) { return run_network(batch).logits; }
  /// SharedUpdate's, for gradients that all ranks have computed.
  void take_first_ranks_gradients() { shared_.take_first_ranks_gradients(); }
  bool captures() const { return spec_.captures; }
  /// Steps that were replays so far.
  std::int64_t replays() const { return replays_; }

 private:
  struct Pass {
    Tensor features, logits;      // the head's input and output
    std::vector<Tensor> outputs;  // of the blocks, if the strategy has a penalty
  };
  struct Inputs {
    DeviceBatch batch;
    Tensor labels;  // i32 [N] on the device
  };
  /// Steps of one kind make the same calls.
  struct Kind {
    Shape x;
    int part = 0;
    std::int64_t images_in_update = 0;  // 0 where nothing depends on it
    bool is_first = true, is_last = true, records = false;
    friend auto operator<=>(const Kind&, const Kind&) = default;
  };
  struct Identity {
    const void* x = nullptr;
    StepIdentity update;  // with the last batch
    friend bool operator==(const Identity&, const Identity&) = default;
  };

  StepResult run_without_batch(const StepCall& call);
  StepResult result_of(const StepCall& call, const StepSpec& update) const;
  void write_numbers(const StepCall& call);
  ConstView number(std::int64_t i) const { return numbers_.window(i, {1, 1, 1, 1}).view(); }
  Kind kind_of(const StepCall& call) const;
  StepSpec update_spec(const StepCall& call) const;
  bool is_penalised() const;
  ReplayedCalls<Identity>& calls_of(const StepCall& call);
  void replay(ReplayedCalls<Identity>& calls, const PlannedStep& step, const StepCall& call);

  // The step itself. The update is the optimizer's.
  void compute(const StepCall& call);
  Tensor forward(const StepCall& call);
  void backward(const Tensor& loss);
  Pass run_network(const DeviceBatch& batch);
  Tensor penalty(const StepCall& call, const Pass& pass);

  Spec spec_;
  Context& context_;
  SharedUpdate shared_;
  std::optional<EpochPlan> plan_;
  int frozen_parts_ = 0;
  std::map<std::int64_t, Inputs> inputs_;  // by the number of images
  Tensor numbers_, report_;                // f64
  std::map<Kind, ReplayedCalls<Identity>> calls_;
  std::int64_t kinds_ = 0;  // ever
  std::int64_t replays_ = 0;
};

/// Why steps of this run cannot be captured on a device that can capture; empty: they can.
std::string capture_obstacle(const TrainSettings& settings);
/// What "auto" in train.graph means on a device. Errors (UsageError): "on" where it is not possible.
std::string resolved_graph(const TrainSettings& settings, const Backend& device);

}  // namespace graft
