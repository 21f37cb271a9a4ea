#include "tests/apps/study_testing.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "data/csv.h"
#include "data/files.h"
#include "strategies/study/json.h"

namespace graft::testing {
namespace {

namespace fs = std::filesystem;

/// Numbers that depend on a text alone, on every machine. (std::normal_distribution may differ between libraries.)
class Noise {
 public:
  explicit Noise(const std::string& of) {
    std::uint32_t hash = 2166136261u;
    for (char c : of) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
    generator_.seed(hash);
  }
  /// Roughly normal, of variance 1.
  double operator()() {
    double sum = 0;
    for (int i = 0; i < 12; ++i) sum += double(generator_()) / 4294967295.0;
    return sum - 6;
  }

 private:
  std::mt19937 generator_;
};

CellPredictions answers(const MadeUpDataset& data, const StudyCell& cell, double skill) {
  CellPredictions p;
  const auto classes = std::int64_t(data.class_names.size());
  Noise difficulty(data.name), noise(cell.id());
  for (std::int64_t i = 0; i < data.images; ++i) {
    const std::int64_t number = i + (cell.fold < 0 ? 0 : cell.fold * data.images);
    p.paths.push_back(fmt::format("/data/{}/{:04}.jpg", data.name, number));
    p.groups.push_back(data.per_group > 0 ? fmt::format("patient {}", number / data.per_group) : "");
    p.labels.push_back(std::int32_t(i % classes));
    std::vector<double> e;
    const double hard = difficulty();
    for (std::int64_t c = 0; c < classes; ++c)
      e.push_back(std::exp(noise() + (c == i % classes ? data.ease + skill + hard : 0)));
    double sum = 0;
    for (double v : e) sum += v;
    for (double v : e) p.probabilities.push_back(v / sum);
  }
  return p;
}

CellResult finished(const MadeUpDataset& data, const StudyCell& cell, double skill, std::int64_t epochs) {
  CellResult result{.cell = cell, .directory = "/runs/" + cell.id(), .state = CellState::finished, .lr = 1e-3};
  result.epochs = epochs, result.steps = 10 * epochs, result.best_epoch = epochs,
  result.train_seconds = 40 + 20 * skill;
  result.class_names = data.class_names;
  result.predictions = answers(data, cell, skill);
  result.test =
      compute_metrics(result.predictions.probabilities, result.predictions.labels, std::ssize(data.class_names));
  Noise noise("curve " + cell.id());
  for (std::int64_t e = 1; e <= epochs; ++e) {
    const double x = double(e) / double(epochs), val = 0.5 + 0.3 * x + 0.01 * noise();
    result.curve.push_back({.epoch = e,
                            .lr = 1e-3,
                            .train_loss = 1.2 - x,
                            .train_accuracy = 0.5 + 0.45 * x,
                            .val_loss = 1.1 - 0.6 * x + 0.02 * noise(),
                            .val_accuracy = val,
                            .val_macro_accuracy = val,
                            .is_best = e == epochs,
                            .seconds = 2.5});
  }
  return result;
}

std::string epochs_csv(const std::vector<EpochReport>& curve) {
  std::string csv = epochs_csv_header() + "\n";
  for (const EpochReport& report : curve) csv += epochs_csv_line(report) + "\n";
  return csv;
}

void write_finished(const CellResult& cell, const fs::path& folder) {
  const CellPredictions& p = cell.predictions;
  std::vector<std::string> header{"path", "split", "label", "predicted"};
  for (const std::string& name : cell.class_names) header.push_back("p_" + name);
  std::string predictions = csv_line(header), split = "path,label,split,group\n";
  const std::vector<std::int32_t> predicted = predicted_classes(p.probabilities, std::ssize(cell.class_names));
  for (std::size_t i = 0; i < p.paths.size(); ++i) {
    const std::string& label = cell.class_names[std::size_t(p.labels[i])];
    std::vector<std::string> row{p.paths[i], "test", label, cell.class_names[std::size_t(predicted[i])]};
    for (std::size_t c = 0; c < cell.class_names.size(); ++c)
      row.push_back(fmt::format("{:.9g}", p.probabilities[i * cell.class_names.size() + c]));
    predictions += csv_line(row);
    split += csv_line({p.paths[i], label, "test", p.groups[i]});
  }
  write_atomically(folder / "predictions.csv", predictions);
  write_atomically(folder / "split.csv", split);
  write_atomically(folder / "summary.json", nlohmann::json{{"class_names", cell.class_names},
                                                           {"best_epoch", cell.best_epoch},
                                                           {"stopped_early", cell.stopped_early},
                                                           {"train_seconds", cell.train_seconds},
                                                           {"epochs", cell.epochs},
                                                           {"steps", cell.steps}}
                                                .dump());
}

}  // namespace

StudyResults made_up_results(const MadeUpStudy& study) {
  StudyResults results{.directory = "/study"};
  StudySpec& spec = results.spec;
  spec.title = "Made up";
  for (const std::string& name : study.networks) spec.networks.push_back({name, "/models/" + name + ".h5"});
  for (const MadeUpDataset& data : study.datasets) spec.datasets.push_back({data.name, "/data/" + data.name, {}});
  for (const std::string& name : study.strategies) spec.strategies.push_back({.name = name, .strategy = "full"});
  for (std::int64_t seed = 1; seed <= study.seeds; ++seed) spec.seeds.push_back(seed);
  spec.folds = study.folds;
  spec.tuning.trials = study.trials;
  for (const StudyCell& cell : cells_of(spec)) {
    const auto data = std::ranges::find(study.datasets, cell.dataset, &MadeUpDataset::name);
    const auto strategy = std::size_t(std::ranges::find(study.strategies, cell.strategy) - study.strategies.begin());
    results.cells.push_back(finished(*data, cell, study.skills.empty() ? 0 : study.skills[strategy], study.epochs));
    if (cell.seed != spec.seeds.front()) continue;
    for (const StudyTrial& trial : trials_of(spec, cell))
      results.trials.push_back({.trial = trial,
                                .state = CellState::finished,
                                .score = 0.6 + 0.05 * double(trial.number),
                                .is_chosen = trial.number == study.trials});
  }
  return results;
}

CellResult& cell_of(StudyResults& results, const std::string& id) {
  for (CellResult& cell : results.cells)
    if (cell.cell.id() == id) return cell;
  ADD_FAILURE() << "no cell " << id;
  return results.cells.front();
}

void write_study(const StudyResults& results, const fs::path& folder) {
  write_atomically(folder / "study.json", to_json(results.spec));
  write_atomically(folder / "study.toml", "[study]\n# made up <b>\n");
  for (const CellResult& cell : results.cells) {
    const fs::path run = folder / "runs" / cell.cell.id();
    if (cell.state == CellState::pending) continue;
    write_atomically(run / "epochs.csv", epochs_csv(cell.curve));
    if (cell.state == CellState::failed) write_atomically(run / "failed.txt", cell.error + "\n");
    if (cell.state == CellState::finished) write_finished(cell, run);
  }
}

StudyReport quick_report(const StudyResults& results) {
  return make_report(results, {.bootstrap = {.resamples = 200}, .threads = 2});
}

}  // namespace graft::testing
