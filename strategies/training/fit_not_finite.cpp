// What a training says when its numbers cease to be finite: where they did, and what is left to go on from.
#include <fmt/format.h>

#include <cmath>

#include "strategies/training/fit.h"

namespace graft {

void Fit::check_weights_finite() const {
  if (context_.backend().all_finite(parameters_.values().view())) return;
  for (const Parameter& p : parameters_.parameters())
    if (!context_.backend().all_finite(p.value.view()))
      throw Error(
          fmt::format("training: {} is not finite after step {} (epoch {}); lower train.lr (now {:g}) and run again "
                      "with --overwrite",
                      p.name, state_.steps, state_.epoch + 1, spec_.settings.lr));
  for (const RunningStatistics& s : parameters_.statistics())
    if (!context_.backend().all_finite(s.value.view()))
      throw Error(
          fmt::format("training: the running statistics of {} are not finite after step {} (epoch {}); lower "
                      "train.lr (now {:g}) and run again with --overwrite",
                      s.name, state_.steps, state_.epoch + 1, spec_.settings.lr));
}

/// The batch is read once more: its memory holds another one by now.
void Fit::stop_not_finite(const FailedStep& step) {
  BatchSource& source = spec_.batches.training();
  source.start(step.epoch, step.batch);
  DeviceBatch batch;
  if (!source.next(batch)) throw Error("training: the epoch ended before its last batch");
  context_.start_step(std::uint64_t(spec_.settings.seed), step.random_step);
  stop_not_finite(batch, step.update, step.loss);
}

void Fit::stop_not_finite(const DeviceBatch& batch, std::int64_t update, double loss) {
  if (steps_csv_) steps_csv_->flush();
  if (recorder_) recorder_->flush();
  context_.tape().clear();
  const NoGrad no_grad(context_);
  std::string culprit = "every layer's output is finite, only the loss is not";
  context_.set_checks_finite(true);
  try {
    (void)step_.logits(batch);
  } catch (const Error& e) {
    culprit = e.what();
  }
  context_.set_checks_finite(false);
  throw LossNotFinite(
      fmt::format("training: the loss is {} at step {} (epoch {}); {}; lower train.lr (now {:g}) and run again with "
                  "--overwrite; {}",
                  std::isnan(loss) ? "nan" : fmt::format("{}", loss), update, state_.epoch + 1, culprit,
                  spec_.settings.lr, kept_checkpoint()));
}

/// Those to validation images. Weights and the loss of every update were finite, so the last update was too large.
void Fit::stop_not_finite_answers() {
  std::string culprit = "every layer's output is finite";
  if (ranks_.count() == 1) {  // others would wait for a rank that throws
    context_.set_checks_finite(true);
    try {
      predict_batches(spec_.network, spec_.batches.evaluation(Split::val),
                      {.name = "validate", .count = spec_.batches.count(Split::val), .rows = spec_.batches.rows()},
                      progress_);
    } catch (const Error& e) {
      culprit = e.what();
    }
    context_.set_checks_finite(false);
  }
  throw LossNotFinite(
      fmt::format("training: the answers to validation images are not finite after step {} (epoch {}); {}; lower "
                  "train.lr (now {:g}) and run again with --overwrite; {}",
                  state_.steps, state_.epoch + 1, culprit, spec_.settings.lr, kept_checkpoint()));
}

/// For a message: where it is, if there is one.
std::string Fit::kept_checkpoint() {
  try {
    checkpoints_.await();
  } catch (const std::exception&) {  // then it is not there
  }
  return std::filesystem::exists(spec_.directory.last())
             ? "the last good checkpoint is " + spec_.directory.last().string()
             : "no epoch was completed, so there is no checkpoint";
}

}  // namespace graft
