// A network's predictions for all images of a source, and their scores: nothing is recorded, running statistics are
// used. `graft evaluate` itself is evaluate.h.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset.h"
#include "data/metrics.h"
#include "data/model_file.h"
#include "data/statistics.h"
#include "kernels/ranks.h"
#include "strategies/batches/batch_source.h"
#include "strategies/progress.h"

namespace graft {

/// Of some samples, in the order in which they came.
struct Predictions {
  std::int64_t classes = 0;
  LabelSets label_sets = {};                            // what the labels stand for
  std::vector<double> logits = {}, probabilities = {};  // (n, classes)
  std::vector<std::int32_t> labels = {};
  std::vector<std::int64_t> samples = {};
  std::int64_t n() const { return std::int64_t(labels.size()); }
};

struct PredictionPass {
  std::string_view name = "test";  // for the progress display
  std::int64_t epoch = 0, epochs = 0, count = 0;
  const std::atomic<bool>* stop = nullptr;
  std::int64_t rows = 0;       // of the batches of other passes; see rows_beside
  Ranks& ranks = lone_rank();  // that share the work; each gets all predictions
  LabelSets label_sets = {};   // of the images
};
/// One epoch of `batches` through the network. Fewer predictions than `count` when `stop` was raised, on any rank.
Predictions predict_batches(const Network& network, BatchSource& batches, const PredictionPass& pass,
                            ProgressSink& progress);

/// Of each row of logits (n, classes): softmax, or of a model for several labels per image sigmoids.
std::vector<double> probabilities_of(const ModelInfo& info, std::span<const double> logits);

/// What is measured on a split; the metrics are the fields of summary.json's "test".
struct EvaluationResult : Metrics {
  std::vector<std::string> class_names;
  std::string split;
  std::map<Score, Interval> intervals = {};  // at 95 %; empty: they were not asked for
  std::int64_t groups = 0;                   // of images that the intervals keep together; 0: each is its own
};

/// The columns of predictions.csv: path, split, label, predicted, and p_<class> of each class. Of several labels per
/// image the third is `labels`, and a field of it or of `predicted`, where a probability exceeds 0.5, may name several.
std::string predictions_header(const std::vector<std::string>& class_names, bool is_multi_label = false);
/// A line for each prediction. `split_of` says in which split a sample counts.
std::string predictions_lines(const Predictions& predictions, const Dataset& dataset,
                              const std::vector<std::string>& class_names,
                              const std::function<std::string(const Sample&)>& split_of);

/// Of several labels per image [{"name":…, "positives":…, "auc":…, …}, …], a class each.
nlohmann::ordered_json classes_json(const Metrics& metrics, const std::vector<std::string>& class_names);

/// {"n":…, "loss":…, …} on one line, with "intervals" if there are any; NaN becomes null. Of several labels per image
/// "classes" instead of "confusion".
std::string to_json(const EvaluationResult& result);

/// Errors: no predictions.
EvaluationResult evaluate_predictions(const Predictions& predictions, const std::vector<std::string>& class_names,
                                      std::string_view split);

}  // namespace graft
