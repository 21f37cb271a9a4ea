#include "strategies/study/tasks.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "data/csv.h"
#include "data/files.h"
#include "strategies/study/json.h"
#include "strategies/study/leaks.h"
#include "strategies/study/splits.h"
#include "strategies/study/state.h"
#include "strategies/training/resume_check.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

/// Where and how a training runs, not what it computes; and what a study looks at in other ways.
constexpr auto kNoPartOfResult = std::to_array<std::string_view>({"train.output",
                                                                  "train.data",
                                                                  "train.weights",
                                                                  "train.feature_cache_dir",
                                                                  "train.feature_cache_mb",
                                                                  "train.image_cache_mb",
                                                                  "train.device_image_cache_mb",
                                                                  "train.loader_threads",
                                                                  "train.threads",
                                                                  "train.graph",
                                                                  "train.recompute",
                                                                  "train.fused_norms",
                                                                  "train.growth_kernels",
                                                                  "train.probe_from",
                                                                  "train.tensorboard",
                                                                  "train.cudnn_timing",
                                                                  "train.cudnn_plan_cache",
                                                                  "train.cudnn_workspace_mb",
                                                                  "train.skip_bad",
                                                                  "train.allow_leaks",
                                                                  "train.leak_check"});

bool matters(std::string_view key) { return std::ranges::find(kNoPartOfResult, key) == kNoPartOfResult.end(); }

/// Whether a value as a run recorded it is the one asked for now. "auto" leaves the choice to the machine; which of
/// several GPUs it was makes no difference.
bool is_same(std::string_view key, const std::string& before, const std::string& now) {
  if (key != "train.precision" && key != "train.device") return before == now;
  const auto kind = [](const std::string& value) { return value.substr(0, value.find_first_of(":\"", 1)); };
  return now == "\"auto\"" || kind(before) == kind(now == "\"fp16\"" ? "\"f16\"" : now);
}

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

/// Files that a program which was killed was still writing.
void remove_unfinished(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> unfinished;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error))
    if (entry.path().filename().string().find(".tmp.") != std::string::npos) unfinished.push_back(entry.path());
  for (const fs::path& file : unfinished) fs::remove(file, error);
}

std::int64_t first_fold(const StudySpec& spec) { return spec.folds > 0 ? 0 : -1; }

bool has_splits(const StudySpec& spec, const StudyDirectory& directory, const StudyDataset& dataset) {
  if (is_npz(dataset)) return true;
  for (std::int64_t fold = first_fold(spec); fold < std::max<std::int64_t>(spec.folds, 0); ++fold)
    for (const bool for_tuning : {false, true})
      if (!is_there(directory.split(dataset.name, fold, for_tuning))) return false;
  return true;
}

void write_splits(const StudySpec& spec, const StudyDirectory& directory, const StudyDataset& dataset,
                  const StudyPreparation& call) {
  const fs::path key = directory.split_key(dataset.name);
  fs::remove(key);  // written last: splits without it are unfinished
  const std::vector<StudySplit> splits = make_splits(spec, dataset, true, call.threads);
  for (const BadImage& bad : splits[0].skipped) call.note(fmt::format("skipped {}: {}", bad.path, bad.reason));
  if (const auto& dark = splits[0].dark)
    call.note(fmt::format("{}: {}; in [study.datasets] write {} = {{ path = \"{}\", intensity_window = \"{}\" }}",
                          dataset.name, dark->text, dataset.name, dataset.path, dark->window));
  judge_leaks(splits, dataset, directory);
  std::int64_t fold = first_fold(spec);
  for (const StudySplit& split : splits) {
    for (const bool for_tuning : {false, true})
      if (!is_npz(dataset))
        write_atomically(directory.split(dataset.name, fold, for_tuning), to_csv(split, for_tuning));
    ++fold;
  }
  write_atomically(key, split_key(spec, dataset) + "\n");
}

/// A training that was begun, and why it cannot stay.
struct Change {
  std::string id;
  fs::path folder;
  std::string what;
  bool is_named = true;  // the study's file has it now
};

[[noreturn]] void refuse(const std::vector<Change>& changes, const StudyDirectory& directory) {
  constexpr std::size_t kShown = 20;
  std::string list;
  for (std::size_t i = 0; i < std::min(changes.size(), kShown); ++i)
    list += fmt::format("\n{}: {}{}", changes[i].id, changes[i].what,
                        changes[i].is_named ? "" : " (not in the file now: --overwrite removes it)");
  if (changes.size() > kShown) list += fmt::format("\nand {} more", changes.size() - kShown);
  throw Error(fmt::format(
      "study: {} of {} {} run with other settings; restore them, add --overwrite to run {} again, "
      "or choose another -o{}",
      changes.size() == 1 ? "a training" : fmt::format("{} trainings", changes.size()), directory.path().string(),
      changes.size() == 1 ? "was" : "were", changes.size() == 1 ? "it" : "them", list));
}

/// Removes what a training has left, its result first: half a folder is none.
void remove_run(const fs::path& folder) {
  std::error_code error;
  for (const char* state : {"summary.json", "failed.txt"}) fs::remove(folder / state, error);
  if (fs::remove_all(folder, error); error)
    throw Error(fmt::format("study: cannot remove {}: {}", folder.string(), error.message()));
}

void settle(const std::vector<Change>& changes, const StudyDirectory& directory, const StudyPreparation& call) {
  if (changes.empty()) return;
  if (!call.overwrites) refuse(changes, directory);
  for (const Change& change : changes) {
    call.note(fmt::format("{} {}: {}", change.id, change.is_named ? "begins anew" : "is removed", change.what));
    remove_run(change.folder);
  }
}

/// All that was begun on a dataset with its former splits, whatever the study's file names now: what is left out for a
/// while would be compared with other training images when it comes back.
std::vector<Change> begun_with_splits(const StudySpec& spec, const StudyDirectory& directory,
                                      const std::string& dataset, const std::string& what) {
  std::set<std::string> named;
  for (const StudyTask& task : tasks_of(spec)) named.insert(task.id());
  std::vector<Change> begun;
  for (const char* kind : {"tuning", "runs"}) {
    const fs::path root = directory.path() / kind;
    std::error_code none;
    for (const fs::directory_entry& network : fs::directory_iterator(root, none))
      for (const fs::directory_entry& file : fs::recursive_directory_iterator(network.path() / dataset, none)) {
        if (file.path().filename() != "config.toml") continue;
        const fs::path folder = file.path().parent_path();
        const std::string id = folder.lexically_relative(root).generic_string();
        begun.push_back({id, folder, what, named.contains(id)});
      }
  }
  std::ranges::stable_sort(begun, {}, &Change::id);
  return begun;
}

/// What a begun task's config.toml has otherwise than this one; of a cell whose trials are still to choose its rate,
/// the rate does not count.
std::string difference(const StudyDirectory& directory, const StudyTask& task, const std::string& toml,
                       bool is_rate_open) {
  const auto before = keys_of_run(folder_of(directory, task) / "config.toml"), asked = keys_of(toml);
  for (const auto& [key, value] : asked) {
    const auto old = before.find(key);
    if (old == before.end() || !matters(key) || is_same(key, old->second, value)) continue;
    if (is_decided_by_weights(key, asked)) continue;
    if (is_rate_open && key == "train.lr") continue;
    return fmt::format("{} was {} and is now {}", key, old->second, value);
  }
  return {};
}

/// The weights' hash is in environment.json as the first start found it.
std::string changed_weights(const StudyDirectory& directory, const StudyTask& task, const std::string& sha256) {
  const fs::path file = folder_of(directory, task) / "environment.json";
  if (sha256.empty() || !is_there(file)) return {};
  const auto environment = nlohmann::json::parse(read_text(file), nullptr, false);
  if (!environment.is_object() || environment.value("model_sha256", sha256) == sha256) return {};
  return "the file of its network's weights has another content now";
}

std::vector<Change> changed_tasks(const StudySpec& spec, const StudyDirectory& directory, const ToToml& to_toml) {
  const SplitCounts counts = split_counts(spec, directory);
  std::map<std::string, std::string> hashes;
  for (const StudyNetwork& network : spec.networks)
    hashes[network.name] = network.weights.empty() ? "" : sha256_of_file(network.weights);
  std::vector<Change> changes;
  std::map<std::string, TrainSettings> trials;  // planning one takes time, and siblings differ by their rates
  std::set<std::string> changed_trials;         // ids; what they scored says nothing of the rates they have now
  for (const StudyTask& task : tasks_of(spec)) {
    if (!is_there(folder_of(directory, task) / "config.toml")) continue;
    TrainSettings settings;
    if (task.trial) {
      const auto [sibling, is_first] = trials.try_emplace(fmt::format("{} {}", kind_of(task), task.cell.fold));
      if (is_first) sibling->second = task_settings(spec, directory, task, counts);
      settings = sibling->second;
      settings.lr = task.trial->lr;
    } else {
      settings = task_settings(spec, directory, task, counts);
    }
    const bool is_rate_open =
        !task.trial && (rate_of(spec, directory, task.cell) == 0 ||
                        std::ranges::any_of(trials_of(spec, task.cell), [&](const StudyTrial& trial) {
                          return changed_trials.contains(trial.id());
                        }));
    std::string what = difference(directory, task, to_toml(settings), is_rate_open);
    if (what.empty()) what = changed_weights(directory, task, hashes.at(task.cell.network));
    if (what.empty()) continue;
    if (task.trial) changed_trials.insert(task.id());
    changes.push_back({task.id(), folder_of(directory, task), std::move(what)});
  }
  return changes;
}

/// Splits that are there stay, even if images came or went since. What they were made from lies beside them: the
/// study's file may have lost and regained a dataset meanwhile, and a program that was killed may not have come to the
/// end.
void fix_splits(const StudySpec& spec, const StudyDirectory& directory, const StudyPreparation& call) {
  for (const StudyDataset& dataset : spec.datasets) {
    const bool is_other = !has_fixed_splits(spec, dataset, directory);
    if (is_other) {
      const fs::path key = directory.split_key(dataset.name);
      const std::string now = split_key(spec, dataset), before = is_there(key) ? read_text(key) : "";
      const std::string what = before.empty()
                                   ? std::string("its splits were not finished")
                                   : fmt::format("its splits had {}; now {}", before.substr(0, before.size() - 1), now);
      settle(begun_with_splits(spec, directory, dataset.name, what), directory, call);
    }
    if (is_other || !has_splits(spec, directory, dataset)) {
      write_splits(spec, directory, dataset, call);
    } else {
      judge_leaks_again(spec, dataset, directory, call.threads);
    }
  }
}

}  // namespace

std::string kind_of(const StudyTask& task) {
  return fmt::format("{}/{}/{}{}", task.cell.network, task.cell.dataset, task.cell.strategy,
                     task.trial ? " trial" : "");
}

std::vector<StudyTask> tasks_of(const StudySpec& spec) {
  std::vector<StudyTask> tasks;
  std::set<std::string> seen;  // trials belong to all seeds
  for (const StudyCell& cell : cells_of(spec)) {
    for (const StudyTrial& trial : trials_of(spec, cell))
      if (seen.insert(trial.id()).second) tasks.push_back({cell, trial});
    tasks.push_back({cell});
  }
  return tasks;
}

StudyTask task_named(const StudySpec& spec, std::string_view id) {
  std::vector<std::string> ids;
  for (const StudyTask& task : tasks_of(spec)) {
    if (task.id() == id) return task;
    ids.push_back(task.id());
  }
  const std::string near = nearest_name(id, {ids.begin(), ids.end()});
  throw UsageError(fmt::format("--cell: the study has no '{}'{}", id,
                               near.empty() ? "; graft study status lists all" : ", did you mean '" + near + "'?"));
}

fs::path folder_of(const StudyDirectory& directory, const StudyTask& task) {
  return task.trial ? directory.of(*task.trial) : directory.of(task.cell);
}

void remove_task(const StudyDirectory& directory, const StudyTask& task) { remove_run(folder_of(directory, task)); }

SplitCounts split_counts(const StudySpec& spec, const StudyDirectory& directory) {
  SplitCounts counts;
  for (const StudyDataset& dataset : spec.datasets)
    for (std::int64_t fold = first_fold(spec); fold < std::max<std::int64_t>(spec.folds, 0); ++fold) {
      std::array<std::int64_t, 3>& count = counts[{dataset.name, fold}];
      if (is_npz(dataset)) {
        const StudySplit split = make_splits(spec, dataset, false, 1)[0];
        for (const Split part : kSplits) count[std::size_t(part)] = split.count(part);
        continue;
      }
      const fs::path file = directory.split(dataset.name, fold, false);
      for (const std::vector<std::string>& row : parse_csv(read_text(file), file.string()).rows)
        for (const Split part : kSplits) count[std::size_t(part)] += row.at(2) == to_string(part);
    }
  return counts;
}

TrainSettings task_settings(const StudySpec& spec, const StudyDirectory& directory, const StudyTask& task,
                            const SplitCounts& counts) {
  if (task.trial)
    return trial_settings(spec, directory, *task.trial,
                          counts.at({task.cell.dataset, task.cell.fold})[std::size_t(Split::train)]);
  return cell_settings(spec, directory, task.cell, rate_of(spec, directory, task.cell));
}

std::string changed_setting(const StudySpec& spec, const StudyDirectory& directory, const StudyTask& task,
                            const SplitCounts& counts, const ToToml& to_toml) {
  if (!is_there(folder_of(directory, task) / "config.toml")) return {};
  const bool is_rate_open = !task.trial && rate_of(spec, directory, task.cell) == 0;
  return difference(directory, task, to_toml(task_settings(spec, directory, task, counts)), is_rate_open);
}

void prepare_study(const StudySpec& spec, const StudyDirectory& directory, const StudyPreparation& call) {
  for (const std::string& note : check_study(spec)) call.note(note);
  remove_unfinished(directory.path());
  remove_unfinished(directory.path() / "splits");
  remove_unfinished(directory.features());
  std::error_code error;
  fs::remove_all(directory.probe(), error);
  fix_splits(spec, directory, call);
  settle(changed_tasks(spec, directory, call.to_toml), directory, call);
  write_atomically(directory.path() / "study.toml", call.toml);
  write_atomically(directory.spec(), to_json(spec));
}

void check_prepared(const StudySpec& spec, const StudyDirectory& directory) {
  if (!is_there(directory.spec()) || !(study_from_json(read_text(directory.spec()), directory.spec().string()) == spec))
    throw Error(
        fmt::format("study: {} is not prepared for this file; graft study run FILE --slurm does that, or graft "
                    "study run FILE",
                    directory.path().string()));
}

}  // namespace graft
