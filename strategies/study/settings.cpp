#include "strategies/study/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "data/architectures.h"
#include "kernels/dry_backend.h"
#include "strategies/monitor.h"
#include "strategies/study/splits.h"
#include "strategies/training/epoch_steps.h"
#include "strategies/training/starting_model.h"

namespace graft {
namespace {

constexpr std::array<std::string_view, 12> kOfStudy{"strategy.name",      "train.data",     "train.output",
                                                    "train.weights",      "train.arch",     "train.seed",
                                                    "train.from_scratch", "train.resume",   "train.overwrite",
                                                    "train.probe_from",   "train.new_head", "train.feature_cache_dir"};

constexpr std::array<std::string_view, 12> kScoreNames{
    "accuracy",    "macro_accuracy", "macro_f1", "weighted_f1",       "kappa",   "auc", "average_precision",
    "sensitivity", "specificity",    "brier",    "calibration_error", "log_loss"};

/// What is neither of the cell nor of its trials alone.
TrainSettings common_settings(const StudySpec& spec, const StudyDirectory& directory, const StudyCell& cell) {
  const StudyStrategy& strategy = strategy_of(spec, cell.strategy);
  const StudyNetwork& network = network_of(spec, cell.network);
  TrainSettings s;
  choose_strategy(s, strategy.strategy);
  for (const auto& [key, value] : spec.train) set_by_key(s, key, value);
  for (const auto& [key, value] : strategy.settings) set_by_key(s, key, value);
  s.monitor = monitor_of(s.monitor, false).name;
  const StudyDataset& dataset = dataset_of(spec, cell.dataset);
  if (!dataset.allow.empty()) set_by_key(s, "train.allow_leaks", fmt::format("{}", fmt::join(dataset.allow, ",")));
  s.intensity_window = window_of(spec, dataset);
  s.weights = network.weights;
  s.from_scratch = network.weights.empty();
  if (s.from_scratch) s.arch = network.name;
  s.feature_cache_dir = directory.features().string();
  s.resume = true;
  s.leak_check =
      false;  // the study has judged its splits; a trial sees a part of them, which would be judged otherwise
  return s;
}

Context dry_context() { return Context(std::make_unique<DryBackend>(Device{DeviceKind::reference}, BackendOptions{})); }

/// Updates in the first `epochs` of a training.
std::int64_t updates_in(const TrainSettings& s, const ModelInfo& info, std::int64_t epochs, std::int64_t images) {
  Context context = dry_context();
  const std::unique_ptr<Network> network = make_network(context, info);
  const std::unique_ptr<Strategy> strategy = make_strategy(s);
  std::int64_t updates = 0;
  for (std::int64_t epoch = 0; epoch < epochs; ++epoch) {
    const EpochPlan plan = plan_epoch(*strategy, s, {epoch, s.epochs, network->parameters(), network->blocks()});
    updates += (usable_batches(images, s.batch, plan.freeze) + s.accumulate - 1) / s.accumulate;
  }
  return updates;
}

constexpr std::int64_t kAnyClasses = 2;  // stages do not depend on their number

bool runs_complete(const StudySpec& spec, const StudyCell& cell, const TrainSettings& s) {
  return stages_of_model(s, model_of(spec, cell, kAnyClasses)).size() <= 2;
}

template <class List>
void check_known(std::string_view key, std::string_view value, const List& known) {
  if (std::ranges::find(known, value) != known.end()) return;
  const std::string near = nearest_name(value, {known.begin(), known.end()});
  throw UsageError(fmt::format("{}: '{}' is unknown{}; choose one of {}", key, value,
                               near.empty() ? "" : ", did you mean '" + near + "'?", fmt::join(known, ", ")));
}

/// Names become folders.
template <class T>
void check_names(const std::vector<T>& all, std::string_view kind) {
  if (all.empty()) throw UsageError(fmt::format("study.{}: names none; give at least one", kind));
  std::set<std::string> seen;
  for (const T& one : all) {
    const auto is_plain = [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.' || c == '+';
    };
    if (one.name.empty() || one.name[0] == '.' || !std::ranges::all_of(one.name, is_plain))
      throw UsageError(
          fmt::format("study.{}: '{}' is no name for a folder; use letters, digits, - _ + and .", kind, one.name));
    if (!seen.insert(one.name).second) throw UsageError(fmt::format("study.{}: '{}' is named twice", kind, one.name));
  }
}

void check_numbers(const StudySpec& spec) {
  if (spec.seeds.empty()) throw UsageError("study.seeds: names none; give at least one, as seeds = [1, 2, 3]");
  if (std::set(spec.seeds.begin(), spec.seeds.end()).size() != spec.seeds.size())
    throw UsageError("study.seeds: one is named twice");
  if (std::ranges::any_of(spec.seeds, [](std::int64_t seed) { return seed < 0; }))
    throw UsageError("study.seeds: expects at least 0");
  if (spec.folds == 1) throw UsageError("study.folds: expects at least 2, or 0 for one split");
  check_known("study.selection", spec.selection, monitor_names());
  check_known("study.score", spec.score, kScoreNames);
}

void check_network(const StudyNetwork& network) {
  const auto known = architecture_names();
  if (!network.weights.empty()) return;
  if (std::ranges::find(known, network.name) == known.end())
    throw UsageError(fmt::format("study.networks: {} has no file in [study.weights], and from scratch there are {}",
                                 network.name, fmt::join(known, ", ")));
}

/// Of one network and strategy, with any of the datasets.
void check_combination(const StudySpec& spec, const StudyCell& cell) {
  const StudyDirectory nowhere("study");
  const std::string place = fmt::format("study: {}, {}: ", cell.network, cell.strategy);
  try {
    TrainSettings s = cell_settings(spec, nowhere, cell, 0);
    check(s);
    stages_of_model(s, model_of(spec, cell, kAnyClasses));
    for (const StudyTrial& trial : trials_of(spec, cell)) {
      s = trial_settings(spec, nowhere, trial, s.batch);
      check(s);
      stages_of_model(s, model_of(spec, cell, kAnyClasses));
    }
  } catch (const UsageError& error) {
    throw UsageError(place + error.what());
  } catch (const Error& error) {
    throw Error(place + error.what());
  }
}

void check_tuning(const StudySpec& spec) {
  if (spec.tuning.trials == 0) return;
  for (const auto& [key, value] : spec.train)
    if (key == "train.lr")
      throw UsageError(
          "train.lr: study.tuning chooses the rate of every strategy; leave it out, or set it in [strategy.…]");
}

/// What decides which epochs and trials are best has no default that suits several labels per image as well as one.
void check_monitor_is_set(const StudySpec& spec, const StudyDataset& dataset) {
  const auto says_which = [](const auto& setting) {
    return setting.first == "train.monitor" && setting.second != SettingValue(std::string(kAutoMonitor));
  };
  if (std::ranges::any_of(spec.train, says_which)) return;
  throw UsageError(
      fmt::format("study: {} has any number of labels per image, of which macro accuracy says little early on; write "
                  "monitor = \"auc\" or another score in [train], and score = \"auc\" in [study]",
                  dataset.path));
}

}  // namespace

bool is_of_study(std::string_view key) { return std::ranges::find(kOfStudy, key) != kOfStudy.end(); }

TrainSettings cell_settings(const StudySpec& spec, const StudyDirectory& directory, const StudyCell& cell, double lr) {
  TrainSettings s = common_settings(spec, directory, cell);
  s.data = directory.data(spec, cell, false).string();
  s.output = directory.of(cell).string();
  s.seed = cell.seed;
  if (lr > 0) s.lr = lr;
  return s;
}

std::int64_t trial_epochs(const StudySpec& spec, const StudyCell& cell) {
  const std::int64_t epochs = common_settings(spec, StudyDirectory("study"), cell).epochs;
  if (spec.tuning.epochs > 0) return std::min(spec.tuning.epochs, epochs);
  return std::min(epochs, std::max<std::int64_t>(2, epochs / 3));
}

TrainSettings trial_settings(const StudySpec& spec, const StudyDirectory& directory, const StudyTrial& trial,
                             std::int64_t training_images) {
  TrainSettings s = common_settings(spec, directory, trial.cell);
  s.data = directory.data(spec, trial.cell, true).string();
  s.output = directory.of(trial).string();
  s.seed = trial.cell.seed;
  s.lr = trial.lr;
  s.patience = 0;
  s.record_every = 0;
  const std::int64_t all = s.epochs, epochs = trial_epochs(spec, trial.cell);
  if (!runs_complete(spec, trial.cell, s)) {
    const std::int64_t updates = updates_in(s, model_of(spec, trial.cell, kAnyClasses), epochs, training_images);
    s.max_steps = s.max_steps < 0 ? updates : std::min(s.max_steps, updates);
    return s;
  }
  s.epochs = epochs;
  if (const auto probe = s.strategy_settings.find("probe_epochs"); probe != s.strategy_settings.end())
    if (const std::int64_t set = std::get<std::int64_t>(probe->second); set > 0)
      probe->second = std::max<std::int64_t>(1, std::llround(double(set * epochs) / double(all)));
  return s;
}

ModelInfo model_of(const StudySpec& spec, const StudyCell& cell, std::int64_t classes) {
  const StudyNetwork& network = network_of(spec, cell.network);
  const TrainSettings s = common_settings(spec, StudyDirectory("study"), cell);
  ModelInfo info;
  if (s.from_scratch) {
    info.architecture = s.arch;
  } else {
    info = read_model_info(s.weights);
    const auto known = architecture_names();
    if (info.architecture != network.name && std::ranges::find(known, network.name) != known.end())
      throw UsageError(
          fmt::format("study.weights: {} holds a {}, not a {}", s.weights, info.architecture, network.name));
  }
  if (s.head != "auto") info.head = s.head;
  info.num_classes = classes;
  info.class_names.clear();
  set_input_size(info, s.size, s.resize);
  return info;
}

std::vector<Stage> stages_of_model(const TrainSettings& settings, const ModelInfo& info) {
  Context context = dry_context();
  return stages_of(settings, *make_network(context, info));
}

std::vector<std::string> check_study(const StudySpec& spec) {
  check_names(spec.networks, "networks");
  check_names(spec.datasets, "datasets");
  check_names(spec.strategies, "strategies");
  check_numbers(spec);
  check_tuning(spec);
  for (const StudyNetwork& network : spec.networks) check_network(network);
  for (const StudyDataset& dataset : spec.datasets) {
    check_split_settings(spec, dataset);
    if (!std::filesystem::exists(dataset.path))
      throw Error(fmt::format("study.datasets: {} ({}) does not exist; expected a folder, a .csv or a MedMNIST .npz",
                              dataset.name, dataset.path));
    if (has_several_labels(dataset.path)) check_monitor_is_set(spec, dataset);
  }
  std::vector<std::string> notes;
  for (const StudyStrategy& strategy : spec.strategies) {
    for (const StudyNetwork& network : spec.networks)
      check_combination(spec, {network.name, spec.datasets[0].name, strategy.name, spec.seeds[0], -1});
    if (spec.tuning.trials > 0 && !is_tuned(spec, strategy))
      notes.push_back(fmt::format("{}: its rate is set, so it is not tuned", strategy.name));
  }
  return notes;
}

}  // namespace graft
