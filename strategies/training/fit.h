// The training loop, the only one: epochs over batches as the strategy plans them, with early stopping and checkpoints.
// It knows nothing of command lines, model import or test results; train.cpp surrounds it with those.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "models/network_io.h"
#include "nn/losses.h"
#include "strategies/analysis/internals_recorder.h"
#include "strategies/batches/split_batches.h"
#include "strategies/monitor.h"
#include "strategies/progress.h"
#include "strategies/training/checkpoint_writer.h"
#include "strategies/training/evaluation.h"
#include "strategies/training/frozen_proof.h"
#include "strategies/training/run_clock.h"
#include "strategies/training/run_directory.h"
#include "strategies/training/tensorboard.h"
#include "strategies/training/train_step.h"

namespace graft {

struct FitSpec {
  Network& network;
  const Dataset& dataset;
  const TrainSettings& settings;
  SplitBatches& batches;
  const RunDirectory& directory;
  const std::atomic<bool>* stop = nullptr;
  StartingNetwork starting_network = {};  // for strategies that compare with it
  RunClock* clock = nullptr;              // gets the parts of run(); null: nobody asks
  Ranks& ranks = lone_rank();             // that share each update's batches
};

/// The task's loss, or its gradient where that is measured, was NaN or infinite; the message names the step and, of a
/// loss, the first layer with a bad value.
struct LossNotFinite : Error {
  using Error::Error;
};

/// Updates at other rates than the schedule's, as a learning-rate range test asks for them.
struct SweepSpec {
  std::int64_t epoch = 0;  // from 0; its plan holds throughout
  std::int64_t steps = 0;
  std::function<double(std::int64_t step)> lr;  // from 0; in place of train.lr, the plan's factors come on top
  /// Gets the task's loss before each update, NaN once it is not finite, which ends the sweep as `false` does.
  std::function<bool(std::int64_t step, double loss)> take_loss;
};

class Fit {
 public:
  /// `strategy`: another than the one that the settings name.
  Fit(const FitSpec& spec, ProgressSink& progress, std::unique_ptr<Strategy> strategy = nullptr);
  Fit(const Fit&) = delete;
  Fit& operator=(const Fit&) = delete;

  /// Continues from a checkpoint whose weights the network already holds.
  void resume(const Checkpoint& checkpoint);
  /// Writes last.h5 as things are, and best.h5 if there is a better one than it holds; where the device works by
  /// itself, on a thread of its own.
  void save();
  /// Returns when the files are there. Errors: they could not be written.
  void finish_saving() { checkpoints_.finish(); }
  /// Takes the weights of the best epoch, from memory if it was one of this process.
  void load_best() { checkpoints_.load_best(); }
  /// Trains until epochs, steps or patience are used up; after finish_saving() last.h5 exists and, once an epoch was
  /// validated, best.h5. False when `stop` was raised: last.h5 continues from there. Whole epochs compete for the best;
  /// one that max_steps cuts short is validated, but is the best only if none was completed, until the run continues.
  /// Errors: a loss or weight that is not finite (the step, the first layer with a bad value); a frozen tensor that
  /// changed. After any error last.h5 is as the last save() left it, and best.h5 has the best weights so far.
  /// Of several ranks the first writes all files; when one fails for its numbers, all end (OtherRankFailed).
  bool run();
  /// Trains the network as it is, pass after pass over the training images. Writes no file and validates nothing; the
  /// network is left as the last update made it. Takes the place of run(). False when `stop` was raised.
  bool sweep(const SweepSpec& sweep);

  const TrainState& state() const { return state_; }
  const Monitor& monitor() const { return monitor_; }
  /// Updates that loss scaling skipped so far.
  std::int64_t skipped_steps() const { return optimizer_.skipped_steps(); }
  /// Whether the best epoch came before the strategy's last stage, though that has begun.
  bool best_is_of_earlier_stage();
  /// Whether nothing is left to train.
  bool is_done() const;

 private:
  enum class EpochEnd { complete, out_of_steps, stopped };
  /// The batches of one update.
  struct Window {
    std::int64_t batches = 0;
    std::int64_t images = 0;
    double weight = 0;              // of their samples in the loss
    std::vector<std::int64_t> own;  // this rank's, by their numbers in the epoch
    DealtBatches dealt = {};
  };
  /// What an update's steps found out; of all ranks once take_update has them.
  struct UpdateSums {
    double loss = 0, penalty = 0;          // of the update: means over its images, or by the samples' weights
    double loss_sum = 0, penalty_sum = 0;  // over its images
    double images = 0, correct = 0;
    double failures = 0, stops = 0;  // ranks
  };
  /// A step that was begun, until its results are read.
  struct Pending {
    StepResult result;
    StepCall call;  // its batch is no longer there
    std::int64_t images = 0;
    std::int64_t update = 0, epoch = 0, batch = 0;  // its update's number, from 1; epoch and batch in it, from 0
    std::optional<InternalsRecorder::Snapshot> record = {};
  };

  /// A step whose loss was not finite.
  struct FailedStep {
    std::int64_t update = 0, epoch = 0, batch = 0, random_step = 0;  // as in Pending and StepCall
    double loss = 0;
  };

  void open_logs();
  bool begin_epoch();
  bool probe();
  void find_gradients(const DeviceBatch& batch, std::int64_t position, double& loss_scale);
  void restore_best();
  bool train();
  RunClock::Part part(const char* name) { return {clock_, name}; }
  void show(std::string_view tag, const std::function<Image(const Transform&)>& sheet);
  bool adopt(const FreezePlan& freeze);
  bool start_behind_prefix();
  void set_groups(const EpochPlan& plan);
  void note_plan(const EpochPlan& plan);
  void verify_frozen();
  EpochEnd train_epoch();
  bool sweep_epoch(const SweepSpec& sweep);
  void check_has_batches() const;
  std::int64_t usable_batches() const;
  Window next_window(const std::vector<std::int64_t>& order) const;
  void train_window(BatchSource& source, const Window& window, double lr);
  void begin_step(const StepCall& call, std::int64_t batch);
  void read_results(std::size_t pending);
  void take_result(const Pending& step);
  void take_update(const Pending& step);
  [[noreturn]] void fail_together();
  double sample_weight(std::int32_t label) const;
  double learning_rate() const;
  void note_loss_scale();
  bool finish_epoch(bool is_partial);
  std::optional<Predictions> validate(EpochReport& report);
  void write_epoch(const EpochReport& report);
  void close_epoch(const EpochReport& report);
  [[noreturn]] void stop_not_finite(const FailedStep& step);
  [[noreturn]] void stop_not_finite(const DeviceBatch& batch, std::int64_t update, double loss);
  void check_weights_finite() const;
  [[noreturn]] void stop_not_finite_answers();
  std::string kept_checkpoint();
  bool is_out_of_steps() const;
  /// Ranks stop together: after the update during which one was told to.
  bool is_stopping() const { return ranks_.count() > 1 ? stops_with_others_ : is_told_to_stop(); }
  bool is_told_to_stop() const { return spec_.stop && *spec_.stop; }
  BatchShare batch_share() const { return {ranks_.rank(), ranks_.count(), spec_.settings.accumulate}; }
  void check_ranks_agree();

  FitSpec spec_;
  const Monitor& monitor_;
  RunClock own_clock_;
  RunClock& clock_;
  Ranks& ranks_;
  ProgressSink& progress_;
  Context& context_;
  ParameterSet& parameters_;
  std::unique_ptr<Strategy> strategy_;
  Optimizer optimizer_;
  std::vector<double> class_weights_;  // empty: all one
  TaskLoss loss_;

  TrainState state_;
  CheckpointWriter checkpoints_;
  std::optional<Checkpoint> resumed_;  // until its moments are restored
  std::optional<EpochPlan> plan_;
  std::optional<FreezePlan> adopted_;      // what the parameters follow
  std::int64_t skipped_before_epoch_ = 0;  // updates, by loss scaling
  std::string truth_table_;                // as last shown
  FrozenPrefix prefix_;                    // of adopted_
  FrozenProof proof_;

  std::optional<GrowingCsv> epochs_csv_, steps_csv_;
  std::optional<InternalsRecorder> recorder_;
  std::optional<TensorboardLog> tensorboard_;

  TrainStep step_;
  std::deque<Pending> pending_;                                 // begun, not yet read
  UpdateSums update_;                                           // whose results are being read
  std::optional<FailedStep> failed_;                            // of them, the first
  bool stops_with_others_ = false, fails_with_others_ = false;  // as all ranks know
  double last_loss_ = 0;                                        // of the last update that was read
};

}  // namespace graft
