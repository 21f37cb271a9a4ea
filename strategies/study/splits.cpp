#include "strategies/study/splits.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "data/csv.h"
#include "data/folds.h"
#include "data/split.h"
#include "strategies/monitor.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 5> kOfSplits{"train.val_fraction", "train.test_fraction", "train.skip_bad",
                                                    "train.leak_check", "train.intensity_window"};

/// The settings of [train] that matter here.
TrainSettings data_settings(const StudySpec& spec) {
  TrainSettings s;
  for (const auto& [key, value] : spec.train)
    if (is_of_splits(key)) set_by_key(s, key, value);
  return s;
}

TrainSettings data_settings(const StudySpec& spec, const StudyDataset& dataset) {
  TrainSettings s = data_settings(spec);
  s.intensity_window = window_of(spec, dataset);
  return s;
}

/// Images as the data set lists them, relative to its folder, by absolute paths.
void make_absolute(std::vector<Sample>& samples, const fs::path& root) {
  const fs::path folder = fs::absolute(fs::is_directory(root) ? root : root.parent_path());
  for (Sample& sample : samples) sample.path = (folder / sample.path).lexically_normal().string();
}

std::vector<Sample> samples_to_divide(const Dataset& data) {
  return data.copies() != nullptr ? with_copies_grouped(data.samples(), *data.copies()) : data.samples();
}

StudySplit fold_of(const Dataset& data, const std::vector<std::int64_t>& folds, std::int64_t fold,
                   const HoldOutSpec& validation) {
  StudySplit split{data.class_names(), data.label_sets(), data.samples(), data.skipped(), {}};
  std::vector<Sample> grouped = samples_to_divide(data);
  for (std::size_t i = 0; i < grouped.size(); ++i) grouped[i].split = folds[i] == fold ? Split::test : Split::train;
  hold_out(grouped, validation);
  for (std::size_t i = 0; i < grouped.size(); ++i) split.samples[i].split = grouped[i].split;
  return split;
}

void keep_some(StudySplit& split, const StudySpec& spec) {
  if (spec.train_per_class == 0 && spec.val_per_class == 0 && spec.test_per_class == 0) return;
  const std::int64_t quarter = (spec.train_per_class + 3) / 4;
  split.samples = subset_per_class(
      split.samples,
      {.per_class = {spec.train_per_class, spec.val_per_class > 0 ? spec.val_per_class : quarter, spec.test_per_class},
       .seed = std::uint64_t(spec.split_seed),
       .class_count = std::ssize(split.class_names),
       .label_sets = split.label_sets});
}

void check_splits(const StudySplit& split, const StudySpec& spec, const StudyDataset& dataset) {
  const char* advice = is_npz(dataset) ? "add them to the file"
                       : split.count(Split::val) == 0
                           ? "strategies are compared and tuned on them: raise train.val_fraction"
                           : "add a test split, or use folds";
  for (const Split part : {Split::val, Split::test})
    if (split.count(part) == 0)
      throw Error(fmt::format("study: {} ({}) has no {} images; {}", dataset.name, dataset.path,
                              part == Split::val ? "validation" : "test", advice));
  // What epochs and trials are chosen by; else every cell would fail by itself.
  const Dataset images(split.class_names, split.samples, nullptr, split.label_sets);
  check_monitor(monitor_of(spec.selection, images.is_multi_label()), images);
  for (const auto& [key, value] : spec.train)
    if (key == "train.monitor")
      check_monitor(monitor_of(std::get<std::string>(value), images.is_multi_label()), images);
}

}  // namespace

std::int64_t StudySplit::count(Split split) const { return std::ranges::count(samples, split, &Sample::split); }

bool is_of_splits(std::string_view key) { return std::ranges::find(kOfSplits, key) != kOfSplits.end(); }

bool looks_for_leaks(const StudySpec& spec) { return data_settings(spec).leak_check; }

std::string window_of(const StudySpec& spec, const StudyDataset& dataset) {
  if (is_npz(dataset)) return "";  // 8 bits
  return dataset.intensity_window.value_or(data_settings(spec).intensity_window);
}

bool is_npz(const StudyDataset& dataset) { return fs::path(dataset.path).extension() == ".npz"; }

void check_split_settings(const StudySpec& spec, const StudyDataset& dataset) {
  const bool has_subset = spec.train_per_class > 0 || spec.val_per_class > 0 || spec.test_per_class > 0;
  if (is_npz(dataset) && (spec.folds > 0 || has_subset))
    throw UsageError(fmt::format(
        "study: {} is an .npz, whose own splits are used; folds and per-class numbers need a folder or a CSV",
        dataset.path));
}

std::vector<StudySplit> make_splits(const StudySpec& spec, const StudyDataset& dataset, bool decodes_all, int threads) {
  const TrainSettings s = data_settings(spec, dataset);
  check_split_settings(spec, dataset);
  const Dataset data = Dataset::open({.path = dataset.path,
                                      .val_fraction = spec.folds > 0 || is_npz(dataset) ? 0 : s.val_fraction,
                                      .test_fraction = spec.folds > 0 ? 0 : s.test_fraction,
                                      .seed = std::uint64_t(spec.split_seed),
                                      .skip_bad = s.skip_bad,
                                      .decodes_all = decodes_all,
                                      .for_training = spec.folds == 0,
                                      .finds_copies = decodes_all && (s.leak_check || spec.folds > 0),
                                      .threads = threads,
                                      .window = intensity_window(s)});
  std::vector<StudySplit> splits;
  if (spec.folds == 0) splits.push_back({data.class_names(), data.label_sets(), data.samples(), data.skipped(), {}});
  if (spec.folds > 0) {
    const auto classes = std::ssize(data.class_names());
    const std::vector<std::int64_t> folds = assign_folds(samples_to_divide(data),
                                                         {.folds = spec.folds,
                                                          .seed = std::uint64_t(spec.split_seed),
                                                          .class_count = classes,
                                                          .label_sets = data.label_sets()},
                                                         data.class_names());
    for (std::int64_t fold = 0; fold < spec.folds; ++fold)
      splits.push_back(fold_of(data, folds, fold,
                               {.fraction = s.val_fraction,
                                .into = Split::val,
                                .seed = std::uint64_t(spec.split_seed),
                                .class_count = classes,
                                .label_sets = data.label_sets()}));
  }
  for (StudySplit& split : splits) {
    if (s.leak_check && data.copies() != nullptr) split.leaks = find_leaks(split.samples, *data.copies());
    keep_some(split, spec);
    check_splits(split, spec, dataset);
    if (data.copies() != nullptr && s.intensity_window.empty()) split.dark = find_dark_images(*data.copies());
    if (!is_npz(dataset)) make_absolute(split.samples, dataset.path);
  }
  return splits;
}

std::string to_csv(const StudySplit& split, bool for_tuning) {
  std::string text = csv_line({"path", split.label_sets.is_multi_label() ? "labels" : "label", "split", "group"});
  for (const Sample& sample : split.samples)
    if (!for_tuning || sample.split != Split::test)
      text += csv_line({sample.path, split.label_sets.text(sample.label, split.class_names),
                        std::string(to_string(sample.split)), sample.group});
  return text;
}

std::string split_key(const StudySpec& spec, const StudyDataset& dataset) {
  const TrainSettings s = data_settings(spec, dataset);
  std::string key = fmt::format(
      "path {}, folds {}, train_per_class {}, val_per_class {}, test_per_class {}, split_seed {}", dataset.path,
      spec.folds, spec.train_per_class, spec.val_per_class, spec.test_per_class, spec.split_seed);
  key += fmt::format(", val_fraction {}, test_fraction {}, skip_bad {}", s.val_fraction, s.test_fraction, s.skip_bad);
  return s.intensity_window.empty() ? key : key + ", intensity_window " + s.intensity_window;
}

}  // namespace graft
