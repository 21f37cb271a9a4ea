// What a run tells TensorBoard (train.tensorboard): loss, penalty and rate of updates, scores of epochs, how the
// weights of every block are distributed, and some of the images. The steps of all of it are updates. The files are
// data/event_file.h's.
#pragma once

#include "data/event_file.h"
#include "models/network.h"
#include "strategies/progress.h"

namespace graft {

class TensorboardLog {
 public:
  /// `last_step`: of the checkpoint that is continued; 0: a new run, whose weights are shown as they are.
  TensorboardLog(const std::filesystem::path& folder, const Network& network, std::int64_t last_step);

  /// One update of an epoch of `updates_in_epoch`; every k-th is written, at most a hundred an epoch, and the first.
  struct Update {
    std::int64_t step = 0, updates_in_epoch = 1;
    double loss = 0, penalty = 0, lr = 0;
  };
  void update(const Update& update);
  /// Scores, and the weights of the blocks that trained.
  void epoch(std::int64_t step, const EpochReport& report);
  /// One without pixels is not shown.
  void image(std::string_view tag, std::int64_t step, const Image& image);
  void flush() { file_.flush(); }

 private:
  /// Kernels of convolutions and linear layers, block by block; `all`, or of those that train.
  void weights(std::int64_t step, bool all);

  const Network& network_;
  EventFile file_;
};

}  // namespace graft
