// Evaluation of a network over batches: logits in, scores out, nothing recorded, running statistics used. The verbs
// that users meet are in run.h.
#pragma once

#include "data/metrics.h"
#include "strategies/batches/batch_source.h"
#include "strategies/progress.h"
#include "strategies/training/run.h"

namespace graft {

/// Evaluation mode while it lives; freezing switches are untouched.
class EvaluationMode {
 public:
  explicit EvaluationMode(Context& context) : context_(context), before_(context.is_training()) {
    context.set_training(false);
  }
  EvaluationMode(const EvaluationMode&) = delete;
  EvaluationMode& operator=(const EvaluationMode&) = delete;
  ~EvaluationMode() { context_.set_training(before_); }

 private:
  Context& context_;
  bool before_;
};

/// The network's answers for some samples, in the order in which they came.
struct Answers {
  std::int64_t classes = 0;
  std::vector<double> logits = {}, probabilities = {};  // (n, classes)
  std::vector<std::int32_t> labels = {};
  std::vector<std::int64_t> samples = {};
  std::int64_t n() const { return std::int64_t(labels.size()); }
};

/// Softmax of each row, in double.
std::vector<double> softmax(std::span<const double> logits, std::int64_t classes);

struct AnswerCall {
  std::string_view pass = "test";  // for the progress display
  std::int64_t epoch = 0, epochs = 0, count = 0;
  const std::atomic<bool>* stop = nullptr;
  std::int64_t rows = 0;  // of the batches of other passes; see rows_beside
};
/// One epoch of `batches` through the network. Fewer answers than `count` when `stop` was raised.
Answers answer(const Network& network, BatchSource& batches, const AnswerCall& call, ProgressSink& progress);

/// Errors: no answers.
EvaluationResult evaluate_answers(const Answers& answers, const std::vector<std::string>& class_names,
                                  std::string_view split);

}  // namespace graft
