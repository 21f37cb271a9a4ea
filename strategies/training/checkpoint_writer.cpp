#include "strategies/training/checkpoint_writer.h"

#include "data/files.h"
#include "strategies/seconds.h"

namespace graft {

CheckpointWriter::~CheckpointWriter() {
  if (writing_) save_kept_best();
}

void CheckpointWriter::resume(const TrainState& state) {
  if (spec_.writes) spec_.directory.settle_best(state.best_epoch, state.steps);
  on_disk_ = files_of(state);
}

void CheckpointWriter::save(const TrainState& state) {
  const RunClock::Part saving(spec_.clock, "saving");
  await();
  saved_at_ = std::chrono::steady_clock::now();
  if (!spec_.writes) {
    on_disk_ = files_of(state);
    return;
  }
  // The best weights carry no moments: nothing continues from them but a strategy's next stage, which starts afresh.
  auto write = [&directory = spec_.directory, files = files_of(state), info = spec_.network.info(),
                best = has_unsaved_best() ? kept_best_ : nullptr, last = snapshot_of(spec_.network, kept_best_.get()),
                checkpoint = make_checkpoint(state, spec_.network.parameters(), spec_.optimizer)]() mutable {
    if (best) save_network(directory.next_best(files.best_epoch, files.steps), info, best->weights);
    save_network(directory.last(), info, last.weights, checkpoint);
    if (best) directory.settle_best(files.best_epoch, files.steps);
    best = {}, last = {}, checkpoint = {};  // the future keeps what was captured until somebody asks
  };
  const bool is_asynchronous = spec_.network.context().backend().is_asynchronous();
  writing_ = {std::async(is_asynchronous ? std::launch::async : std::launch::deferred, std::move(write)),
              files_of(state)};
  if (!is_asynchronous) await();
}

bool CheckpointWriter::is_saved(const TrainState& state) const {
  return (writing_ ? writing_->state : on_disk_) == files_of(state);
}

bool CheckpointWriter::is_due() const {
  return (on_disk_.steps < 0 && !writing_) || seconds_since(saved_at_) > kCheckpointSeconds;
}

void CheckpointWriter::await() {
  if (!writing_) return;
  const RunClock::Part waiting(spec_.clock, "saving");
  Writing writing = *std::move(writing_);
  writing_.reset();
  writing.done.get();
  on_disk_ = writing.state;
}

void CheckpointWriter::notice_written() {
  if (writing_ && writing_->done.wait_for(std::chrono::seconds(0)) == std::future_status::ready) await();
}

void CheckpointWriter::finish() try { await(); } catch (...) {
  save_kept_best();
  throw;
}

void CheckpointWriter::keep_best() {
  const RunClock::Part saving(spec_.clock, "saving");
  kept_best_ = std::make_shared<WeightSnapshot>(snapshot_of(spec_.network, kept_best_.get()));
  ++best_number_;
}

void CheckpointWriter::load_best() {
  if (kept_best_) {
    restore(spec_.network, *kept_best_);
  } else {
    finish();
    load_weights(spec_.network, read_model_file(spec_.directory.best()).weights);
  }
}

void CheckpointWriter::save_kept_best() noexcept try {
  try {
    await();
  } catch (const std::exception&) {  // the files are as they were
  }
  if (!spec_.writes || !kept_best_ || !has_unsaved_best() || on_disk_.steps < 0) return;
  const std::filesystem::path best = spec_.directory.best(),
                              before = spec_.directory.next_best(on_disk_.best_epoch, on_disk_.steps);
  const bool had_best = spec_.directory.has("best.h5");
  if (had_best) rename_file(best, before);
  try {
    save_network(best, spec_.network.info(), kept_best_->weights);
  } catch (const std::exception&) {
    if (had_best) rename_file(before, best);
  }
} catch (const std::exception&) {
}

}  // namespace graft
