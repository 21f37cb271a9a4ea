// What the trainings of a study gave, read back from its directory: for the report, and for programs that go on from
// there. What the directory holds is said in directory.h and docs/study.md.
#pragma once

#include <filesystem>
#include <limits>
#include <map>

#include "data/metrics.h"
#include "strategies/epoch_report.h"
#include "strategies/study/study.h"

namespace graft {

/// Of the test images, in the order of split.csv.
struct CellPredictions {
  std::vector<std::string> paths, groups;  // a group without a name is empty: a group of its own
  std::vector<std::int32_t> labels;        // of label_sets, which index class_names
  LabelSets label_sets;
  std::vector<double> probabilities;  // (n, classes), nine significant digits
};

enum class CellState {
  pending,   // not begun
  partial,   // begun and interrupted, or running now
  failed,    // `error` says why; the next run tries again
  finished,  // all of CellResult is known
};
std::string_view to_string(CellState state);

struct CellResult {
  StudyCell cell;
  std::filesystem::path directory;  // a run directory, as `graft train` writes it
  CellState state = CellState::pending;
  std::string error;  // one line
  bool runs = false;  // a program is at work on it now
  // Of a finished cell the rate that it was trained with, which its trials, run again, may not choose any more; else
  // the one that is chosen or set; 0: not known yet.
  double lr = 0;
  std::int64_t epochs = 0, steps = 0;  // done so far
  std::vector<EpochReport> curve;

  // Of a finished cell.
  std::vector<std::string> class_names;
  std::int64_t best_epoch = 0;  // from 1
  bool stopped_early = false;
  double train_seconds = 0;
  Metrics val, test;  // n = 0: there are no such images
  CellPredictions predictions;
};

struct TrialResult {
  StudyTrial trial;
  std::filesystem::path directory;
  CellState state = CellState::pending;
  std::string error;
  bool diverged = false;  // its loss was not finite: finished, with the worst score
  double score =
      std::numeric_limits<double>::quiet_NaN();  // by StudySpec::selection, the best of its epochs; NaN: none
  bool is_chosen = false;
  std::vector<EpochReport> curve;
};

struct StudyResults {
  std::filesystem::path directory;
  StudySpec spec;
  std::vector<CellResult> cells;    // in the order of cells_of()
  std::vector<TrialResult> trials;  // as trials_of() gives them, cell after cell
  bool is_running = false;          // a program holds the study's lock
};

/// Reads what is there; a study need not be finished. Files that a running study is replacing are seen old or new.
/// Errors: no study there (study.json missing or damaged); a finished cell whose files cannot be read, by name.
/// Without predictions, which are most of the reading, CellResult's val, test and predictions stay empty.
StudyResults read_results(const std::filesystem::path& directory, bool reads_predictions = true);

}  // namespace graft
