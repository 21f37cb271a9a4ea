// What Fit does at the end of an epoch: validation, its line of epochs.csv, whether it is the best, whether to stop
// early. The loop itself is fit.cpp.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "strategies/batches/image_sheets.h"
#include "strategies/seconds.h"
#include "strategies/training/fit.h"

namespace graft {

/// Says what loss scaling did. Errors: the scale fell so far that it cannot be what makes gradients overflow.
void Fit::note_loss_scale() {
  if (!optimizer_.scales_loss()) return;
  const Optimizer::LossScaleState state = optimizer_.loss_scale_state();
  const std::int64_t skipped = state.skipped_steps - skipped_before_epoch_;
  if (skipped > 0)
    progress_.note(
        fmt::format("epoch {}: {} of {} updates were skipped, their gradients overflowed f16; the loss scale "
                    "is now {:g}",
                    state_.epoch + 1, skipped, state_.steps_in_epoch, state.scale));
  if (state.scale < 1)
    throw LossNotFinite(
        fmt::format("training: gradients are not finite even at a loss scale of {:g} (step {}, epoch {}); lower "
                    "train.lr (now {:g}) or use --precision bf16, and run again with --overwrite",
                    state.scale, state_.steps, state_.epoch + 1, spec_.settings.lr));
}

/// False if it was stopped before it was validated.
bool Fit::finish_epoch(bool is_partial) {
  check_weights_finite();
  if (!spec_.batches.has_features()) check_ranks_agree();  // else an epoch takes less
  note_loss_scale();
  const double n = double(std::max<std::int64_t>(1, state_.images));
  const double answers = spec_.dataset.is_multi_label() ? double(spec_.network.num_classes()) : 1;  // of an image
  EpochReport report{.epoch = state_.epoch + 1,
                     .epochs = spec_.settings.epochs,
                     .lr = learning_rate(),
                     .train_loss = state_.loss_sum / n,
                     .penalty = state_.penalty_sum / n,
                     .train_accuracy = double(state_.correct) / (n * answers),
                     .monitor = &monitor_};
  const auto begin = std::chrono::steady_clock::now();
  std::optional<Predictions> predictions;
  if (spec_.batches.count(Split::val) > 0) {
    predictions = validate(report);
    if (!predictions) return false;
  }
  const double score = report.*monitor_.score;
  report.is_best = !report.has_validation() || state_.best_epoch == 0 ||
                   (!is_partial && is_better(monitor_, score, state_.best_value));
  report.seconds = state_.epoch_seconds + seconds_since(begin);
  report.images_per_second = state_.epoch_seconds > 0 ? double(state_.images) / state_.epoch_seconds : 0;
  write_epoch(report);

  if (report.is_best) {
    state_.best_epoch = report.epoch;
    state_.best_value = score;
    checkpoints_.keep_best();
  }
  if (!is_partial) close_epoch(report);
  // Epochs on a GPU or on kept features last milliseconds, less than writing a checkpoint. The first is always written.
  if (checkpoints_.is_due()) save();
  if (tensorboard_ && report.is_best && predictions)
    show("val/surest_errors", [&](const Transform& t) { return error_sheet(spec_.dataset, *predictions, t); });
  return true;
}

/// Nothing if it was stopped.
std::optional<Predictions> Fit::validate(EpochReport& report) {
  const RunClock::Part validation = part("validation");
  const std::int64_t count = spec_.batches.count(Split::val);
  Predictions predictions = predict_batches(spec_.network, spec_.batches.evaluation(Split::val),
                                            {.name = "validate",
                                             .epoch = report.epoch,
                                             .epochs = report.epochs,
                                             .count = count,
                                             .stop = spec_.stop,
                                             .rows = spec_.batches.rows(),
                                             .ranks = ranks_,
                                             .label_sets = spec_.dataset.label_sets()},
                                            progress_);
  if (predictions.n() < count) return {};
  if (!std::ranges::all_of(predictions.logits, [](double logit) { return std::isfinite(logit); }))
    stop_not_finite_answers();
  const EvaluationResult result = evaluate_predictions(predictions, spec_.dataset.class_names(), "val");
  report.val_loss = result.loss;
  report.val_accuracy = result.accuracy;
  report.val_macro_accuracy = result.macro_accuracy;
  report.val_macro_f1 = result.macro_f1;
  report.val_kappa = result.kappa;
  report.val_auc = result.auc;
  report.val_average_precision = result.average_precision;
  return predictions;
}

void Fit::write_epoch(const EpochReport& report) {
  if (!epochs_csv_) return;  // another rank writes
  epochs_csv_->add(epochs_csv_line(report));
  epochs_csv_->flush();
  if (tensorboard_) tensorboard_->epoch(state_.steps, report);
  progress_.epoch(report);
}

/// Its sums begin anew. Only the last stage may stop early, and its patience begins with it.
void Fit::close_epoch(const EpochReport& report) {
  state_.epochs_without_better = report.is_best || !plan_->may_stop_early ? 0 : state_.epochs_without_better + 1;
  ++state_.epoch;
  state_.train_seconds += state_.epoch_seconds;
  state_.batches_in_epoch = state_.steps_in_epoch = state_.correct = state_.images = 0;
  state_.loss_sum = state_.penalty_sum = state_.epoch_seconds = 0;
  const std::int64_t patience = spec_.settings.patience;
  state_.stopped_early = report.has_validation() && patience > 0 && state_.epochs_without_better >= patience &&
                         plan_->may_stop_early && state_.epoch < spec_.settings.epochs;
  if (state_.stopped_early)
    progress_.note(fmt::format("stopped early: no better validation {} than {:.4f} of epoch {} in {} epochs",
                               monitor_.words, state_.best_value, state_.best_epoch, patience));
}

}  // namespace graft
