// What long work tells whoever watches: lines for people, and numbers for a bar. Implemented by apps/ (a bar on a
// terminal, a line per epoch elsewhere); the work itself never prints.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "strategies/epoch_report.h"

namespace graft {

/// One pass over data: "train", "validate", "test", "features", "probe", "predict".
struct PassProgress {
  std::string_view pass;
  std::int64_t epoch = 0, epochs = 0;  // from 1; 0: not part of an epoch
  std::int64_t done = 0, total = 0;    // images
  double images_per_second = 0;        // since the pass started
  double loss = 0;                     // mean since the pass started; 0 where there is none
};

class ProgressSink {
 public:
  virtual ~ProgressSink() = default;
  /// A line worth reading: the freeze table, cached features, early stopping, what is left random.
  virtual void note(std::string_view line) = 0;
  /// Called after every batch.
  virtual void advance(const PassProgress&) {}
  virtual void end_pass() {}
  /// The end of an epoch: the line that epochs.csv gets.
  virtual void epoch(const EpochReport&) {}
};

}  // namespace graft
