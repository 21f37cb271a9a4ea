#include "strategies/training/fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>

#include "data/files.h"
#include "strategies/batches/image_sheets.h"
#include "strategies/seconds.h"
#include "strategies/training/class_weights.h"

namespace graft {
namespace {

using Clock = std::chrono::steady_clock;

OptimizerSpec optimizer_spec(const TrainSettings& s, const Context& context) {
  return {.kind = parse_optimizer(s.optimizer),
          .momentum = s.momentum,
          .nesterov = s.nesterov,
          .beta1 = s.beta1,
          .beta2 = s.beta2,
          .epsilon = s.epsilon,
          .loss_scaling = context.activation_type() == DType::f16 ? std::optional(LossScaling{}) : std::nullopt};
}

/// Errors: a network for other answers than the images need.
const FitSpec& checked(const FitSpec& spec) {
  const Network& network = spec.network;
  if (network.info().is_multi_label != spec.dataset.is_multi_label())
    throw Error("training: of network and images only one is for several labels per image");
  if (network.num_classes() < std::ssize(spec.dataset.class_names()))
    throw Error(fmt::format("training: a network of {} classes for images of {}", network.num_classes(),
                            spec.dataset.class_names().size()));
  return spec;
}

std::unique_ptr<Strategy> prepared(std::unique_ptr<Strategy> strategy, const FitSpec& spec) {
  strategy->prepare(spec.network, {spec.starting_network, std::uint64_t(spec.settings.seed)});
  return strategy;
}

}  // namespace

Fit::Fit(const FitSpec& spec, ProgressSink& progress, std::unique_ptr<Strategy> strategy)
    : spec_(checked(spec)),
      monitor_(monitor_of(spec.settings.monitor, spec.dataset.is_multi_label())),
      clock_(spec.clock ? *spec.clock : own_clock_),
      ranks_(spec.ranks),
      progress_(progress),
      context_(spec.network.context()),
      parameters_(spec.network.parameters()),
      strategy_(prepared(strategy ? std::move(strategy) : make_strategy(spec.settings), spec)),
      optimizer_(parameters_, optimizer_spec(spec.settings, context_)),
      class_weights_(class_weights(spec.settings, spec.dataset)),
      loss_(context_, {.num_classes = spec.network.num_classes(),
                       .label_smoothing = spec.settings.label_smoothing,
                       .class_weights = class_weights_,
                       .targets = spec.dataset.label_sets().table(spec.network.num_classes())}),
      checkpoints_({.network = spec.network,
                    .optimizer = optimizer_,
                    .directory = spec.directory,
                    .clock = clock_,
                    .writes = ranks_.is_first()}),
      step_({.network = spec.network,
             .strategy = *strategy_,
             .optimizer = optimizer_,
             .loss = loss_,
             .settings = spec_.settings,
             .ranks = ranks_,
             .captures = ranks_.count() == 1 && resolved_graph(spec.settings, context_.backend()) == "on"}) {
  context_.set_recomputes_norms(spec.settings.recompute == "norms");
}

/// A picture for TensorBoard, for whose sake no training fails.
void Fit::show(std::string_view tag, const std::function<Image(const Transform&)>& sheet) {
  try {
    tensorboard_->image(tag, state_.steps, sheet(transform_of(spec_.network.info())));
  } catch (const Error& error) {
    progress_.note(fmt::format("no {} for TensorBoard: {}", tag, error.what()));
  }
}

bool Fit::is_out_of_steps() const { return spec_.settings.max_steps >= 0 && state_.steps >= spec_.settings.max_steps; }

bool Fit::is_done() const { return state_.stopped_early || state_.epoch >= spec_.settings.epochs || is_out_of_steps(); }

void Fit::open_logs() {
  if (!ranks_.is_first()) return;
  epochs_csv_.emplace(spec_.directory.file("epochs.csv"), epochs_csv_header(), state_.epoch);
  steps_csv_.emplace(spec_.directory.file("steps.csv"), "step,loss,penalty,lr", state_.steps);
  if (spec_.settings.tensorboard) {
    tensorboard_.emplace(spec_.directory.path(), spec_.network, state_.steps);
    show("train/images", [&](const Transform& t) { return training_sheet(spec_.dataset, spec_.settings, t); });
  }
  if (spec_.settings.record_every == 0) return;
  recorder_.emplace(InternalsRecorder::Spec{.network = spec_.network,
                                            .strategy = spec_.settings.strategy,
                                            .every = spec_.settings.record_every,
                                            .path = spec_.directory.file("internals.h5"),
                                            .last_step = state_.steps});
  if (state_.steps == 0) optimizer_.keep_anchors();  // later the checkpoint has them
}

void Fit::resume(const Checkpoint& checkpoint) {
  state_ = read_state(checkpoint);
  checkpoints_.resume(state_);
  strategy_->restore(state_.strategy);
  if (has_adapters(parameters_)) {
    const std::unique_ptr<Network> start = spec_.starting_network();
    restore_adapters(checkpoint, start->parameters(), parameters_);
  }
  resumed_ = checkpoint;
}

void Fit::save() {
  const RunClock::Part saving = part("saving");
  checkpoints_.await();
  if (recorder_) recorder_->flush();
  state_.strategy = strategy_->state();
  checkpoints_.save(state_);
}

bool Fit::run() try {
  const bool is_complete = train();
  if (!is_complete) checkpoints_.await();
  return is_complete;
} catch (...) {
  checkpoints_.save_kept_best();
  if (fails_with_others_) ranks_.finish();
  throw;
}

bool Fit::train() {
  open_logs();
  // What a cut first epoch left as the best does not compete with the whole of it.
  if (!is_done() && state_.best_epoch > state_.epoch) state_.best_epoch = 0, state_.best_value = 0;
  if (step_.captures()) progress_.note("the calls of a training step are captured once and replayed (train.graph)");
  if (const std::string note = spec_.batches.images_note(); !note.empty()) progress_.note(note);
  while (!is_done()) {
    if (!begin_epoch()) return verify_frozen(), save(), false;
    const EpochEnd end = train_epoch();
    if (steps_csv_) steps_csv_->flush();
    if (end == EpochEnd::stopped) return verify_frozen(), save(), false;
    if (!finish_epoch(end == EpochEnd::out_of_steps)) return verify_frozen(), save(), false;
    if (end == EpochEnd::out_of_steps) break;
  }
  verify_frozen();
  check_ranks_agree();
  if (!checkpoints_.is_saved(state_)) save();
  if (state_.frozen_tensors > 0)
    progress_.note(fmt::format(
        "frozen tensors and statistics: {} of {} unchanged, bit for bit ({}SHA-256, {} comparison{})",
        state_.frozen_tensors, state_.frozen_tensors,
        proof_.channels() > 0 ? fmt::format("with {} channels of tensors that train; ", proof_.channels()) : "",
        state_.frozen_checks, state_.frozen_checks == 1 ? "" : "s"));
  return true;
}

bool Fit::begin_epoch() {
  const bool is_fresh = state_.batches_in_epoch == 0;
  if (is_fresh && strategy_->probe_batches() > 0 && !probe()) return false;
  const EpochPlan plan = plan_epoch(*strategy_, spec_.settings,
                                    {state_.epoch, spec_.settings.epochs, parameters_, spec_.network.blocks()});
  if (plan.starts_from_best && is_fresh && state_.best_epoch > 0) restore_best();
  const bool is_new = adopt(plan.freeze);
  if (parameters_.trainable_size() == 0)
    throw Error("strategy " + spec_.settings.strategy + ": nothing trains in epoch " +
                std::to_string(state_.epoch + 1));
  if (plan.resets_optimizer && is_fresh) optimizer_.reset();
  set_groups(plan);
  plan_ = plan;
  note_plan(plan);
  if (is_new && !start_behind_prefix()) return false;
  step_.follow(plan, prefix_.parts);
  if (!is_new) return true;
  if (spec_.settings.bss > 0 && prefix_.parts == spec_.network.head_part())
    progress_.note("train.bss: the features cannot change now, so there is no penalty on them");
  return true;
}

double Fit::sample_weight(std::int32_t label) const {
  return class_weights_.empty() || spec_.dataset.is_multi_label() ? 1 : class_weights_[std::size_t(label)];
}

Fit::Window Fit::next_window(const std::vector<std::int64_t>& order) const {
  const std::int64_t first = state_.batches_in_epoch, batch = spec_.settings.batch;
  Window window{.batches = std::min(spec_.settings.accumulate, usable_batches() - first)};
  const std::int64_t end = std::min((first + window.batches) * batch, std::int64_t(order.size()));
  window.images = end - first * batch;
  for (std::int64_t i = first * batch; i < end; ++i)
    window.weight += sample_weight(spec_.dataset.samples()[std::size_t(order[std::size_t(i)])].label);
  for (std::int64_t b = first; b < first + window.batches; ++b) {
    if (batch_share().has(b))
      window.own.push_back(b);
    else
      ++(window.own.empty() ? window.dealt.before : window.dealt.behind);
  }
  window.dealt.own = std::ssize(window.own);
  return window;
}

void Fit::check_has_batches() const {
  if (usable_batches() == 0)
    throw Error("train: one training image gives batch norm no statistics; add images or use fixed statistics");
}

Fit::EpochEnd Fit::train_epoch() {
  const RunClock::Part training = part("training");
  check_has_batches();
  skipped_before_epoch_ = optimizer_.skipped_steps();
  BatchSource& source = spec_.batches.training();
  const std::vector<std::int64_t> order = source.order(state_.epoch);
  PassProgress report{
      .pass = "train", .epoch = state_.epoch + 1, .epochs = spec_.settings.epochs, .total = std::int64_t(order.size())};
  const Clock::time_point begin = Clock::now();
  const double seconds_before = state_.epoch_seconds;
  const std::int64_t images_before = state_.images;
  source.start(state_.epoch, state_.batches_in_epoch, batch_share());
  context_.set_training(true);
  EpochEnd end = EpochEnd::complete;
  while (state_.batches_in_epoch < usable_batches()) {
    if (is_stopping() || is_out_of_steps()) {
      end = is_out_of_steps() ? EpochEnd::out_of_steps : EpochEnd::stopped;
      break;
    }
    train_window(source, next_window(order), learning_rate());
    state_.epoch_seconds = seconds_before + seconds_since(begin);
    report.done = state_.images;
    report.loss = state_.loss_sum / double(std::max<std::int64_t>(1, state_.images));
    report.images_per_second = double(state_.images - images_before) / seconds_since(begin);
    progress_.advance(report);
  }
  read_results(0);
  state_.epoch_seconds = seconds_before + seconds_since(begin);
  progress_.end_pass();
  return end;
}

bool Fit::sweep(const SweepSpec& sweep) {
  state_.epoch = sweep.epoch;
  if (!begin_epoch()) return false;
  check_has_batches();
  while (state_.steps < sweep.steps && sweep_epoch(sweep)) {
    ++state_.epoch;  // another order of the images; the plan stays
    state_.batches_in_epoch = 0;
  }
  return !is_stopping();
}

/// False when the sweep is over before its last step.
bool Fit::sweep_epoch(const SweepSpec& sweep) {
  BatchSource& source = spec_.batches.training();
  const std::vector<std::int64_t> order = source.order(state_.epoch);
  source.start(state_.epoch);
  context_.set_training(true);
  while (state_.batches_in_epoch < usable_batches() && state_.steps < sweep.steps) {
    if (is_stopping()) return false;
    const std::int64_t step = state_.steps;
    try {
      train_window(source, next_window(order), sweep.lr(step) * plan_->lr_factor);
      read_results(0);
      if (!sweep.take_loss(step, last_loss_)) return false;
    } catch (const LossNotFinite&) {
      sweep.take_loss(step, std::numeric_limits<double>::quiet_NaN());
      return false;
    }
  }
  return true;
}

/// One update.
void Fit::train_window(BatchSource& source, const Window& window, double lr) {
  checkpoints_.notice_written();
  const bool records = recorder_ && recorder_->wants(state_.steps + 1);
  const NamedRange step(context_.backend(), "step");
  for (const std::int64_t b : window.own) {
    const bool is_last = b == window.own.back();
    DeviceBatch& batch =
        step_.inputs(std::min(spec_.settings.batch, spec_.batches.count(Split::train) - b * spec_.settings.batch));
    {
      const NamedRange part(context_.backend(), "data");
      if (!source.next(batch)) throw Error("training: the epoch ended before its last batch");
    }
    double weight = 0;
    for (std::int32_t label : batch.labels) weight += sample_weight(label);
    // Means over a batch become means over the window: the task's by the samples' weights, the penalty's by their
    // count.
    begin_step({.batch = batch,
                .lr = lr,
                .random_step = state_.epoch * usable_batches() + b,
                .share = weight / window.weight,
                .penalty_share = double(batch.n()) / double(window.images),
                .images_in_update = window.images,
                .is_first = b == window.own.front(),
                .is_last = is_last,
                .dealt = window.dealt,
                .records = records && is_last},
               b);
  }
  const DeviceBatch none;
  if (window.own.empty()) begin_step({.batch = none, .lr = lr, .dealt = window.dealt, .records = records}, 0);
  state_.batches_in_epoch += window.batches;
}

void Fit::begin_step(const StepCall& call, std::int64_t batch) {
  pending_.push_back({.result = step_.run(call),
                      .call = call,
                      .images = call.batch.n(),
                      .update = state_.steps + 1,
                      .epoch = state_.epoch,
                      .batch = batch});
  if (call.records) pending_.back().record = recorder_->take(optimizer_);
  if (call.is_last) ++state_.steps, ++state_.steps_in_epoch;
  // Where the device works by itself, it is given the next step before the host asks for the results of this one.
  read_results(context_.backend().is_asynchronous() ? 1 : 0);
}

/// Takes the results of all steps but the last `pending` ones.
void Fit::read_results(std::size_t pending) {
  while (pending_.size() > pending) {
    const Pending step = std::move(pending_.front());
    pending_.pop_front();
    take_result(step);
    if (step.call.is_last) take_update(step);
  }
}

void Fit::take_result(const Pending& step) {
  const double loss = step.result.loss(), penalty = step.result.penalty(), n = double(step.images);
  if (step.call.is_first) update_ = {}, failed_.reset();
  if (!std::isfinite(loss) || !std::isfinite(penalty)) {
    update_.failures = 1;
    if (!failed_)
      failed_ = {.update = step.update,
                 .epoch = step.epoch,
                 .batch = step.batch,
                 .random_step = step.call.random_step,
                 .loss = std::isfinite(loss) ? loss + penalty : loss};
    return;
  }
  update_.loss += loss * step.call.share;
  update_.penalty += penalty * step.call.penalty_share;
  update_.loss_sum += loss * n;
  update_.penalty_sum += penalty * n;
  update_.images += n;
  update_.correct += double(step.result.correct());
}

/// The first of the ranks whose loss is not finite says so.
void Fit::fail_together() {
  fails_with_others_ = true;
  const char own = failed_.has_value();
  const std::vector<char> all = gather_values<char>(ranks_, std::span(&own, 1));
  if (std::ranges::find(all, 1) - all.begin() != ranks_.rank()) throw OtherRankFailed();
  stop_not_finite(*failed_);
}

void Fit::take_update(const Pending& step) {
  update_.stops = is_told_to_stop();
  auto sums = std::bit_cast<std::array<double, sizeof(UpdateSums) / sizeof(double)>>(update_);
  ranks_.sum(sums);
  update_ = std::bit_cast<UpdateSums>(sums);
  stops_with_others_ = update_.stops > 0;
  if (update_.failures > 0) fail_together();
  const std::optional<StepReading>& update = step.result.update();
  if (update && !optimizer_.scales_loss() && update->was_skipped()) {  // a loss scale comes down by itself
    if (recorder_) recorder_->flush();
    fails_with_others_ = true;
    if (!ranks_.is_first()) throw OtherRankFailed();
    throw LossNotFinite(
        fmt::format("training: the gradient is not finite at step {} (epoch {}), while the loss is; lower "
                    "train.lr (now {:g}) and run again with --overwrite",
                    step.update, step.epoch + 1, spec_.settings.lr));
  }
  const double weight_penalty = plan_->penalties.empty() ? 0 : update->penalty();
  state_.loss_sum += update_.loss_sum;
  state_.penalty_sum += update_.penalty_sum + weight_penalty * update_.images;
  state_.correct += std::int64_t(update_.correct);
  state_.images += std::int64_t(update_.images);
  last_loss_ = update_.loss;
  if (step.record)
    recorder_->record({.step = step.update, .epoch = step.epoch + 1, .lr = step.call.lr, .loss = update_.loss},
                      *step.record, plan_->penalties);
  if (steps_csv_)
    steps_csv_->add(fmt::format("{},{:.12g},{:.12g},{:.12g}", step.update, update_.loss,
                                update_.penalty + weight_penalty, step.call.lr));
  if (tensorboard_)
    tensorboard_->update(
        {.step = step.update,
         .updates_in_epoch = (usable_batches() + spec_.settings.accumulate - 1) / spec_.settings.accumulate,
         .loss = update_.loss,
         .penalty = update_.penalty + weight_penalty,
         .lr = step.call.lr});
}

/// Errors: ranks have come to different weights, though each made the same updates.
void Fit::check_ranks_agree() {
  if (ranks_.count() == 1) return;
  const Tensor& values = parameters_.values();
  Sha256 hash;
  hash.update({static_cast<const std::uint8_t*>(values.view().data),
               std::size_t(values.shape().size() * size_of(values.dtype()))});
  const std::array<std::uint8_t, 32> digest = hash.finish();
  if (const auto rank = first_to_differ(ranks_, std::as_bytes(std::span(digest))))
    throw Error(fmt::format(
        "training: processes 0 and {} have come to different weights; are they the same program, on the same "
        "kind of machine, with the same number of threads?",
        *rank));
}

}  // namespace graft
