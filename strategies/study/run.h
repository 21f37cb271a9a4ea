// Runs a study: trials and cells as processes of the same program, several at a time, until all are finished or cannot
// be. What a run leaves behind, the next one goes on from: nothing finished is repeated.
#pragma once

#include <atomic>

#include "strategies/study/tasks.h"

namespace graft {

struct StudyRunSpec {
  const StudySpec& spec;
  const StudyDirectory& directory;  // prepared, and locked by the caller
  std::filesystem::path program;    // started as `program train …`
  ToToml to_toml;
  std::int64_t jobs = 1;             // at once
  std::int64_t threads = 0;          // of each; a training that goes on keeps the number that it began with
  std::vector<std::string> devices;  // by slot, in turn; empty: the settings'
  bool overwrites = false;  // cells whose trials, run again, choose another rate begin anew; otherwise they fail
  const std::atomic<bool>* stop = nullptr;
};

struct TaskFailure {
  std::string id, error;
};

/// How far a run is; what people are told while it goes on.
struct StudyTally {
  std::int64_t cells = 0, trials = 0;  // all there are
  std::int64_t finished_cells = 0, finished_trials = 0, failed = 0;
  std::vector<std::string> running;  // ids
  double seconds_left = -1;          // negative: nothing is known yet
};

class StudyProgress {
 public:
  virtual ~StudyProgress() = default;
  virtual void note(std::string_view line) = 0;
  virtual void started(const StudyTask& task, const StudyTally& tally) = 0;
  /// `error` is empty if it has finished.
  virtual void ended(const StudyTask& task, const std::string& error, const StudyTally& tally) = 0;
  /// About once a second.
  virtual void tick(const StudyTally& tally) = 0;
};

struct StudyOutcome {
  StudyTally tally;
  std::vector<TaskFailure> failures;  // also cells whose tuning failed
  bool was_interrupted = false;       // trainings have written their checkpoints
  bool disk_is_full = false;          // nothing more was started
};

/// Errors: a process cannot be started.
StudyOutcome run_study(const StudyRunSpec& spec, StudyProgress& progress);

/// One task alone, in the folder where it belongs; for schedulers of clusters, which run many at once. Finished before:
/// nothing is done. Errors: as above; a cell whose trials are not finished.
StudyOutcome run_task(const StudyRunSpec& spec, const StudyTask& task, StudyProgress& progress);

}  // namespace graft
