// Which images of a dataset train, validate and test in a study: decided once, before anything trains.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/leakage.h"
#include "strategies/study/study.h"

namespace graft {

struct StudySplit {
  std::vector<std::string> class_names;
  LabelSets label_sets;
  std::vector<Sample> samples;  // of a folder or CSV with absolute paths
  std::vector<BadImage> skipped;
  LeakageReport leaks;                  // before a subset was taken
  std::optional<DarkImages> dark = {};  // seen without a window
  std::int64_t count(Split split) const;
};

/// Whether a dataset brings its own splits and is read as it is.
bool is_npz(const StudyDataset& dataset);

/// train.intensity_window of its cells: its own, or that of [train].
std::string window_of(const StudySpec& spec, const StudyDataset& dataset);

/// Whether splits depend on this key of [train] ("train.val_fraction"), which therefore is no strategy's.
bool is_of_splits(std::string_view key);

/// Whether what the splits share is looked for: unless train.leak_check is off.
bool looks_for_leaks(const StudySpec& spec);

/// What can be known of it without reading it. Errors (UsageError): folds or subsets of an .npz.
void check_split_settings(const StudySpec& spec, const StudyDataset& dataset);

/// As the spec wants them, one per fold (one without folds); folds keep copies of an image together. With `decodes_all`
/// every image is read once, and an unreadable one is an error, or left out with train.skip_bad; leaks are looked for
/// unless train.leak_check is off. Errors: see Dataset::open(), assign_folds(), check_split_settings(); no validation
/// or no test images, of an .npz without those of its own; validation images that leave the score undefined by which
/// epochs or trials are chosen.
std::vector<StudySplit> make_splits(const StudySpec& spec, const StudyDataset& dataset, bool decodes_all, int threads);

/// path,label,split,group, or labels where images may have several; without test images if `for_tuning`.
std::string to_csv(const StudySplit& split, bool for_tuning);

/// What make_splits() depends on, as one line: another line, other splits.
std::string split_key(const StudySpec& spec, const StudyDataset& dataset);

}  // namespace graft
