// What the splits of a study share: looked for before anything trains, noted in leakage.json, and refused unless the
// data set allows it by name. What counts as a leak is data/leakage.h's.
#pragma once

#include <vector>

#include "strategies/study/directory.h"
#include "strategies/study/splits.h"

namespace graft {

/// Notes a dataset's leaks in leakage.json, an object with a report for each dataset; with folds, of the one that leaks
/// most. Where they were not looked for, there is none. Errors: a leak that the dataset does not allow.
void judge_leaks(const std::vector<StudySplit>& splits, const StudyDataset& dataset, const StudyDirectory& directory);

/// Of splits that are fixed: the study's file may allow less than when they were made, or have them looked for only
/// now, for which every image is read. Errors: as judge_leaks(); those of make_splits().
void judge_leaks_again(const StudySpec& spec, const StudyDataset& dataset, const StudyDirectory& directory,
                       int threads);

/// Whether splits are fixed and were made as the spec wants them.
bool has_fixed_splits(const StudySpec& spec, const StudyDataset& dataset, const StudyDirectory& directory);

struct LeakForecast {
  std::int64_t most_images = 0;  // of a dataset that is read for it
  int threads = 1;
};
/// What a run would refuse, written nowhere: what leakage.json knows of fixed splits, else by reading every image.
/// False: the dataset has more images than that, so nothing is known. Errors: as judge_leaks_again().
bool foresee_leaks(const StudySpec& spec, const StudyDataset& dataset, const StudyDirectory& directory,
                   const LeakForecast& call);

}  // namespace graft
