#include "strategies/training/train_step.h"

namespace graft {
namespace {

// What lies in TrainStep::numbers_.
enum Number : std::int64_t { kLr, kStep, kShare, kPenaltyFactor, kRandomBase, kNumbers };

Tensor doubles(Context& context, std::int64_t count) {
  Tensor t(context, {1, count, 1, 1}, kNhwc, DType::f64);
  context.backend().zero(t.view().data, count * size_of(DType::f64));
  return t;
}

/// The loss as a layer of that name, for profiles.
CrossEntropyResult named_loss(const TaskLoss& loss, const Tensor& logits, const Tensor& labels) {
  const Scope scope(logits.context(), "loss");
  return loss(logits, labels);
}

}  // namespace

std::string capture_obstacle(const TrainSettings& settings) {
  if (settings.bss > 0) return "train.bss computes singular values on the host in every step";
  return {};
}

std::string resolved_graph(const TrainSettings& settings, const Backend& device) {
  if (settings.graph == "off") return "off";
  const std::string obstacle =
      device.supports_capture() ? capture_obstacle(settings) : to_string(device.device()) + " cannot capture steps";
  if (settings.graph == "on" && !obstacle.empty())
    throw UsageError("train.graph: on is not possible: " + obstacle + "; use auto or off");
  return obstacle.empty() ? "on" : "off";
}

TrainStep::TrainStep(const Spec& spec)
    : spec_(spec),
      context_(spec.network.context()),
      shared_(spec.network.parameters(), spec.ranks),
      numbers_(doubles(context_, kNumbers)),
      report_(doubles(context_, kReportSize)) {}

void TrainStep::follow(const EpochPlan& plan, int frozen_parts) {
  // Whatever else of a plan reaches the device does so with the update, which run() compares.
  if (!plan_ || !(plan.freeze == plan_->freeze) || plan.rate_groups != plan_->rate_groups ||
      frozen_parts != frozen_parts_)
    forget();
  plan_ = plan;
  frozen_parts_ = frozen_parts;
}

StepResult TrainStep::run(const StepCall& call) {
  if (call.is_first) shared_.begin();
  if (call.batch.n() == 0) return run_without_batch(call);
  write_numbers(call);
  const StepSpec update = update_spec(call);
  if (call.is_last) spec_.optimizer.make_room(update);
  ReplayedCalls<Identity>& calls = calls_of(call);
  PlannedStep step = calls.begin();
  if (spec_.captures && calls.can_replay(step)) {
    if (call.is_last) spec_.optimizer.begin_step(update);
    replay(calls, step, call);
  } else {
    compute(call);
    if (call.is_last) {
      const NamedRange part(context_.backend(), "update");
      shared_.combine(call.dealt);
      spec_.optimizer.step(update);
    }
  }
  calls.end(step);
  return result_of(call, update);
}

/// The update alone. Its report is of no images.
StepResult TrainStep::run_without_batch(const StepCall& call) {
  const NamedRange part(context_.backend(), "update");
  write_numbers(call);
  context_.backend().zero(report_.view().data, kReportSize * size_of(DType::f64));
  shared_.combine(call.dealt);
  const StepSpec update = update_spec(call);
  spec_.optimizer.step(update);
  return result_of(call, update);
}

StepResult TrainStep::result_of(const StepCall& call, const StepSpec& update) const {
  const bool has_reading = call.is_last && (update.records || update.max_gradient_norm > 0 || update.relative_rates);
  return {context_.backend().begin_copy_out(report_.view().data, kReportSize * size_of(DType::f64)),
          has_reading ? std::optional(spec_.optimizer.reading()) : std::nullopt};
}

/// All that differs from one step of a kind to the next, in two small copies.
void TrainStep::write_numbers(const StepCall& call) {
  const NamedRange part(context_.backend(), "data");
  const double numbers[kNumbers] = {call.lr, double(spec_.optimizer.step_number() + 1), call.share,
                                    call.penalty_share / call.share,
                                    double(Context::first_random_call(call.random_step))};
  context_.backend().copy_in(numbers_.view().data, numbers, sizeof numbers);
  if (call.batch.n() == 0) return;
  Tensor& labels = inputs_.at(call.batch.n()).labels;
  if (!labels) labels = Tensor(context_, {call.batch.n(), 1, 1, 1}, kNhwc, DType::i32);
  spec_.loss.copy_labels(labels, call.batch.labels);
}

TrainStep::Kind TrainStep::kind_of(const StepCall& call) const {
  return {.x = call.batch.x.shape(),
          .part = call.batch.part,
          .images_in_update = is_penalised() ? call.images_in_update : 0,
          .is_first = call.is_first,
          .is_last = call.is_last,
          .records = call.records};
}

StepSpec TrainStep::update_spec(const StepCall& call) const {
  return {.lr = call.lr,
          .max_gradient_norm = spec_.settings.clip_norm,
          .records = call.records || !plan_->penalties.empty(),
          .relative_rates = plan_->relative_rates,
          .clock = numbers_.window(kLr, {1, 2, 1, 1}).view(),
          .halt = report_.window(kReportHalted, {1, 1, 1, 1}).view()};
}

ReplayedCalls<TrainStep::Identity>& TrainStep::calls_of(const StepCall& call) {
  const auto [entry, is_new] = calls_.try_emplace(kind_of(call), context_.backend(), kinds_ + 1);
  if (is_new) ++kinds_;
  return entry->second;
}

/// The update was begun.
void TrainStep::replay(ReplayedCalls<Identity>& calls, const PlannedStep& step, const StepCall& call) {
  Identity identity{.x = call.batch.x.view().data,
                    .update = call.is_last ? spec_.optimizer.identity() : StepIdentity{}};
  if (!calls.are_current(step, identity))
    calls.capture(step, std::move(identity), [&] {
      compute(call);
      const NamedRange part(context_.backend(), "update");
      if (call.is_last) spec_.optimizer.run_step();
    });
  calls.replay();
  for (RunningStatistics& s : spec_.network.parameters().statistics()) s.version += s.update_running;
  ++replays_;
}

/// The gradients.
void TrainStep::compute(const StepCall& call) try { backward(forward(call)); } catch (...) {
  context_.tape().clear();
  throw;
}

/// The batch's loss, its penalty included, on the tape. What the host wants to know of it is left in the report.
Tensor TrainStep::forward(const StepCall& call) {
  const NamedRange part(context_.backend(), "forward");
  if (call.is_first) spec_.network.parameters().clear_gradients();
  context_.start_step(std::uint64_t(spec_.settings.seed), number(kRandomBase).as<double>());
  Pass pass = run_network(call.batch);
  const Tensor labels = inputs_.at(call.batch.n()).labels;
  const CrossEntropyResult result = named_loss(spec_.loss, pass.logits, labels);
  const Tensor penalty = this->penalty(call, pass);
  pass = {};
  context_.backend().report_batch(report_.view(), result.loss.view(), penalty ? penalty.view() : View{},
                                  result.probabilities.view(), labels.view(), spec_.loss.targets());
  if (!penalty) return result.loss;
  const Tensor factor = empty(context_, {1, 1, 1, 1});
  context_.backend().copy(factor.view(), Write::overwrite, number(kPenaltyFactor));
  return add_scaled(result.loss, penalty, factor);
}

/// Gradients of the loss times its share in the update: the first batch's replace, the others' are added.
void TrainStep::backward(const Tensor& loss) {
  const NamedRange part(context_.backend(), "backward");
  context_.tape().backward(loss, number(kShare), spec_.optimizer.loss_scale());
}

TrainStep::Pass TrainStep::run_network(const DeviceBatch& batch) {
  const Network& network = spec_.network;
  Pass pass{.features = batch.x};
  int part = batch.part;
  if (part < frozen_parts_) {
    const EvaluationMode evaluation(context_);
    pass.features = network.run_parts(pass.features, part, frozen_parts_);
    part = frozen_parts_;
  }
  for (; spec_.strategy.has_penalty() && part < network.head_part(); ++part) {
    pass.features = network.run_parts(pass.features, part, part + 1);
    pass.outputs.push_back(pass.features);
  }
  pass.features = network.run_parts(pass.features, part, network.head_part());
  pass.logits = network.run_parts(pass.features, network.head_part(), network.parts());
  return pass;
}

/// Whether the features can change, and something penalises them.
bool TrainStep::is_penalised() const {
  return frozen_parts_ < spec_.network.head_part() && (spec_.strategy.has_penalty() || spec_.settings.bss > 0);
}

Tensor TrainStep::penalty(const StepCall& call, const Pass& pass) {
  if (!is_penalised()) return {};
  Tensor total;
  if (spec_.strategy.has_penalty())
    total = spec_.strategy.penalty(
        {.images = call.batch.x, .outputs = pass.outputs, .images_in_update = call.images_in_update});
  if (spec_.settings.bss > 0) {
    const Tensor bss =
        batch_spectral_shrinkage(pass.features, {.count = spec_.settings.bss_values, .weight = spec_.settings.bss});
    total = total ? add(total, bss) : bss;
  }
  return total;
}

}  // namespace graft
