// The settings with which each training of a study runs, and what must hold before any of them starts.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/model_file.h"
#include "strategies/stages.h"
#include "strategies/study/directory.h"

namespace graft {

/// Whether a study chooses this key itself ("train.seed"), so that its file may not.
bool is_of_study(std::string_view key);

/// As `graft train` takes them, with the data of `directory`; train.resume is set. lr: the chosen rate; 0 leaves the
/// settings'.
TrainSettings cell_settings(const StudySpec& spec, const StudyDirectory& directory, const StudyCell& cell, double lr);

/// Those of the cell, but:
///   - at the trial's rate, by the tuning's seed, without early stopping, no internals recorded;
///   - tuning.epochs epochs. A strategy of two stages (lp-ft) runs complete in them, a set number of probing epochs
///     shortened in proportion; one of more stages (gradual unfreezing) runs the first of them of its full length, so
///     that stages and schedule are those of the cell.
/// `training_images` counts the updates in those epochs.
TrainSettings trial_settings(const StudySpec& spec, const StudyDirectory& directory, const StudyTrial& trial,
                             std::int64_t training_images);

/// Epochs of one trial.
std::int64_t trial_epochs(const StudySpec& spec, const StudyCell& cell);

/// The network of a cell without its weights: architecture, head and size as the settings have them, `classes` classes.
/// Errors: the weights' file is not one, or has another architecture than the network's name says.
ModelInfo model_of(const StudySpec& spec, const StudyCell& cell, std::int64_t classes);

/// As its strategy plans the training of such a network; a first stretch if max_steps ends it.
std::vector<Stage> stages_of_model(const TrainSettings& settings, const ModelInfo& info);

/// Everything that can be known without images: names, weights, settings of every network and strategy, epochs that
/// suffice for their stages, for trials too. Returns what a user should know ("lp-ft: its rate is set, it is not
/// tuned"). Errors (UsageError, Error): the first thing that does not hold.
std::vector<std::string> check_study(const StudySpec& spec);

}  // namespace graft
