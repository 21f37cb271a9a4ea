// The trainings of a study as a list of tasks, trials before the cells that need their rates, and the directory made
// ready for them. Starting them is run.h's.
#pragma once

#include <array>
#include <functional>
#include <map>

#include "strategies/study/settings.h"

namespace graft {

/// A trial or a cell.
struct StudyTask {
  StudyCell cell;  // of a trial: what it is tried for
  std::optional<StudyTrial> trial = {};
  std::string id() const { return trial ? trial->id() : cell.id(); }
};

/// "resnet50/chest/full", of trials "resnet50/chest/full trial": tasks that take the same time.
std::string kind_of(const StudyTask& task);

/// Trials first, then the cells of all seeds, strategy after strategy; in the order of cells_of().
std::vector<StudyTask> tasks_of(const StudySpec& spec);
/// Errors (UsageError): there is none, with the nearest.
StudyTask task_named(const StudySpec& spec, std::string_view id);

std::filesystem::path folder_of(const StudyDirectory& directory, const StudyTask& task);

/// Images per split, of each dataset and fold, as the files in splits/ have them.
using SplitCounts = std::map<std::pair<std::string, std::int64_t>, std::array<std::int64_t, 3>>;
SplitCounts split_counts(const StudySpec& spec, const StudyDirectory& directory);

/// With the rate that trials have chosen; while they have not, with the settings' own.
TrainSettings task_settings(const StudySpec& spec, const StudyDirectory& directory, const StudyTask& task,
                            const SplitCounts& counts);

/// Settings as a run's config.toml has them.
using ToToml = std::function<std::string(const TrainSettings&)>;

/// The first setting that differs between what a task's folder was run with and what it would be run with now, as
/// "train.lr was 0.001 and is now 0.01"; empty: none, or nothing was run. What cannot change a result is not looked at.
std::string changed_setting(const StudySpec& spec, const StudyDirectory& directory, const StudyTask& task,
                            const SplitCounts& counts, const ToToml& to_toml);

/// Removes what a task has left, its result first: half a folder is none. Errors: the disk.
void remove_task(const StudyDirectory& directory, const StudyTask& task);

struct StudyPreparation {
  std::string toml;  // the study's file, kept as study.toml
  bool overwrites = false;
  int threads = 1;  // that decode images
  ToToml to_toml;
  std::function<void(std::string_view)> note;
};

/// Makes the directory that of this study: fixes splits that are not fixed yet, after every image was decoded once,
/// compares what was run before, removes what a killed program was still writing, writes study.json and study.toml.
/// Tasks whose settings changed are an error that lists them, or, to overwrite, removed; where a dataset's splits
/// change, so are all that were begun on it, in the spec or not. Needs the study's lock. Errors: check_study();
/// make_splits(); changed tasks; the disk.
void prepare_study(const StudySpec& spec, const StudyDirectory& directory, const StudyPreparation& call);

/// Errors: the directory was prepared for another study, or not at all.
void check_prepared(const StudySpec& spec, const StudyDirectory& directory);

}  // namespace graft
