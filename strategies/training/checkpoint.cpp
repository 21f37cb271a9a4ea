#include "strategies/training/checkpoint.h"

#include <algorithm>

namespace graft {
namespace {

/// Calls `visit(name, member)` for every counter, and for every fraction.
template <class State, class Visit>
void visit_counters(State& s, const Visit& visit) {
  visit("epoch", s.epoch);
  visit("batches_in_epoch", s.batches_in_epoch);
  visit("steps_in_epoch", s.steps_in_epoch);
  visit("steps", s.steps);
  visit("best_epoch", s.best_epoch);
  visit("epochs_without_better", s.epochs_without_better);
  visit("correct", s.correct);
  visit("images", s.images);
  visit("frozen_tensors", s.frozen_tensors);
  visit("frozen_checks", s.frozen_checks);
}
template <class State, class Visit>
void visit_numbers(State& s, const Visit& visit) {
  visit("best_value", s.best_value);
  visit("loss_sum", s.loss_sum);
  visit("penalty_sum", s.penalty_sum);
  visit("train_seconds", s.train_seconds);
  visit("epoch_seconds", s.epoch_seconds);
}

using Integers = std::vector<std::int64_t>;
using Doubles = std::vector<double>;

NumberArray to_array(const Tensor& t) {
  if (t.dtype() == DType::f64) return t.to_host();
  return t.to_host_floats();
}

template <class T>
const T& find(const StateGroup& group, const std::string& name) {
  const auto found = group.arrays.find(name);
  if (found == group.arrays.end() || !std::holds_alternative<T>(found->second))
    throw Error("checkpoint: it holds no " + name +
                ", so it cannot be continued; start the run again with --overwrite");
  return std::get<T>(found->second);
}

std::vector<double> as_doubles(const NumberArray& array) {
  return std::visit([](const auto& values) { return Doubles(values.begin(), values.end()); }, array);
}

std::string moment_name(const Parameter& p, int which) { return p.name + ".moment" + std::to_string(which); }
std::string anchor_name(const Parameter& p) { return p.name + ".anchor"; }
constexpr const char* kRateHistory = "rate_history";
constexpr const char* kRateWindow = "rate_window";

void save_rate_history(StateGroup& group, const Optimizer& optimizer) {
  const Optimizer::RateHistory history = optimizer.rate_history();
  if (history.rows.empty()) return;
  group.arrays[kRateHistory] = history.rows;
  group.arrays[kRateWindow] = Integers{history.window};
}

void restore_rate_history(const StateGroup& group, Optimizer& optimizer) {
  if (!group.arrays.contains(kRateHistory)) return;
  optimizer.restore_rate_history({int(find<Integers>(group, kRateWindow).at(0)), find<Doubles>(group, kRateHistory)});
}

constexpr const char* kLossScale = "loss_scale";
constexpr const char* kSkippedSteps = "skipped_steps";

void save_loss_scale(StateGroup& group, const Optimizer& optimizer) {
  if (!optimizer.scales_loss()) return;
  const Optimizer::LossScaleState state = optimizer.loss_scale_state();
  group.arrays[kLossScale] = Doubles{state.scale, state.good_steps};
  group.arrays[kSkippedSteps] = Integers{state.skipped_steps};
}

void restore_loss_scale(const StateGroup& group, Optimizer& optimizer) {
  if (!optimizer.scales_loss()) return;
  const Doubles& scale = find<Doubles>(group, kLossScale);
  optimizer.restore_loss_scale({scale.at(0), scale.at(1), find<Integers>(group, kSkippedSteps).at(0)});
}

/// All anchors or none.
void restore_anchors(const StateGroup& group, const ParameterSet& parameters, Optimizer& optimizer) {
  if (!group.arrays.contains(anchor_name(parameters.parameters().front()))) return;
  optimizer.keep_anchors();  // makes room
  std::size_t i = 0;
  for (const Parameter& p : parameters.parameters()) {
    const auto found = group.arrays.find(anchor_name(p));
    if (found == group.arrays.end())
      throw Error("checkpoint: it holds no " + anchor_name(p) + "; start the run again with --overwrite");
    optimizer.anchor(i++).from_host(as_doubles(found->second));
  }
}

}  // namespace

void set_state(Checkpoint& c, const TrainState& state) {
  visit_counters(state, [&](const char* name, std::int64_t value) { c.state.arrays[name] = Integers{value}; });
  visit_numbers(state, [&](const char* name, double value) { c.state.arrays[name] = Doubles{value}; });
  c.state.arrays["stopped_early"] = Integers{state.stopped_early};
  c.state.arrays.erase("strategy");
  if (!state.strategy.empty()) c.state.arrays["strategy"] = state.strategy;
}

Checkpoint make_checkpoint(const TrainState& state, const ParameterSet& parameters, const Optimizer& optimizer) {
  Checkpoint c;
  set_state(c, state);
  std::int64_t i = 0;
  for (const Parameter& p : parameters.parameters()) {
    if (p.role == Role::adapter) c.state.arrays[p.name] = to_array(p.value);
    if (p.is_trainable && optimizer.steps(i) > 0) {
      c.optimizer.arrays[p.name + ".steps"] = Integers{optimizer.steps(i)};
      for (int which = 1; which <= optimizer.moment_count(); ++which)
        c.optimizer.arrays[moment_name(p, which)] = to_array(optimizer.moment(which, i));
    }
    if (optimizer.has_anchors()) c.optimizer.arrays[anchor_name(p)] = to_array(optimizer.anchor(std::size_t(i)));
    ++i;
  }
  save_rate_history(c.optimizer, optimizer);
  save_loss_scale(c.optimizer, optimizer);
  return c;
}

bool has_adapters(const ParameterSet& parameters) {
  return std::ranges::any_of(parameters.parameters(), [](const Parameter& p) { return p.adapter.up != nullptr; });
}

void restore_adapters(const Checkpoint& c, const ParameterSet& start, ParameterSet& parameters) {
  auto weight = start.parameters().begin();  // the same network without adapters, which stand behind all others
  for (Parameter& p : parameters.parameters()) {
    if (p.role == Role::adapter) {
      const auto found = c.state.arrays.find(p.name);
      if (found == c.state.arrays.end())
        throw Error("checkpoint: it holds no " + p.name + ", so it cannot be continued; start again with --overwrite");
      p.value.from_host(as_doubles(found->second));
      ++p.version;
      continue;
    }
    if (p.adapter.up) {
      p.value.backend().copy(p.value.view(), Write::overwrite, weight->value.view());
      ++p.version;
    }
    ++weight;
  }
}

TrainState read_state(const Checkpoint& c) {
  TrainState state;
  visit_counters(state, [&](const char* name, std::int64_t& value) { value = find<Integers>(c.state, name).at(0); });
  visit_numbers(state, [&](const char* name, double& value) { value = find<Doubles>(c.state, name).at(0); });
  state.stopped_early = find<Integers>(c.state, "stopped_early").at(0) != 0;
  if (c.state.arrays.contains("strategy")) state.strategy = find<Doubles>(c.state, "strategy");
  return state;
}

void restore_optimizer(const Checkpoint& c, const ParameterSet& parameters, Optimizer& optimizer) {
  std::int64_t i = 0;
  for (const Parameter& p : parameters.parameters()) {
    const std::int64_t index = i++;
    if (!p.is_trainable || !c.optimizer.arrays.contains(p.name + ".steps")) continue;
    optimizer.set_steps(index, find<Integers>(c.optimizer, p.name + ".steps").at(0));
    for (int which = 1; which <= optimizer.moment_count(); ++which) {
      const auto found = c.optimizer.arrays.find(moment_name(p, which));
      if (found == c.optimizer.arrays.end())
        throw Error("checkpoint: it holds no " + moment_name(p, which) +
                    "; was the run started with another optimizer? Use --overwrite to start again");
      optimizer.moment(which, index).from_host(as_doubles(found->second));
    }
  }
  restore_anchors(c.optimizer, parameters, optimizer);
  restore_rate_history(c.optimizer, optimizer);
  restore_loss_scale(c.optimizer, optimizer);
}

}  // namespace graft
