// How Fit keeps what it has reached: checkpoints that are written while a GPU trains on, the best weights, and what is
// left of both when training fails. The loop itself is fit.cpp.
#include "data/files.h"
#include "models/network_io.h"
#include "strategies/training/fit.h"

namespace graft {

void Fit::resume(const Checkpoint& checkpoint) {
  state_ = read_state(checkpoint);
  spec_.directory.settle_best(state_.best_epoch, state_.steps);
  strategy_->restore(state_.strategy);
  if (has_adapters(parameters_)) {
    const std::unique_ptr<Network> start = spec_.starting_network();
    restore_adapters(checkpoint, start->parameters(), parameters_);
  }
  on_disk_ = present();
  resumed_ = checkpoint;
}

void Fit::save() {
  const RunClock::Part saving = part("saving");
  await_writing();
  if (recorder_) recorder_->flush();
  state_.strategy = strategy_->state();
  // The best weights carry no moments: nothing continues from them but a strategy's next stage, which starts afresh.
  auto write = [&directory = spec_.directory, state = present(), info = spec_.network.info(),
                best = has_unsaved_best() ? kept_best_ : nullptr, last = snapshot_of(spec_.network, kept_best_.get()),
                checkpoint = make_checkpoint(state_, parameters_, optimizer_)]() mutable {
    if (best) save_network(directory.next_best(state.best_epoch, state.steps), info, best->weights);
    save_network(directory.last(), info, last.weights, checkpoint);
    if (best) directory.settle_best(state.best_epoch, state.steps);
    best = {}, last = {}, checkpoint = {};  // the future keeps what was captured until somebody asks
  };
  const bool is_asynchronous = context_.backend().is_asynchronous();
  writing_ = {std::async(is_asynchronous ? std::launch::async : std::launch::deferred, std::move(write)), present()};
  saved_at_ = std::chrono::steady_clock::now();
  if (!is_asynchronous) await_writing();
}

void Fit::await_writing() {
  if (!writing_) return;
  const RunClock::Part waiting = part("saving");
  Writing writing = *std::move(writing_);
  writing_.reset();
  writing.done.get();
  on_disk_ = writing.state;
}

/// A disk that is full is not found out an epoch later.
void Fit::notice_written() {
  if (writing_ && writing_->done.wait_for(std::chrono::seconds(0)) == std::future_status::ready) await_writing();
}

Fit::~Fit() {
  if (writing_) save_kept_best();
}

void Fit::finish_saving() try { await_writing(); } catch (...) {
  save_kept_best();
  throw;
}

void Fit::keep_best() {
  const RunClock::Part saving = part("saving");
  kept_best_ = std::make_shared<WeightSnapshot>(snapshot_of(spec_.network, kept_best_.get()));
  ++best_number_;
}

void Fit::load_best() {
  if (kept_best_) {
    restore(spec_.network, *kept_best_);
  } else {
    finish_saving();
    load_weights(spec_.network, read_model_file(spec_.directory.best()).weights);
  }
}

/// When training has failed: for whoever uses best.h5 now. One that continues finds that of its checkpoint beside it.
/// What failed is told, not that this cannot be written either.
void Fit::save_kept_best() noexcept try {
  try {
    await_writing();
  } catch (const std::exception&) {  // the files are as they were
  }
  if (!kept_best_ || !has_unsaved_best() || on_disk_.steps < 0) return;
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
