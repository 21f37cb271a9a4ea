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
  Predictions all{.classes = own.classes, .label_sets = own.label_sets};
  for (const std::size_t i : order) {
    const auto row = logits.begin() + std::int64_t(i) * own.classes;
    all.logits.insert(all.logits.end(), row, row + own.classes);
    all.labels.push_back(labels[i]);
    all.samples.push_back(samples[i]);
  }
  return all;
}

/// Of each image the names of what it is taken for.
std::vector<std::string> predicted_names(const Predictions& predictions, const std::vector<std::string>& class_names) {
  std::vector<std::string> names;
  if (!predictions.label_sets.is_multi_label()) {
    for (const std::int32_t c : predicted_classes(predictions.probabilities, predictions.classes))
      names.push_back(class_names[std::size_t(c)]);
    return names;
  }
  for (std::int64_t i = 0; i < predictions.n(); ++i) {
    std::vector<std::int32_t> classes;
    for (std::int64_t c = 0; c < predictions.classes; ++c)
      if (predictions.probabilities[std::size_t(i * predictions.classes + c)] > 0.5) classes.push_back(std::int32_t(c));
    names.push_back(LabelSets({classes}).text(0, class_names));
  }
  return names;
}

nlohmann::ordered_json intervals_json(const EvaluationResult& m) {
  nlohmann::ordered_json all{{"level", 0.95}, {"groups", m.groups}};
  for (const auto& [score, i] : m.intervals)
    all[score == Score::log_loss ? "loss" : std::string(name(score))] = {
        {"low", i.low}, {"high", i.high}, {"method", i.method}, {"is_doubtful", i.is_doubtful}};
  return all;
}

}  // namespace

Predictions predict_batches(const Network& network, BatchSource& batches, const PredictionPass& pass,
                            ProgressSink& progress) {
  Context& context = network.context();
  const NoGrad no_grad(context);
  const EvaluationMode evaluation(context);
  Predictions predictions{.classes = network.num_classes(), .label_sets = pass.label_sets};
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
    predictions = {.classes = predictions.classes, .label_sets = pass.label_sets};
  else if (ranks.count() > 1)
    predictions = of_all_ranks(predictions, ranks);
  predictions.probabilities = probabilities_of(network.info(), predictions.logits);
  return predictions;
}

EvaluationResult evaluate_predictions(const Predictions& predictions, const std::vector<std::string>& class_names,
                                      std::string_view split) {
  return {compute_metrics(predictions.probabilities, predictions.labels, predictions.classes, predictions.label_sets),
          class_names, std::string(split)};
}

std::vector<double> probabilities_of(const ModelInfo& info, std::span<const double> logits) {
  return info.is_multi_label ? sigmoids(logits) : softmax_rows(logits, info.num_classes);
}

std::string predictions_header(const std::vector<std::string>& class_names, bool is_multi_label) {
  std::vector<std::string> header{"path", "split", is_multi_label ? "labels" : "label", "predicted"};
  for (const std::string& name : class_names) header.push_back("p_" + name);
  return csv_line(header);
}

std::string predictions_lines(const Predictions& predictions, const Dataset& dataset,
                              const std::vector<std::string>& class_names,
                              const std::function<std::string(const Sample&)>& split_of) {
  const std::vector<std::string> predicted = predicted_names(predictions, class_names);
  std::string lines;
  for (std::int64_t i = 0; i < predictions.n(); ++i) {
    const auto n = std::size_t(i);
    const Sample& sample = dataset.samples()[std::size_t(predictions.samples[n])];
    std::vector<std::string> fields{sample.path, split_of(sample),
                                    predictions.label_sets.text(predictions.labels[n], class_names), predicted[n]};
    for (std::int64_t c = 0; c < predictions.classes; ++c)
      fields.push_back(fmt::format("{:.9g}", predictions.probabilities[std::size_t(i * predictions.classes + c)]));
    lines += csv_line(fields);
  }
  return lines;
}

nlohmann::ordered_json classes_json(const Metrics& m, const std::vector<std::string>& class_names) {
  auto classes = nlohmann::ordered_json::array();
  for (std::size_t c = 0; c < m.of_classes.size(); ++c) {
    const ClassScores& s = m.of_classes[c];
    classes.push_back({{"name", class_names[c]},
                       {"positives", s.positives},
                       {"auc", s.auc},
                       {"average_precision", s.average_precision},
                       {"sensitivity", s.sensitivity},
                       {"specificity", s.specificity},
                       {"f1", s.f1}});
  }
  return classes;
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
  if (!m.is_multi_label()) j["confusion"] = m.confusion;
  j["weighted_f1"] = m.weighted_f1;
  j["sensitivity"] = m.sensitivity;
  j["specificity"] = m.specificity;
  j["brier"] = m.brier;
  j["calibration_error"] = m.calibration_error;
  if (m.is_multi_label()) {
    j["subset_accuracy"] = m.subset_accuracy;
    j["classes"] = classes_json(m, m.class_names);
  }
  if (!m.intervals.empty()) j["intervals"] = intervals_json(m);
  return j.dump();
}

}  // namespace graft
