// How Fit follows its strategy's plans: gradients observed before an epoch, what is frozen and the proof of it, rates
// and penalties of the optimizer's groups, and the table for people. The loop itself is fit.cpp.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "models/network_io.h"
#include "strategies/analysis/truth_table.h"
#include "strategies/seconds.h"
#include "strategies/training/epoch_steps.h"
#include "strategies/training/fit.h"

namespace graft {

std::int64_t Fit::usable_batches() const {
  return graft::usable_batches(spec_.batches.count(Split::train), spec_.settings.batch, plan_->freeze);
}

double Fit::learning_rate() const {
  const std::int64_t accumulate = spec_.settings.accumulate;
  const Schedule schedule = schedule_of(spec_.settings, *plan_, (usable_batches() + accumulate - 1) / accumulate);
  return schedule.at(state_.epoch - plan_->schedule_begin, state_.steps_in_epoch);
}

bool Fit::best_is_of_earlier_stage() {
  if (state_.best_epoch == 0) return false;
  const auto is_of_last_stage = [&](std::int64_t epoch) {
    return plan_epoch(*strategy_, spec_.settings, {epoch, spec_.settings.epochs, parameters_, spec_.network.blocks()})
        .may_stop_early;
  };
  const std::int64_t begun = state_.epoch + (state_.batches_in_epoch > 0 ? 1 : 0);
  return !is_of_last_stage(state_.best_epoch - 1) && is_of_last_stage(begun - 1);
}

bool Fit::probe() {
  const RunClock::Part probing = part("probing");
  const EpochPlan plan = plan_epoch(*strategy_, spec_.settings,
                                    {.epoch = state_.epoch,
                                     .epochs = spec_.settings.epochs,
                                     .parameters = parameters_,
                                     .blocks = spec_.network.blocks(),
                                     .is_probe = true});
  if (adopt(plan.freeze) && !start_behind_prefix()) return false;
  for (RunningStatistics& s : parameters_.statistics()) s.update_running = false;  // until the epoch's plan is adopted
  plan_ = plan;
  step_.follow(plan, prefix_.parts);
  BatchSource& source = spec_.batches.training();
  const std::int64_t batches = std::min<std::int64_t>(strategy_->probe_batches(), usable_batches());
  PassProgress report{.pass = "probe",
                      .epoch = state_.epoch + 1,
                      .epochs = spec_.settings.epochs,
                      .total = std::min(batches * spec_.settings.batch, spec_.batches.count(Split::train))};
  const auto begin = std::chrono::steady_clock::now();
  const double seconds_before = state_.epoch_seconds;
  source.start(state_.epoch, 0);
  context_.set_training(true);
  double loss_scale = optimizer_.scales_loss() ? LossScaling{}.initial : 1;
  for (std::int64_t b = 0; b < batches; ++b) {
    if (ranks_.any(is_told_to_stop())) return false;
    DeviceBatch batch;
    if (!source.next(batch)) throw Error("training: the epoch ended before its last batch");
    find_gradients(batch, state_.epoch * usable_batches() + b, loss_scale);
    step_.take_first_ranks_gradients();
    strategy_->observe(parameters_);
    // The epoch's time includes its probe.
    const double seconds = seconds_since(begin);
    state_.epoch_seconds = seconds_before + seconds;
    report.done += batch.n();
    report.images_per_second = double(report.done) / seconds;
    progress_.advance(report);
  }
  progress_.end_pass();
  return true;
}

/// Gradients of the task's loss for a batch, computed at a loss scale that is then taken out again. Unless it is 1, it
/// is halved until all gradients are finite.
void Fit::find_gradients(const DeviceBatch& batch, std::int64_t position, double& loss_scale) {
  const auto are_finite = [&] {
    return std::ranges::all_of(parameters_.parameters(), [&](const Parameter& p) {
      return !p.is_trainable || !p.has_gradient() || context_.backend().all_finite(p.gradient().view());
    });
  };
  for (;; loss_scale /= 2) {
    parameters_.clear_gradients();
    context_.start_step(std::uint64_t(spec_.settings.seed), position);
    const CrossEntropyResult result = loss_(step_.logits(batch), loss_.device_labels(context_, batch.labels));
    if (const double loss = result.loss.to_host()[0]; !std::isfinite(loss))
      stop_not_finite(batch, state_.steps + 1, loss);
    context_.tape().backward(result.loss, loss_scale);
    if (loss_scale <= 1) return;
    if (are_finite()) break;
  }
  const View gradients = parameters_.gradients().view();
  context_.backend().map(Scale{1 / loss_scale}, gradients, Write::overwrite, {gradients});
}

/// True if anything is frozen or set free. What was frozen until now is compared before, what is from now on hashed.
bool Fit::adopt(const FreezePlan& freeze) {
  const bool is_new = !adopted_ || !(*adopted_ == freeze);
  if (is_new) verify_frozen();
  if (freeze.apply(parameters_)) optimizer_.prepare();
  if (is_new) step_.forget();
  if (is_new) {
    const RunClock::Part proving = part("proof");
    proof_ = FrozenProof::take(parameters_);
  }
  if (resumed_) restore_optimizer(*resumed_, parameters_, optimizer_);
  resumed_.reset();
  adopted_ = freeze;
  return is_new;
}

void Fit::restore_best() {
  verify_frozen();
  load_best();
  proof_ = {};
  adopted_.reset();  // the plan is the same, what it freezes is not
}

/// Features of the frozen prefix instead of images, where that is possible; false if the run was stopped meanwhile.
bool Fit::start_behind_prefix() {
  const RunClock::Part features = part("features");
  prefix_ = frozen_prefix(spec_.network, *adopted_);
  // What a strategy freezes by its gradients has values of its own in every epoch: no other run has use for them.
  const bool may_share = strategy_->probe_batches() == 0;
  return spec_.batches.start_behind({prefix_, proof_.digest(), spec_.stop, may_share}, progress_);
}

void Fit::verify_frozen() {
  if (proof_.is_empty()) return;
  const RunClock::Part proving = part("proof");
  proof_.verify(parameters_);
  state_.frozen_tensors = std::max(state_.frozen_tensors, proof_.tensors());
  ++state_.frozen_checks;
}

void Fit::set_groups(const EpochPlan& plan) {
  for (std::size_t i = 0; i < parameters_.parameters().size(); ++i) {
    const int block = parameters_.parameters()[i].block;
    optimizer_.set_group(i, {.lr_scale = plan.rate_factor(std::int64_t(i), block),
                             .decay = spec_.settings.weight_decay,
                             .penalty = plan.penalties.empty() ? PenaltySpec{} : plan.penalties.at(i),
                             .rate_group = plan.rate_groups.empty() ? -1 : plan.rate_groups.at(i)});
  }
  // The weights at the first step are those that penalties pull towards; checkpoints hold them from then on.
  const auto to_anchor = [](const PenaltySpec& p) { return p.kind != PenaltyKind::none && p.to_anchor; };
  if (state_.steps == 0 && !optimizer_.has_anchors() && std::ranges::any_of(plan.penalties, to_anchor))
    optimizer_.keep_anchors();
}

void Fit::note_plan(const EpochPlan& plan) {
  // Rates that are measured anew for every epoch get a line of their own, so that the table shows stages alone.
  EpochPlan stage = plan;
  stage.parameter_lr_factors.clear();
  const TruthTableInput input{.parameters = parameters_,
                              .block_names = spec_.network.blocks(),
                              .plan = stage,
                              .lr = spec_.settings.lr,
                              .weight_decay = spec_.settings.weight_decay};
  if (std::string table = truth_table(input); table != truth_table_) {
    progress_.note(fmt::format("epoch {}: what {} (rates before the schedule)\n{}", state_.epoch + 1,
                               truth_table_.empty() ? "trains" : "changes", changed_lines(table, truth_table_)));
    truth_table_ = std::move(table);
  }
  if (plan.parameter_lr_factors.empty()) return;
  progress_.note(fmt::format(
      "epoch {}: rates by block: {}", state_.epoch + 1,
      block_rates(
          {.parameters = parameters_, .block_names = spec_.network.blocks(), .plan = plan, .lr = spec_.settings.lr})));
}

}  // namespace graft
