// The jobs that verbs of the program do: train into a run directory, evaluate a model on data, predict images.
// Callers own the context (device) and the progress display; results come back as values, files appear in the run
// directory. The loop itself is fit.h, batch inference predict.h.
#pragma once

#include <atomic>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/metrics.h"
#include "strategies/progress.h"
#include "strategies/train_settings.h"
#include "tensor/context.h"

namespace graft {

/// What is measured on a split; the metrics are the fields of summary.json's "test".
struct EvaluationResult : Metrics {
  std::vector<std::string> class_names;
  std::string split;
};

/// {"n":…, "loss":…, …} on one line; NaN becomes null.
std::string to_json(const EvaluationResult& result);

class ImagesAhead;

/// What a call brings besides its settings.
struct RunCall {
  std::string config_toml;   // resolved settings, written as RUN/config.toml
  std::string command_line;  // for environment.json
  /// Set (by a signal handler, say) to stop: a checkpoint is written and the result says so.
  const std::atomic<bool>* stop = nullptr;
  /// Of the same settings, which began to open the images before there was a device; null: train() opens them.
  ImagesAhead* images = nullptr;
};

struct RunResult {
  bool was_interrupted = false;                        // exit code 130; last.h5 continues with --resume
  bool was_finished_before = false;                    // --resume of a finished run: nothing was done
  std::int64_t epochs = 0, steps = 0, best_epoch = 0;  // best_epoch from 1; 0: no epoch was completed
  double best_val_macro_accuracy = 0;
  bool has_test = false;
  EvaluationResult test;
  std::map<std::string, double> seconds;  // of this process, by part (run_clock.h)
  std::string summary_json;               // the contents of RUN/summary.json
};

/// `graft train`. Errors (graft::Error): see check() and check_leaks(); an existing run directory without resume or
/// overwrite; data, weights, memory; a loss that is not finite (names the step and the first bad layer; the last
/// checkpoint stays).
RunResult train(Context& context, const TrainSettings& settings, const RunCall& call, ProgressSink& progress);

struct EvaluateSettings {
  std::string model;  // RUN or MODEL.h5; of a RUN best.h5. A run's split.csv decides the splits, for its files too
  std::string data;
  std::string split = "test";  // train | val | test | all
  std::int64_t batch = 32, threads = 0, seed = 0, size = 0, image_cache_mb = 0;
  double val_fraction = 0.2, test_fraction = 0.2;
  bool skip_bad = false;
};

/// Where neither a run nor the data knows the split, it is drawn by the seed, with a note.
/// Errors: the data has a class that the model lacks; the split is empty.
EvaluationResult evaluate(Context& context, const EvaluateSettings& settings, ProgressSink& progress);

struct PredictSettings {
  std::string model;                // RUN or MODEL.h5
  std::vector<std::string> images;  // files and folders
  std::int64_t batch = 32, threads = 0, size = 0;
};

struct Prediction {
  std::string path;
  std::vector<double> logits, probabilities;  // per class
  /// Class indices, most probable first; ties by index.
  std::vector<std::int64_t> ranking(std::int64_t top) const;
};

struct PredictResult {
  std::string model;
  std::vector<std::string> class_names;
  std::vector<Prediction> images;
  std::vector<BadImage> unreadable;
};

/// Images that cannot be decoded are left out and named in `unreadable`. Errors: a path that does not exist, a folder
/// without images; weights, memory.
PredictResult predict(Context& context, const PredictSettings& settings, ProgressSink& progress);

/// Where RUN or MODEL.h5 keeps its weights: best.h5, else last.h5 of a folder. Errors: there is none.
std::filesystem::path model_file_of(const std::filesystem::path& run_or_model);

}  // namespace graft
