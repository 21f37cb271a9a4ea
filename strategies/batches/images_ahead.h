// The images of a run, opened on a thread of their own while the device starts: either takes about half a second where
// the device is a GPU, and neither needs the other.
#pragma once

#include <atomic>
#include <future>

#include "data/dataset.h"
#include "strategies/train_settings.h"

namespace graft {

/// What needs no image fails before all are decoded. Errors: see RunDirectory::check(); weights that cannot be used;
/// fewer epochs than the strategy needs.
void check_without_images(const TrainSettings& settings);

class ImagesAhead {
 public:
  /// Begins after check_without_images(). Errors: those of it.
  explicit ImagesAhead(const TrainSettings& settings);
  /// Stops what is not finished.
  ~ImagesAhead() { stop_ = true; }
  ImagesAhead(const ImagesAhead&) = delete;
  ImagesAhead& operator=(const ImagesAhead&) = delete;

  /// Waits for them; once. Errors: see Dataset::open().
  Dataset take() { return images_.get(); }

 private:
  std::atomic<bool> stop_ = false;
  std::future<Dataset> images_;  // waits for its thread when it goes
};

}  // namespace graft
