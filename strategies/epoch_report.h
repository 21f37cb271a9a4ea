// One epoch of training in numbers: a line of epochs.csv, written by a run and read back by studies.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

struct Monitor;  // monitor.h

struct EpochReport {
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

  std::int64_t epoch = 0, epochs = 0;  // from 1; of how many, 0 where that is not known
  double lr = 0, train_loss = 0, penalty = 0, train_accuracy = 0;
  // NaN without validation images, and where a score is undefined (data/metrics.h).
  double val_loss = kNone, val_accuracy = kNone, val_macro_accuracy = kNone;
  double val_macro_f1 = kNone, val_kappa = kNone, val_auc = kNone, val_average_precision = kNone;
  bool is_best = false;
  double seconds = 0, images_per_second = 0;  // whole epoch; rate of the training pass alone
  const Monitor* monitor = nullptr;           // by which is_best was decided; null where that is not known

  bool has_validation() const { return !std::isnan(val_loss); }
};

/// The first line of epochs.csv, and an epoch's, without line breaks. Of NaN a field is empty.
std::string epochs_csv_header();
std::string epochs_csv_line(const EpochReport& report);

/// All complete lines behind the header. Columns are found by their names, so that files of earlier versions, which
/// lack some, can be read.
std::vector<EpochReport> parse_epochs_csv(std::string_view text);

}  // namespace graft
