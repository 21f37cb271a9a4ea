#include "strategies/training/inference.h"

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "strategies/seconds.h"

namespace graft {

std::vector<double> softmax(std::span<const double> logits, std::int64_t classes) {
  std::vector<double> p(logits.begin(), logits.end());
  for (auto row = p.begin(); row != p.end(); row += classes) {
    const double top = *std::max_element(row, row + classes);
    double sum = 0;
    for (std::int64_t c = 0; c < classes; ++c) sum += row[c] = std::exp(row[c] - top);
    for (std::int64_t c = 0; c < classes; ++c) row[c] /= sum;
  }
  return p;
}

Answers answer(const Network& network, BatchSource& batches, const AnswerCall& call, ProgressSink& progress) {
  Context& context = network.context();
  const NoGrad no_grad(context);
  const EvaluationMode evaluation(context);
  Answers answers{.classes = network.num_classes()};
  PassProgress report{.pass = call.pass, .epoch = call.epoch, .epochs = call.epochs, .total = call.count};
  const auto begin = std::chrono::steady_clock::now();
  batches.start(0);
  std::int64_t rows = call.rows;
  for (DeviceBatch batch; batches.next(batch);) {
    if (call.stop && *call.stop) break;
    rows = rows_beside(context.backend(), batch.n(), rows);
    const Tensor x = filled_up(batch.x, rows);  // a step's plan is of every allocation in it
    const std::vector<double> logits = [&] {
      const PlannedStep step(context.backend(), -1 - rows * network.parts() - batch.part);
      return network.run_parts(x, batch.part, network.parts()).to_host();
    }();
    answers.logits.insert(answers.logits.end(), logits.begin(), logits.begin() + batch.n() * answers.classes);
    answers.labels.insert(answers.labels.end(), batch.labels.begin(), batch.labels.end());
    answers.samples.insert(answers.samples.end(), batch.samples.begin(), batch.samples.end());
    report.done = answers.n();
    report.images_per_second = double(report.done) / seconds_since(begin);
    progress.advance(report);
  }
  progress.end_pass();
  answers.probabilities = softmax(answers.logits, answers.classes);
  return answers;
}

EvaluationResult evaluate_answers(const Answers& answers, const std::vector<std::string>& class_names,
                                  std::string_view split) {
  return {compute_metrics(answers.probabilities, answers.labels, answers.classes), class_names, std::string(split)};
}

std::string to_json(const EvaluationResult& m) {
  nlohmann::ordered_json j;  // NaN becomes null
  j["n"] = m.n;
  j["loss"] = m.loss;
  j["accuracy"] = m.accuracy;
  j["macro_accuracy"] = m.macro_accuracy;
  j["macro_f1"] = m.macro_f1;
  j["kappa"] = m.kappa;
  j["auc"] = m.auc;
  j["average_precision"] = m.average_precision;
  j["confusion"] = m.confusion;
  j["weighted_f1"] = m.weighted_f1;
  j["sensitivity"] = m.sensitivity;
  j["specificity"] = m.specificity;
  j["brier"] = m.brier;
  j["calibration_error"] = m.calibration_error;
  return j.dump();
}

}  // namespace graft
