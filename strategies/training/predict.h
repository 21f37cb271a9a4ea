// `graft predict` as a function: what a model says of images. Batches of them are predictor.h's business.
#pragma once

#include <string>
#include <vector>

#include "data/dataset.h"
#include "strategies/progress.h"
#include "tensor/context.h"

namespace graft {

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
  bool is_multi_label = false;  // every probability above 0.5 is a yes
  std::vector<Prediction> images;
  std::vector<BadImage> unreadable;
};

/// Images that cannot be decoded are left out and named in `unreadable`. Errors: a path that does not exist, a folder
/// without images; weights, memory.
PredictResult predict(Context& context, const PredictSettings& settings, ProgressSink& progress);

}  // namespace graft
