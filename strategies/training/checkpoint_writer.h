// The files that training can go on from: last.h5, written while a GPU trains on, and best.h5, whose weights are kept
// in memory until then. What a checkpoint holds is checkpoint.h's business, what is kept and when fit.h's.
#pragma once

#include <chrono>
#include <future>
#include <memory>
#include <optional>

#include "models/network_io.h"
#include "strategies/training/checkpoint.h"
#include "strategies/training/run_clock.h"
#include "strategies/training/run_directory.h"

namespace graft {

/// After so many seconds the end of an epoch is saved. A machine that fails takes as much with it, and an epoch.
inline constexpr double kCheckpointSeconds = 10;

class CheckpointWriter {
 public:
  struct Spec {
    Network& network;
    const Optimizer& optimizer;
    const RunDirectory& directory;
    RunClock& clock;     // gets the part "saving"
    bool writes = true;  // false: another process does, this one only keeps what it would write
  };
  explicit CheckpointWriter(const Spec& spec) : spec_(spec) {}
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// The files are those of this state, from which a run goes on.
  void resume(const TrainState& state);
  /// Begins to write last.h5 as things are, and best.h5 if there is a better one than it holds; where the device works
  /// by itself, on a thread of its own. Errors: as await().
  void save(const TrainState& state);
  /// Whether the files hold this state, or will.
  bool is_saved(const TrainState& state) const;
  /// Whether none was ever written, or the last one kCheckpointSeconds ago.
  bool is_due() const;
  /// Returns when the files are there. Errors: they could not be written.
  void await();
  /// As await(); after an error save_kept_best().
  void finish();
  /// As await(), if they are there: a disk that is full is not found out an epoch later.
  void notice_written();

  /// The weights as they are are the best so far.
  void keep_best();
  /// Puts the best weights back, from memory if they were kept.
  void load_best();
  /// When training has failed: best.h5 gets what is kept, for whoever uses it now. A run that continues finds that of
  /// its checkpoint beside it. What failed is told, not that this cannot be written either.
  void save_kept_best() noexcept;

 private:
  /// What last.h5 and best.h5 hold.
  struct FileState {
    std::int64_t steps = -1, best_epoch = 0;
    std::int64_t best_number = 0;
    bool operator==(const FileState&) const = default;
  };
  struct Writing {
    std::future<void> done;
    FileState state;
  };
  FileState files_of(const TrainState& state) const { return {state.steps, state.best_epoch, best_number_}; }
  bool has_unsaved_best() const { return best_number_ != on_disk_.best_number; }

  Spec spec_;
  std::shared_ptr<const WeightSnapshot> kept_best_;  // of the best epoch, if that was one of this process
  std::int64_t best_number_ = 0;                     // counts what was kept
  FileState on_disk_;
  std::optional<Writing> writing_;                  // what save() has begun
  std::chrono::steady_clock::time_point saved_at_;  // begun then
};

}  // namespace graft
