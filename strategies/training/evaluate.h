// `graft evaluate` as a function: the scores of a model on data.
#pragma once

#include <string>

#include "strategies/progress.h"
#include "strategies/training/evaluation.h"

namespace graft {

struct EvaluateSettings {
  std::string model;  // RUN or MODEL.h5; of a RUN best.h5. A run's split.csv decides the splits, for its files too
  std::string data;
  std::string split = "test";  // train | val | test | all
  std::int64_t batch = 32, threads = 0, seed = 0, size = 0, image_cache_mb = 0;
  double val_fraction = 0.2, test_fraction = 0.2;
  bool skip_bad = false;
  bool intervals = false;   // 95 % intervals of the scores; images of one group vary together
  std::string predictions;  // a file to write, in the columns of a run's predictions.csv; empty: none
};

/// Where neither a run nor the data knows the split, it is drawn by the seed, with a note.
/// Errors: the data has a class that the model lacks, or several labels per image and the model has not, or the other
/// way round; the split is empty; intervals of images that are all of one group.
EvaluationResult evaluate(Context& context, const EvaluateSettings& settings, ProgressSink& progress);

}  // namespace graft
