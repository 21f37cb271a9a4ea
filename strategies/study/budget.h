// How a study can be made to fit a time: which smaller studies would, and what they take.
#pragma once

#include <set>

#include "strategies/study/estimate.h"

namespace graft {

/// A smaller study.
struct StudyReduction {
  std::vector<std::string> changes;  // "seeds = [1, 2, 3] instead of 5", "without auto-rgn"
  double seconds = 0;                // of what is then still to train
  bool fits = false;
};

/// What a study may take from now on.
struct StudyBudget {
  double seconds = 0;
  std::int64_t jobs = 1;
  std::set<std::string> finished = {};  // ids of tasks that need not be run again
};

/// Seconds of the tasks that are not finished.
double seconds_left(const StudySpec& spec, const StudyEstimate& estimate, const std::set<std::string>& finished);

/// First every single change that suffices: fewer seeds, trials, folds or epochs, as many as still fit, or one strategy
/// less. If none does, one list of changes made one after the other, each a little, until the rest fits or nothing is
/// left to drop. What is finished costs nothing, unless a change would begin it anew, as other epochs do.
std::vector<StudyReduction> reductions_for(const StudySpec& spec, const StudyRates& rates, const StudyBudget& budget);

/// "8h", "90m", "1h30m", "45s", "2d". Errors (UsageError): another text, or nothing above 0.
double parse_duration(std::string_view text);

}  // namespace graft
