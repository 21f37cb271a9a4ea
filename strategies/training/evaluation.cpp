#include "strategies/training/evaluation.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <numeric>

#include "data/csv.h"
#include "data/metrics.h"
#include "strategies/seconds.h"

namespace graft {

namespace {

/// In the order of the listing, as if one process had made them.
Predictions of_all_ranks(const Predictions& own, Ranks& ranks) {
  const std::vector<double> logits = gather_values<double>(ranks, own.logits);
  const std::vector<std::int32_t> labels = gather_values<std::int32_t>(ranks, own.labels);
  const std::vector<std::int64_t> samples = gather_values<std::int64_t>(ranks, own.samples);
  std::vector<std::size_t> order(samples.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, {}, [&](std::size_t i) { return samples[i]; });
  Predictions all{.classes = own.classes};
  for (const std::size_t i : order) {
    const auto row = logits.begin() + std::int64_t(i) * own.classes;
    all.logits.insert(all.logits.end(), row, row + own.classes);
    all.labels.push_back(labels[i]);
    all.samples.push_back(samples[i]);
  }
  return all;
}

}  // namespace

Predictions predict_batches(const Network& network, BatchSource& batches, const PredictionPass& pass,
                            ProgressSink& progress) {
  Context& context = network.context();
  const NoGrad no_grad(context);
  const EvaluationMode evaluation(context);
  Predictions predictions{.classes = network.num_classes()};
  Ranks& ranks = pass.ranks;
  PassProgress report{.pass = pass.name, .epoch = pass.epoch, .epochs = pass.epochs, .total = pass.count};
  const auto begin = std::chrono::steady_clock::now();
  batches.start(0, 0, {.rank = ranks.rank(), .ranks = ranks.count(), .window = ranks.count()});
  std::int64_t rows = pass.rows;
  bool is_stopped = false;
  for (DeviceBatch batch; batches.next(batch);) {
    is_stopped = pass.stop && *pass.stop;
    if (is_stopped) break;
    rows = rows_beside(context.backend(), batch.n(), rows);
    const Tensor x = filled_up(batch.x, rows);  // a step's plan is of every allocation in it
    const std::vector<double> logits = [&] {
      const PlannedStep step(context.backend(), -1 - rows * network.parts() - batch.part);
      return network.run_parts(x, batch.part, network.parts()).to_host();
    }();
    predictions.logits.insert(predictions.logits.end(), logits.begin(),
                              logits.begin() + batch.n() * predictions.classes);
    predictions.labels.insert(predictions.labels.end(), batch.labels.begin(), batch.labels.end());
    predictions.samples.insert(predictions.samples.end(), batch.samples.begin(), batch.samples.end());
    report.done = std::min(pass.count, predictions.n() * ranks.count());
    report.images_per_second = double(report.done) / seconds_since(begin);
    progress.advance(report);
  }
  progress.end_pass();
  if (ranks.any(is_stopped))
    predictions = {.classes = predictions.classes};
  else if (ranks.count() > 1)
    predictions = of_all_ranks(predictions, ranks);
  predictions.probabilities = softmax_rows(predictions.logits, predictions.classes);
  return predictions;
}

EvaluationResult evaluate_predictions(const Predictions& predictions, const std::vector<std::string>& class_names,
                                      std::string_view split) {
  return {compute_metrics(predictions.probabilities, predictions.labels, predictions.classes), class_names,
          std::string(split)};
}

std::string predictions_header(const std::vector<std::string>& class_names) {
  std::vector<std::string> header{"path", "split", "label", "predicted"};
  for (const std::string& name : class_names) header.push_back("p_" + name);
  return csv_line(header);
}

std::string predictions_lines(const Predictions& predictions, const Dataset& dataset,
                              const std::vector<std::string>& class_names,
                              const std::function<std::string(const Sample&)>& split_of) {
  const std::vector<std::int32_t> predicted = predicted_classes(predictions.probabilities, predictions.classes);
  std::string lines;
  for (std::int64_t i = 0; i < predictions.n(); ++i) {
    const auto n = std::size_t(i);
    const Sample& sample = dataset.samples()[std::size_t(predictions.samples[n])];
    std::vector<std::string> fields{sample.path, split_of(sample), class_names[std::size_t(predictions.labels[n])],
                                    class_names[std::size_t(predicted[n])]};
    for (std::int64_t c = 0; c < predictions.classes; ++c)
      fields.push_back(fmt::format("{:.9g}", predictions.probabilities[std::size_t(i * predictions.classes + c)]));
    lines += csv_line(fields);
  }
  return lines;
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
