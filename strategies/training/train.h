// `graft train` as a function: a run from the opening of its data to its test, in files of its directory
// (run_directory.h). Callers own the context (device) and the progress display. The loop itself is fit.h.
#pragma once

#include <atomic>
#include <map>
#include <string>

#include "kernels/ranks.h"
#include "strategies/progress.h"
#include "strategies/train_settings.h"
#include "strategies/training/evaluation.h"

namespace graft {

class ImagesAhead;

/// What a call brings besides its settings.
struct RunCall {
  std::string config_toml;   // resolved settings, written as RUN/config.toml
  std::string command_line;  // for environment.json
  /// Set (by a signal handler, say) to stop: a checkpoint is written and the result says so.
  const std::atomic<bool>* stop = nullptr;
  /// Of the same settings, which began to open the images before there was a device; null: train() opens them.
  ImagesAhead* images = nullptr;
  /// Processes that make the same call and train together: they share each update's batches, and the first writes the
  /// run's files.
  Ranks& ranks = lone_rank();
};

struct RunResult {
  bool was_interrupted = false;                        // exit code 130; last.h5 continues with --resume
  bool was_finished_before = false;                    // --resume of a finished run: nothing was done
  std::int64_t epochs = 0, steps = 0, best_epoch = 0;  // best_epoch from 1; 0: no epoch was completed
  double best_val_score = 0;                           // NaN where there are no validation images
  std::string monitor;                                 // the score that it is (monitor.h)
  bool has_test = false;
  EvaluationResult test;
  std::map<std::string, double> seconds;  // of this process, by part (run_clock.h)
  std::string summary_json;               // the contents of RUN/summary.json
};

/// Errors (graft::Error): see check() and check_leaks(); an existing run directory without resume or
/// overwrite; data, weights, memory; a loss that is not finite (names the step and the first bad layer; the last
/// checkpoint stays); several ranks and a GPU, or fewer batches per update than ranks (UsageError).
RunResult train(Context& context, const TrainSettings& settings, const RunCall& call, ProgressSink& progress);

}  // namespace graft
