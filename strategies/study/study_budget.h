// How a study can be made to fit a time: which smaller studies would, and what they take.
#pragma once

#include "strategies/study/study_estimate.h"

namespace graft {

/// A smaller study.
struct StudyReduction {
  std::vector<std::string> changes;  // "seeds = [1, 2, 3] instead of 5", "without auto-rgn"
  double seconds = 0;                // of the study that is left
  bool fits = false;
};

/// First every single change that suffices: fewer seeds, trials, folds or epochs, as many as still fit, or one strategy
/// less. If none does, one list of changes made one after the other, each a little, until the rest fits or nothing is
/// left to drop.
std::vector<StudyReduction> reductions_for(const StudySpec& spec, const StudyRates& rates, std::int64_t jobs,
                                           double budget_seconds);

/// "8h", "90m", "1h30m", "45s", "2d". Errors (UsageError): another text, or nothing above 0.
double parse_duration(std::string_view text);

}  // namespace graft
