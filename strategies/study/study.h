// A study: the same data, splits, seeds and tuning for every strategy, on one or several networks and datasets. This
// file says what a study is and which trainings it consists of; nothing here reads images or trains. The file of a
// study is parsed by apps/study_file.h; its directory is directory.h, what its trainings gave results.h.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "strategies/train_settings.h"

namespace graft {

/// Settings by their whole keys, "train.lr" or "strategy.alpha", as set_by_key() takes them; later ones win.
using KeyedSettings = std::vector<std::pair<std::string, SettingValue>>;

/// How the learning rate of each strategy is chosen: `trials` short trainings at the middles of as many equal parts of
/// [log lr_min, log lr_max], to three digits, scored on validation images alone; the best rate, of equals the smallest,
/// is every seed's.
struct StudyTuning {
  std::int64_t trials = 0;  // 0: the settings' rate is used
  std::int64_t epochs = 0;  // of a trial; 0: a third of the cell's, at least 2
  double lr_min = 1e-5, lr_max = 1e-1;
  std::int64_t seed = -1;  // of all trials; -1: the study's first
  friend bool operator==(const StudyTuning&, const StudyTuning&) = default;
};

struct StudyNetwork {
  std::string name;     // as files and tables call it
  std::string weights;  // model file; empty: from scratch, and `name` is the architecture
  friend bool operator==(const StudyNetwork&, const StudyNetwork&) = default;
};

struct StudyDataset {
  std::string name, path;          // folder, CSV or .npz
  std::vector<std::string> allow;  // leaks that are let pass: "duplicates", "near-duplicates", "groups"
  /// Of its files of 16 bits; empty: none, their high byte is taken. Nothing: that of [train].
  std::optional<std::string> intensity_window = {};
  friend bool operator==(const StudyDataset&, const StudyDataset&) = default;
};

/// One entry of the list of strategies.
struct StudyStrategy {
  std::string name;               // as files and tables call it
  std::string strategy;           // as `graft strategies` does; several entries may name the same, with other settings
  KeyedSettings settings;         // on top of the study's
  double lr_min = 0, lr_max = 0;  // its own range for tuning; 0: the study's
  friend bool operator==(const StudyStrategy&, const StudyStrategy&) = default;
};

struct StudySpec {
  std::string title;
  std::vector<StudyNetwork> networks;
  std::vector<StudyDataset> datasets;
  std::vector<StudyStrategy> strategies;
  std::vector<std::int64_t> seeds;
  std::int64_t folds = 0;  // 0: one split; else cross-validation over all images, the data's own splits ignored
  // A seeded subset of the images of each split, by whole groups; 0: all, of validation a quarter of train_per_class if
  // that is given.
  std::int64_t train_per_class = 0, val_per_class = 0, test_per_class = 0;
  std::int64_t split_seed = 0;
  StudyTuning tuning;
  std::string selection = "macro_accuracy";  // by which a trial is chosen, on validation; see monitor.h
  std::string score = "macro_accuracy";      // what a report ranks by, a field of Metrics
  KeyedSettings train;                       // of every cell
  friend bool operator==(const StudySpec&, const StudySpec&) = default;
};

/// One training whose test result counts.
struct StudyCell {
  std::string network, dataset, strategy;
  std::int64_t seed = 0, fold = -1;  // -1: a study without folds

  /// "resnet50/chest/lp-ft/seed-1", with folds "…/seed-1/fold-0": also its folder below runs/.
  std::string id() const;
  friend auto operator<=>(const StudyCell&, const StudyCell&) = default;
};

/// One short training that helps to choose a rate.
struct StudyTrial {
  StudyCell cell;           // what it is tried for; its seed is the tuning's
  std::int64_t number = 0;  // from 1, in the order of rates
  double lr = 0;

  /// "resnet50/chest/lp-ft/trial-2", with folds "resnet50/chest/lp-ft/fold-0/trial-2": its folder below tuning/.
  std::string id() const;
};

/// In the order network, dataset, fold, strategy, seed.
std::vector<StudyCell> cells_of(const StudySpec& spec);
/// Whether its rate is chosen by trials: there are some, and it sets none itself.
bool is_tuned(const StudySpec& spec, const StudyStrategy& strategy);
/// The trials for the rate of a cell, and of its siblings with other seeds; none if its rate is set or nothing is
/// tuned. Errors: an unknown name in `cell`.
std::vector<StudyTrial> trials_of(const StudySpec& spec, const StudyCell& cell);

const StudyNetwork& network_of(const StudySpec& spec, std::string_view name);
const StudyDataset& dataset_of(const StudySpec& spec, std::string_view name);
const StudyStrategy& strategy_of(const StudySpec& spec, std::string_view name);

}  // namespace graft
