#include "strategies/study/state.h"

#include <algorithm>
#include <cmath>

#include "data/files.h"
#include "strategies/monitor.h"
#include "strategies/study/lock.h"
#include "strategies/study/settings.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& file) {
  const std::string text = read_text(file);
  return text.substr(0, text.find('\n'));
}

}  // namespace

bool is_divergence(std::string_view error_line) {
  const auto says = [&](std::string_view part) { return error_line.find(part) != std::string_view::npos; };
  // Weights may still be finite when what they give for validation images is not.
  return (says("training: ") && says("lower train.lr")) || says("metrics: a probability is not finite");
}

TaskState read_state(const fs::path& folder) {
  TaskState task;
  task.runs = is_held(folder / "log.txt");
  if (fs::exists(folder / "summary.json")) {
    task.state = CellState::finished;
  } else if (fs::exists(folder / "failed.txt")) {
    task.state = CellState::failed;
    task.error = first_line(folder / "failed.txt");
    task.diverged = is_divergence(task.error);
  } else if (task.runs || fs::exists(folder / "last.h5")) {
    task.state = CellState::partial;
  }
  return task;
}

std::vector<EpochReport> read_curve(const fs::path& folder) {
  if (!fs::exists(folder / "epochs.csv")) return {};
  return parse_epochs_csv(read_text(folder / "epochs.csv"));
}

TrialResult read_trial(const StudySpec& spec, const StudyDirectory& directory, const StudyTrial& trial) {
  TrialResult result{.trial = trial, .directory = directory.of(trial)};
  const TaskState task = read_state(result.directory);
  result.state = task.diverged ? CellState::finished : task.state;
  result.error = task.error;
  result.diverged = task.diverged;
  result.curve = read_curve(result.directory);
  if (task.state == CellState::finished) result.score = best_score(monitor_named(spec.selection), result.curve);
  return result;
}

std::int64_t chosen_trial(const StudySpec& spec, const std::vector<TrialResult>& trials) {
  std::int64_t best = -1;
  for (std::size_t i = 0; i < trials.size(); ++i) {
    if (trials[i].state != CellState::finished) return -1;
    if (std::isnan(trials[i].score)) continue;
    if (best < 0 || is_better(monitor_named(spec.selection), trials[i].score, trials[std::size_t(best)].score))
      best = std::int64_t(i);
  }
  return best;
}

double rate_of(const StudySpec& spec, const StudyDirectory& directory, const StudyCell& cell) {
  if (!is_tuned(spec, strategy_of(spec, cell.strategy))) return cell_settings(spec, directory, cell, 0).lr;
  std::vector<TrialResult> results;
  for (const StudyTrial& trial : trials_of(spec, cell)) results.push_back(read_trial(spec, directory, trial));
  const std::int64_t chosen = chosen_trial(spec, results);
  return chosen < 0 ? 0 : results[std::size_t(chosen)].trial.lr;
}

}  // namespace graft
