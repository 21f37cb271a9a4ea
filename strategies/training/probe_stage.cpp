#include "strategies/training/probe_stage.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "models/network_io.h"
#include "strategies/training/checkpoint.h"
#include "strategies/training/epoch_steps.h"
#include "strategies/training/resume_check.h"

namespace graft {
namespace {

constexpr const char* kProbeFrom = "train.probe_from: ";

[[noreturn]] void refuse(const std::string& what) { throw Error(kProbeFrom + what); }

/// Of another program, library or number of threads the last bits differ.
constexpr std::array<const char*, 8> kMachine{"graft", "device", "compiler", "compile_flags",
                                              "march", "onednn", "cuda",     "cudnn"};

/// Settings that have no part in what the epochs compute, beside those that may change when a run continues.
bool is_free(std::string_view key) {
  return key.starts_with("strategy.") || key == "train.record_every" ||
         (may_change(key) && key != "train.feature_cache");
}

std::string unquoted(const std::string& value) {
  const nlohmann::json json = nlohmann::json::parse(value, nullptr, false);  // a TOML basic string has JSON's escapes
  return json.is_string() ? json.get<std::string>() : value;
}

class Probe {
 public:
  explicit Probe(const ProbeStageSpec& spec) : spec_(spec), directory_(spec.settings.probe_from) {
    for (const char* name : {"config.toml", "environment.json", "split.csv", "best.h5", "last.h5", "summary.json"})
      if (!directory_.has(name))
        refuse(fmt::format("{} holds no {}; name the directory of a finished linear-probe run", text(), name));
    std::error_code error;
    if (std::filesystem::equivalent(directory_.path(), spec.settings.output, error))
      refuse(fmt::format("{} is the run directory itself; choose another -o", text()));
    keys_ = keys_of_run(directory_.file("config.toml"));
    checkpoint_ = read_checkpoint(directory_.last());
    state_ = read_state(checkpoint_);
  }

  void check() const {
    check_finished();
    check_settings();
    check_start();
    check_plans();
  }
  /// Returns what the strategy has decided by the end of the probe's epochs, Strategy::state().
  std::vector<double> check_plans() const;

  const RunDirectory& directory() const { return directory_; }
  const Checkpoint& checkpoint() const { return checkpoint_; }
  const TrainState& state() const { return state_; }

 private:
  std::string text() const { return directory_.path().string(); }
  std::string key(const std::string& name) const {
    const auto found = keys_.find(name);
    if (found == keys_.end()) refuse(fmt::format("{} names no {}", directory_.file("config.toml").string(), name));
    return unquoted(found->second);
  }
  void check_finished() const;
  void check_settings() const;
  void check_start() const;
  TrainSettings settings() const;

  ProbeStageSpec spec_;
  RunDirectory directory_;
  std::map<std::string, std::string> keys_;
  Checkpoint checkpoint_;
  TrainState state_;
};

void Probe::check_finished() const {
  if (const std::string strategy = key("strategy.name"); strategy != "linear-probe")
    refuse(fmt::format("{} is a run of {}; name one of linear-probe", text(), strategy));
  if (state_.stopped_early)
    refuse(
        fmt::format("{} stopped early after {} of {} epochs, which a first stage never does; train it with --patience "
                    "0, or with --epochs {}",
                    text(), state_.epoch, key("train.epochs"), state_.epoch));
  if (std::to_string(state_.epoch) != key("train.epochs") || state_.batches_in_epoch > 0)
    refuse(fmt::format("{} is not finished, it has {} of {} epochs; continue it with --resume", text(), state_.epoch,
                       key("train.epochs")));
}

void Probe::check_settings() const {
  const std::map<std::string, std::string> now = keys_of(spec_.config_toml);
  for (const auto& [key, value] : now) {
    if (is_free(key) || is_decided_by_weights(key, now)) continue;
    const auto before = keys_.find(key);
    if (before == keys_.end()) refuse(fmt::format("{} says nothing of {}; train it again", text(), key));
    if (!is_same_setting(key, before->second, value, spec_.dataset.is_multi_label()))
      refuse(fmt::format("{} is {}, but {} in {}; the first epochs would differ", key, value, before->second, text()));
  }
  const TrainSettings& s = spec_.settings;
  if (s.max_steps >= 0 && s.max_steps <= state_.steps)
    refuse(fmt::format("train.max_steps is {}, and {} took {} steps; raise it", s.max_steps, text(), state_.steps));
  if (s.record_every > 0) refuse("--record-internals would miss the probe's steps; leave one of them out");
}

void Probe::check_start() const {
  if (read_text(directory_.file("split.csv")) != spec_.dataset.split_csv())
    refuse(fmt::format("the images or their splits are not those of {}", directory_.file("split.csv").string()));
  const nlohmann::json before = nlohmann::json::parse(read_text(directory_.file("environment.json")), nullptr, false);
  const nlohmann::json now = nlohmann::json::parse(spec_.environment_json, nullptr, false);
  if (!before.is_object()) refuse(fmt::format("{} is damaged", directory_.file("environment.json").string()));
  if (before.value("model_sha256", std::string()) != now.value("model_sha256", std::string()))
    refuse(fmt::format("{} started from other weights (environment.json has their SHA-256)", text()));
  for (const char* name : kMachine)
    if (before.value(name, nlohmann::json()) != now.value(name, nlohmann::json()))
      refuse(fmt::format("{} was made with {} {}, this run has {}; train it again, or without --probe-from", text(),
                         name, before.value(name, nlohmann::json()).dump(), now.value(name, nlohmann::json()).dump()));
}

/// Those of the probe, as far as its plans and rates depend on them; all others are the run's.
TrainSettings Probe::settings() const {
  TrainSettings s = spec_.settings;
  s.strategy = "linear-probe", s.strategy_settings.clear();
  s.epochs = state_.epoch;
  for (const auto& [key, value] : keys_)
    if (key.starts_with("strategy.")) set_by_key(s, key, unquoted(value));
  return s;
}

/// Whether a plan asks for nothing that a linear probe's does not do.
bool is_plain(const EpochPlan& plan, const ParameterSet& parameters) {
  for (std::size_t i = 0; i < parameters.parameters().size(); ++i) {
    if (!plan.freeze.trains(std::int64_t(i))) continue;
    if (plan.rate_factor(std::int64_t(i), parameters.parameters()[i].block) != 1) return false;
    if (!plan.penalties.empty() && plan.penalties[i].kind != PenaltyKind::none) return false;
  }
  return !plan.relative_rates && !plan.may_stop_early;
}

std::vector<double> Probe::check_plans() const {
  const TrainSettings &now = spec_.settings, before = settings();
  const ParameterSet& parameters = spec_.network.parameters();
  const std::unique_ptr<Strategy> strategy = make_strategy(now), probe = make_strategy(before);
  const std::int64_t images = std::ssize(spec_.dataset.indices(Split::train));
  for (std::int64_t epoch = 0; epoch < state_.epoch; ++epoch) {
    const EpochPlan planned = plan_epoch(*strategy, now, {epoch, now.epochs, parameters, spec_.network.blocks()}),
                    done = plan_epoch(*probe, before, {epoch, before.epochs, parameters, spec_.network.blocks()});
    if (!(planned.freeze == done.freeze) || !is_plain(planned, parameters) || strategy->probe_batches() > 0 ||
        strategy->has_penalty() || (epoch > 0 && (planned.starts_from_best || planned.resets_optimizer)))
      refuse(epoch == 0
                 ? fmt::format("{}, with its settings, does not begin as {} did, with the head alone", now.strategy,
                               text())
                 : fmt::format("{} trains the head alone for {} epoch{}, {} did for {}; give both the same number",
                               now.strategy, epoch, epoch == 1 ? "" : "s", text(), state_.epoch));
    const std::int64_t batches = usable_batches(images, now.batch, planned.freeze);
    const std::int64_t updates = (batches + now.accumulate - 1) / now.accumulate;
    const Schedule here = schedule_of(now, planned, updates), there = schedule_of(before, done, updates);
    for (std::int64_t step = 0; step < updates; ++step) {
      const double a = here.at(epoch - planned.schedule_begin, step), b = there.at(epoch, step);
      if (a != b)
        refuse(fmt::format(
            "the rate in epoch {} is {:.6g}, but {:.6g} in {}, whose schedule spans {} epochs, this one {}; "
            "use --schedule constant, or the same span",
            epoch + 1, a, b, text(), before.epochs, here.epochs));
    }
  }
  if (state_.epoch >= now.epochs) refuse(fmt::format("{} has all {} epochs of this run", text(), state_.epoch));
  return strategy->state();
}

}  // namespace

void check_probe_stage(const ProbeStageSpec& spec) { Probe(spec).check(); }

std::string take_probe_stage(const ProbeStageSpec& spec, const RunDirectory& directory) {
  const Probe probe(spec);
  TrainState state = probe.state();
  state.strategy = probe.check_plans();
  state.epochs_without_better = 0;  // patience begins with the last stage
  Checkpoint checkpoint = probe.checkpoint();
  set_state(checkpoint, state);
  for (const char* name : {"epochs.csv", "steps.csv"}) directory.write(name, read_text(probe.directory().file(name)));
  write_atomically(directory.best(), read_file(probe.directory().best()));
  const ModelFile last = read_model_file(probe.directory().last());
  write_model_file(directory.last(), last.info, last.weights, checkpoint);
  return fmt::format("epochs 1 to {} are those of {}: {} steps, the best head is that of epoch {}", state.epoch,
                     probe.directory().path().string(), state.steps, state.best_epoch);
}

}  // namespace graft
