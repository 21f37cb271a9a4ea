// graft study status: what of a study is finished, runs, failed or waits, and which rates its trials have chosen.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/study.h"
#include "apps/terminal.h"
#include "strategies/monitor.h"
#include "strategies/study/results.h"
#include "strategies/study/settings.h"

namespace graft {
namespace {

using nlohmann::ordered_json;

/// What is still to train, from the seconds per epoch that trainings of the same kind took.
struct TimeLeft {
  double seconds = 0;       // of one process after another
  bool is_complete = true;  // false: of some kinds nothing is known yet
};

std::string kind_of(const StudyCell& cell) { return cell.network + "/" + cell.dataset + "/" + cell.strategy; }

TimeLeft time_left(const StudyResults& results) {
  std::map<std::string, std::pair<double, double>> done;  // kind -> seconds, epochs
  const auto count = [&](const StudyCell& cell, const std::vector<EpochReport>& curve) {
    for (const EpochReport& row : curve) done[kind_of(cell)].first += row.seconds, ++done[kind_of(cell)].second;
  };
  for (const CellResult& cell : results.cells) count(cell.cell, cell.curve);
  for (const TrialResult& trial : results.trials) count(trial.trial.cell, trial.curve);
  TimeLeft left;
  const StudyDirectory directory(results.directory);
  const auto add = [&](const StudyCell& cell, std::int64_t epochs) {
    const auto known = done.find(kind_of(cell));
    if (known == done.end())
      left.is_complete = false;
    else
      left.seconds += known->second.first / known->second.second * double(std::max<std::int64_t>(0, epochs));
  };
  for (const CellResult& cell : results.cells)
    if (cell.state != CellState::finished)
      add(cell.cell, cell_settings(results.spec, directory, cell.cell, 0).epochs - cell.epochs);
  for (const TrialResult& trial : results.trials)
    if (trial.state != CellState::finished)
      add(trial.trial.cell, trial_epochs(results.spec, trial.trial.cell) - std::ssize(trial.curve));
  return left;
}

std::string state_text(CellState state, bool runs) { return runs ? "running" : std::string(to_string(state)); }

std::string lr_text(double lr) { return lr > 0 ? fmt::format("{:.3g}", lr) : "-"; }

/// What a trial scored, or why it has no score.
std::string trial_text(const TrialResult& trial) {
  if (trial.diverged) return "diverged";
  if (trial.state != CellState::finished) return std::string(to_string(trial.state));
  return std::isnan(trial.score) ? "-" : fmt::format("{:.3f}", trial.score);
}

std::string tuning_text(const StudyResults& results) {
  if (results.trials.empty()) return "";
  TextTable table({"tuning", "rates tried (validation)", "chosen"});
  table.align_left(1);
  std::map<std::string, std::vector<const TrialResult*>> groups;
  std::vector<std::string> order;
  for (const TrialResult& trial : results.trials) {
    const std::string id = trial.trial.id(), group = id.substr(0, id.rfind('/'));
    if (groups[group].empty()) order.push_back(group);
    groups[group].push_back(&trial);
  }
  for (const std::string& group : order) {
    std::string tried, chosen = "-";
    for (const TrialResult* trial : groups[group]) {
      tried += fmt::format("{}{} ({})", tried.empty() ? "" : ", ", lr_text(trial->trial.lr), trial_text(*trial));
      if (trial->is_chosen) chosen = lr_text(trial->trial.lr);
    }
    table.add({group, tried, chosen});
  }
  return "\n" + table.text();
}

std::string plain_text(const StudyResults& results) {
  TextTable table({"cell", "state", "epochs", "rate", "best validation"});
  table.align_left(1);
  const StudyDirectory directory(results.directory);
  std::map<CellState, std::int64_t> counts;
  std::string failures;
  for (const CellResult& cell : results.cells) {
    ++counts[cell.state];
    const TrainSettings settings = cell_settings(results.spec, directory, cell.cell, 0);
    table.add({cell.cell.id(), state_text(cell.state, cell.runs), fmt::format("{}/{}", cell.epochs, settings.epochs),
               lr_text(cell.lr), score_text(best_score(monitor_named(settings.monitor), cell.curve))});
    if (cell.state == CellState::failed) failures += fmt::format("{}: {}\n", cell.cell.id(), cell.error);
  }
  for (const TrialResult& trial : results.trials)
    if (trial.state == CellState::failed) failures += fmt::format("{}: {}\n", trial.trial.id(), trial.error);
  std::string text = table.text() + tuning_text(results);
  if (!failures.empty()) text += "\n" + emphasised("failed", Emphasis::bold, stdout) + "\n" + failures;
  text += fmt::format("\n{} of {} cells finished, {} failed; {}\n", counts[CellState::finished], results.cells.size(),
                      counts[CellState::failed], results.is_running ? "running" : "not running");
  const TimeLeft left = time_left(results);
  if (left.seconds > 0)
    text += fmt::format("{} {} left, one training after another\n", left.is_complete ? "about" : "more than",
                        duration_text(left.seconds));
  return text;
}

ordered_json curve_end(const std::vector<EpochReport>& curve) {
  if (curve.empty()) return nullptr;
  const EpochReport& row = curve.back();
  return {{"epoch", row.epoch}, {"train_loss", row.train_loss}, {"val_macro_accuracy", row.val_macro_accuracy}};
}

std::string json_text(const StudyResults& results) {
  ordered_json cells = ordered_json::array(), trials = ordered_json::array();
  const StudyDirectory directory(results.directory);
  for (const CellResult& cell : results.cells) {
    ordered_json j{{"id", cell.cell.id()}, {"state", state_text(cell.state, cell.runs)},
                   {"epoch", cell.epochs}, {"epochs", cell_settings(results.spec, directory, cell.cell, 0).epochs},
                   {"lr", nullptr},        {"last", curve_end(cell.curve)}};
    if (cell.lr > 0) j["lr"] = cell.lr;
    if (!cell.error.empty()) j["error"] = cell.error;
    cells.push_back(std::move(j));
  }
  for (const TrialResult& trial : results.trials) {
    ordered_json j{{"id", trial.trial.id()},
                   {"state", to_string(trial.state)},
                   {"lr", trial.trial.lr},
                   {"score", nullptr},
                   {"chosen", trial.is_chosen}};
    if (!std::isnan(trial.score)) j["score"] = trial.score;
    if (trial.diverged) j["diverged"] = true;
    if (!trial.error.empty()) j["error"] = trial.error;
    trials.push_back(std::move(j));
  }
  const TimeLeft left = time_left(results);
  return ordered_json{{"directory", results.directory.string()},
                      {"running", results.is_running},
                      {"cells", std::move(cells)},
                      {"trials", std::move(trials)},
                      {"seconds_left", left.is_complete ? ordered_json(left.seconds) : ordered_json(nullptr)}}
             .dump(-1, ' ', false, ordered_json::error_handler_t::replace) +
         "\n";
}

int run_study_status(const StudyOptions& options) {
  const StudyResults results = read_results(existing_directory(options).path(), false);
  print_result(options.is_json ? json_text(results) : plain_text(results));
  return 0;
}

}  // namespace

void add_study_status_verb(Command& study) {
  Command verb = study.verb("status", "Show what is finished, runs, failed or waits");
  auto options = std::make_shared<StudyOptions>();
  verb.argument("STUDY", "The study's file, TOML, or its folder", options->file);
  verb.option({.flag = "-o,--output",
               .group = "Files",
               .help = "of a file: folder of the study; the default is the file without .toml"},
              options->output);
  verb.output_options(options->is_json, options->is_quiet);
  verb.example("  graft study status study.toml\n  graft study status study/");
  verb.run([options] { return run_study_status(*options); });
}

}  // namespace graft
