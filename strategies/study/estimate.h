// What a study will take: seconds, memory and disk, from a few probed steps of every kind. Rates are measured once, on
// the machine and device that will run it; estimates are made from them, also of smaller studies, without measuring
// again. How a study is made to fit a time is budget.h's.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "strategies/study/tasks.h"
#include "tensor/context.h"

namespace graft {

/// One stage of a strategy: epochs in which the same things train.
struct StageRates {
  double begin_seconds = 0;       // until the first step: hashes, what the device prepares
  double step_seconds = 0;        // one update from full batches
  double update_seconds = 0;      // of which do not depend on the images
  double validation_seconds = 0;  // an image
  double last_seconds = 0;        // writing last.h5
  std::int64_t last_bytes = 0;
  // Auto-RGN and its like look at the gradients of some batches before an epoch.
  std::int64_t observed_batches = 0;
  double observe_seconds = 0;  // an image
  // What frozen blocks give is kept:
  bool keeps_features = false;
  int feature_parts = 0;           // of that many parts of the network
  double feature_seconds = 0;      // an image, once
  std::int64_t feature_bytes = 0;  // an image
};

/// One network with one strategy.
struct TaskRates {
  std::vector<StageRates> stages;
  std::int64_t memory_bytes = 0;  // of the device, by a dry run
};

/// One network, whatever trains.
struct NetworkRates {
  double start_seconds = 0;  // a process, its device, reading the model
  double test_seconds = 0;   // an image
  double best_seconds = 0;   // writing best.h5
  std::int64_t best_bytes = 0;
};

struct DatasetRates {
  double open_seconds = 0;                          // an image: decoding it once when a run starts
  double load_seconds = 0;                          // an image: decoding and resizing it for a batch
  std::int64_t image_bytes = 0, decoded_bytes = 0;  // of an image as it stays between epochs, and as it is
};

struct StudyRates {
  std::map<std::pair<std::string, std::string>, TaskRates> tasks;  // network, strategy
  std::map<std::string, NetworkRates> networks;
  std::map<std::string, DatasetRates> datasets;
  SplitCounts counts;
  bool device_waits = true;  // decoding takes time from computing: it is not a GPU
  double seconds = 0;        // that measuring took
  std::int64_t probes = 0;
};

struct MeasureCall {
  std::function<std::unique_ptr<Context>(TrainSettings&)> open;  // the device that the settings name
  double seconds = 60;                                           // to spend, about
  std::int64_t threads = 0;                                      // as each training will have; the settings' go first
  int decoding_threads = 1;                                      // of images, to list and check them
  std::filesystem::path program;                                 // as a run starts it
  std::filesystem::path scratch;                                 // a folder that may be filled and is left empty
  std::function<void(std::string_view)> note;
  const std::atomic<bool>* stop = nullptr;
};

/// Splits need not be fixed yet; images are listed, and some of them decoded. Steps that would take long are probed
/// with smaller batches and scaled by their images. Errors: check_study(); data; the device.
StudyRates measure_rates(const StudySpec& spec, const MeasureCall& call);

/// Seconds of one training, by what they go to.
struct TaskSeconds {
  double start = 0, features = 0, training = 0, validation = 0, saving = 0, test = 0;
  double total() const { return start + features + training + validation + saving + test; }
};

/// Tasks of one network, dataset and strategy: its trials, or its cells of all seeds and folds.
struct KindEstimate {
  std::string kind;  // "resnet50/chest/full", "resnet50/chest/full trial"
  std::int64_t tasks = 0, epochs = 0;
  TaskSeconds each, shortest;                     // shortest: if patience ends every training as early as it may
  double seconds = 0;                             // of all of them, what they share counted once
  std::int64_t memory_bytes = 0, disk_bytes = 0;  // of one: while it runs; kept once it has finished
};

/// Outputs of frozen blocks that the trainings of a network on a dataset share: each file is computed once.
struct SharedFeatures {
  std::string network, dataset;
  std::int64_t files = 0, bytes = 0;  // one file per depth and fold
};

struct StudyEstimate {
  std::vector<KindEstimate> kinds;
  double seconds = 0, shortest_seconds = 0;  // of the whole study with this many jobs
  std::int64_t jobs = 1;
  std::int64_t memory_bytes = 0;                     // of all jobs at once, at most
  std::int64_t disk_bytes = 0, disk_peak_bytes = 0;  // kept, and at most
  std::vector<SharedFeatures> shared;
};

/// Errors (UsageError): a strategy cannot be run with so few epochs.
StudyEstimate estimate_study(const StudySpec& spec, const StudyRates& rates, std::int64_t jobs);

}  // namespace graft
