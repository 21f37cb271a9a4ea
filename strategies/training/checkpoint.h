// What a run must remember to continue with the same bits: counters, early stopping, the unfinished epoch's sums, the
// strategy's numbers, the optimizer's moments, anchors, gradient history and loss scale. Random numbers need nothing:
// they are functions of seed, epoch and index. The file is a model file with two more groups (data/model_file.h).
#pragma once

#include <string>
#include <vector>

#include "data/model_file.h"
#include "optim/optimizer.h"

namespace graft {

struct TrainState {
  std::int64_t epoch = 0;             // being trained, from 0; == epochs when all are done
  std::int64_t batches_in_epoch = 0;  // of it already used
  std::int64_t steps_in_epoch = 0;
  std::int64_t steps = 0;       // updates since the start
  std::int64_t best_epoch = 0;  // from 1; 0: none yet
  std::int64_t epochs_without_better = 0;
  bool stopped_early = false;
  double best_value = 0;  // the monitored score (monitor.h); NaN where there are no validation images
  // Sums over the images of the unfinished epoch.
  double loss_sum = 0, penalty_sum = 0;
  std::int64_t correct = 0, images = 0;
  // What the proof has shown so far: the most tensors and statistics frozen at one time, and how often all were
  // compared.
  std::int64_t frozen_tensors = 0, frozen_checks = 0;
  double train_seconds = 0;           // of all training passes
  double epoch_seconds = 0;           // of the unfinished epoch's training pass
  std::vector<double> strategy = {};  // Strategy::state()
};

/// The two groups. Moments and anchors are stored in the device's precision under "<parameter>.moment1" and
/// "<parameter>.anchor", the gradient history of relative rates under "rate_history", a loss scale and its count of
/// good steps under "loss_scale"; adapters in the state, under their names.
Checkpoint make_checkpoint(const TrainState& state, const ParameterSet& parameters, const Optimizer& optimizer);

/// Puts another state in a checkpoint's place of it.
void set_state(Checkpoint& checkpoint, const TrainState& state);

/// Whether weights have low-rank adapters (models/adapters.h).
bool has_adapters(const ParameterSet& parameters);
/// A checkpoint's weights are sums; this takes them apart again: adapters as the checkpoint holds them beside the sums,
/// the weights under them from the network that the run started from.
/// Errors: the checkpoint holds no adapters.
void restore_adapters(const Checkpoint& checkpoint, const ParameterSet& start, ParameterSet& parameters);

/// Errors: the checkpoint has no training state (a plain model file).
TrainState read_state(const Checkpoint& checkpoint);
/// Moments of the parameters that the checkpoint and the present freeze plan both train; anchors and the gradient
/// history if it holds them, in place of those the optimizer has. Errors: a moment or anchor of another size.
void restore_optimizer(const Checkpoint& checkpoint, const ParameterSet& parameters, Optimizer& optimizer);

}  // namespace graft
