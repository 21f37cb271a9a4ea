// What the files of one training say about it: how far it is, what it scored. Everything is read, nothing remembered.
#pragma once

#include "strategies/study/directory.h"
#include "strategies/study/results.h"

namespace graft {

/// Of a training's folder.
struct TaskState {
  CellState state = CellState::pending;
  std::string error;  // of a failed one: the line of failed.txt
  bool runs = false;
  bool diverged = false;  // failed because its loss was not finite: with the same settings it would be again
};
TaskState read_state(const std::filesystem::path& folder);

/// Whether an error line of `graft train` says that numbers ceased to be finite, as they do at a rate that is too high.
bool is_divergence(std::string_view error_line);

/// Rows of RUN/epochs.csv; a row that is being written is left out. Empty without the file.
std::vector<EpochReport> read_curve(const std::filesystem::path& folder);

/// Without which of its siblings is chosen. A trial that diverged is finished.
TrialResult read_trial(const StudySpec& spec, const StudyDirectory& directory, const StudyTrial& trial);

/// The trial with the best score, of equals that with the smallest rate; -1 unless all are finished. None has a score:
/// -1 as well.
std::int64_t chosen_trial(const StudySpec& spec, const std::vector<TrialResult>& trials);

/// The rate of a cell: chosen or set; 0 if its trials are not finished.
double rate_of(const StudySpec& spec, const StudyDirectory& directory, const StudyCell& cell);

}  // namespace graft
