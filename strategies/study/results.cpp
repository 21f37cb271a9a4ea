#include "strategies/study/results.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>

#include "data/csv.h"
#include "data/dataset.h"
#include "data/files.h"
#include "strategies/study/json.h"
#include "strategies/study/lock.h"
#include "strategies/study/state.h"
#include "strategies/training/resume_check.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

/// The heading of a class's column as parse_csv() gives it, without blanks at its end.
std::string column_of(const std::string& class_name) {
  const std::string column = "p_" + class_name;
  return column.substr(0, column.find_last_not_of(" \t") + 1);
}

/// Everything of a split's rows of predictions.csv; groups are filled in later.
CellPredictions predictions_of(const CsvTable& table, const std::vector<std::string>& class_names, Split split) {
  constexpr std::size_t kBefore = 4;  // path, split, label, predicted
  if (table.header.size() != kBefore + class_names.size() ||
      !std::equal(class_names.begin(), class_names.end(), table.header.begin() + kBefore,
                  [](const std::string& name, const std::string& column) { return column == column_of(name); }))
    throw Error("predictions.csv has other classes than summary.json");
  std::map<std::string, std::int32_t> label_of;
  for (std::size_t c = 0; c < class_names.size(); ++c) label_of[class_names[c]] = std::int32_t(c);
  const bool is_multi_label = table.header[2] == "labels";
  LabelNumbers numbers;
  CellPredictions p;
  for (const std::vector<std::string>& row : table.rows) {
    if (row.at(1) != to_string(split)) continue;
    p.paths.push_back(row.at(0));
    std::vector<std::int32_t> classes;
    for (const std::string& name : is_multi_label ? LabelSets::split(row.at(2)) : std::vector{row.at(2)})
      classes.push_back(label_of.at(name));
    p.labels.push_back(is_multi_label ? numbers.label_of(classes) : classes.front());
    for (std::size_t c = 0; c < class_names.size(); ++c)
      p.probabilities.push_back(number_field(row.at(kBefore + c), "predictions.csv"));
  }
  if (is_multi_label) p.label_sets = numbers.sets();
  return p;
}

/// Scores of all kinds from the predictions; those that the summary has are taken from there, before any rounding.
Metrics metrics_of(const CellPredictions& p, std::int64_t classes, const nlohmann::json& recorded) {
  if (p.labels.empty()) return {};
  Metrics m = compute_metrics(p.probabilities, p.labels, classes, p.label_sets);
  const std::pair<const char*, double*> scores[] = {{"loss", &m.loss},
                                                    {"accuracy", &m.accuracy},
                                                    {"macro_accuracy", &m.macro_accuracy},
                                                    {"macro_f1", &m.macro_f1},
                                                    {"kappa", &m.kappa},
                                                    {"auc", &m.auc},
                                                    {"average_precision", &m.average_precision}};
  for (const auto& [name, value] : scores)
    if (recorded.contains(name) && recorded.at(name).is_number()) *value = recorded.at(name);
  if (recorded.contains("confusion")) recorded.at("confusion").get_to(m.confusion);
  return m;
}

void read_groups(const fs::path& split_csv, CellPredictions& predictions) {
  const CsvTable table = parse_csv(read_text(split_csv), split_csv.string());
  std::map<std::string, std::string> group_of;
  for (const std::vector<std::string>& row : table.rows) group_of[row.at(0)] = row.at(3);
  for (const std::string& path : predictions.paths) predictions.groups.push_back(group_of[path]);
}

void read_finished(CellResult& cell, bool reads_predictions) {
  const nlohmann::json summary = nlohmann::json::parse(read_text(cell.directory / "summary.json"));
  summary.at("class_names").get_to(cell.class_names);
  summary.at("best_epoch").get_to(cell.best_epoch);
  summary.at("stopped_early").get_to(cell.stopped_early);
  summary.at("train_seconds").get_to(cell.train_seconds);
  summary.at("epochs").get_to(cell.epochs);
  summary.at("steps").get_to(cell.steps);
  if (!reads_predictions || !fs::exists(cell.directory / "predictions.csv")) return;
  const fs::path file = cell.directory / "predictions.csv";
  const CsvTable table = parse_csv(read_text(file), file.string());
  const std::int64_t classes = std::ssize(cell.class_names);
  cell.val =
      metrics_of(predictions_of(table, cell.class_names, Split::val), classes, summary.value("val", nlohmann::json()));
  cell.predictions = predictions_of(table, cell.class_names, Split::test);
  cell.test = metrics_of(cell.predictions, classes, summary.value("test", nlohmann::json()));
  read_groups(cell.directory / "split.csv", cell.predictions);
}

/// The rate that a run was trained with, as its configuration has it; 0: it says none.
double recorded_rate(const fs::path& folder) {
  if (!fs::exists(folder / "config.toml")) return 0;
  const auto keys = keys_of(read_text(folder / "config.toml"));
  const auto lr = keys.find("train.lr");
  return lr == keys.end() ? 0 : std::strtod(lr->second.c_str(), nullptr);
}

/// `lr`: what a cell is trained with that is not finished.
CellResult read_cell(const StudyCell& cell, const fs::path& folder, double lr, bool reads_predictions) {
  CellResult result{.cell = cell, .directory = folder, .lr = lr};
  const TaskState task = read_state(folder);
  result.state = task.state, result.error = task.error, result.runs = task.runs;
  result.curve = read_curve(folder);
  if (!result.curve.empty()) result.epochs = result.curve.back().epoch;
  if (task.state != CellState::finished) return result;
  if (const double recorded = recorded_rate(folder); recorded > 0) result.lr = recorded;
  try {
    read_finished(result, reads_predictions);
  } catch (const std::exception& error) {  // of the standard library: numbers, names, JSON
    throw Error(fmt::format("{}: its files do not fit together ({}); remove the folder and run the study again",
                            folder.string(), error.what()));
  }
  return result;
}

}  // namespace

std::string_view to_string(CellState state) {
  switch (state) {
    case CellState::pending:
      return "pending";
    case CellState::partial:
      return "partial";
    case CellState::failed:
      return "failed";
    case CellState::finished:
      return "finished";
  }
  throw Error("cell: unknown state");
}

StudyResults read_results(const fs::path& path, bool reads_predictions) {
  const StudyDirectory directory(path);
  if (!fs::exists(directory.spec()))
    throw Error(
        fmt::format("study: {} holds no study yet; graft study run FILE makes one, or name the folder that it wrote to",
                    path.string()));
  StudyResults results;
  results.directory = directory.path();
  results.spec = study_from_json(read_text(directory.spec()), directory.spec().string());
  results.is_running = is_held(directory.lock());
  std::map<std::string, double> rates;  // by the first trial, which cells of a group share
  for (const StudyCell& cell : cells_of(results.spec)) {
    const std::vector<StudyTrial> trials = trials_of(results.spec, cell);
    const std::string group = trials.empty() ? cell.id() : trials[0].id();
    if (const auto known = rates.find(group); known == rates.end()) {
      const std::size_t first = results.trials.size();
      for (const StudyTrial& trial : trials) results.trials.push_back(read_trial(results.spec, directory, trial));
      const std::vector<TrialResult> siblings(results.trials.begin() + std::ptrdiff_t(first), results.trials.end());
      if (const std::int64_t chosen = chosen_trial(results.spec, siblings); chosen >= 0)
        results.trials[first + std::size_t(chosen)].is_chosen = true;
      rates[group] = rate_of(results.spec, directory, cell);
    }
    results.cells.push_back(read_cell(cell, directory.of(cell), rates[group], reads_predictions));
  }
  return results;
}

}  // namespace graft
