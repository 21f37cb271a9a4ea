#include "strategies/analysis/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <tuple>

#include "strategies/batches/noise_batches.h"
#include "strategies/training/fit.h"
#include "strategies/training/starting_model.h"

namespace graft {
namespace {

constexpr std::int64_t kNoiseClasses = 1000;  // of a network without weights and data
constexpr const char* kOptimizer = "optimizer";

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const std::size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

// What is run.

/// Chooses what is timed from step to step: warm-up, then whole steps and steps with all their calls in turn, so that a
/// machine that slows down slows both.
class Turns {
 public:
  Turns(StepProfiler& profiler, Profile& profile, const ProfileSpec& spec)
      : profiler_(profiler), profile_(profile), spec_(spec) {
    choose();
  }

  /// False when all steps are there. A step of fewer images than `wanted` counts as none.
  bool take_step(bool is_whole) {
    std::vector<TimedStep> steps = profiler_.take_steps();
    if (done_warmup_ < spec_.warmup)
      ++done_warmup_;
    else if (is_whole && !steps.empty() && steps.back().parts.empty())
      profile_.plain_seconds.push_back(steps.back().seconds);
    else if (is_whole && !steps.empty())
      profile_.steps.push_back(std::move(steps.back()));
    choose();
    return std::ssize(profile_.steps) < spec_.steps || std::ssize(profile_.plain_seconds) < spec_.steps;
  }
  std::int64_t done() const { return done_warmup_ + std::ssize(profile_.steps) + std::ssize(profile_.plain_seconds); }
  std::int64_t total() const { return spec_.warmup + 2 * spec_.steps; }

 private:
  void choose() {
    is_plain_ = profile_.plain_seconds.size() <= profile_.steps.size();
    const bool is_warmup = done_warmup_ < spec_.warmup;
    profiler_.set_mode(is_warmup   ? StepProfiler::Mode::off
                       : is_plain_ ? StepProfiler::Mode::step
                                   : StepProfiler::Mode::calls);
  }

  StepProfiler& profiler_;
  Profile& profile_;
  const ProfileSpec& spec_;
  std::int64_t done_warmup_ = 0;
  bool is_plain_ = true;
};

/// Tells of every step.
class Report {
 public:
  Report(const Turns& turns, std::int64_t images_per_step, ProgressSink& sink)
      : turns_(turns), images_(images_per_step), sink_(sink) {}
  ~Report() { sink_.end_pass(); }
  void advance() {
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin_;
    const std::int64_t done = turns_.done() * images_;
    sink_.advance({.pass = "profile",
                   .done = done,
                   .total = turns_.total() * images_,
                   .images_per_second = double(done) / seconds.count()});
  }

 private:
  const Turns& turns_;
  std::int64_t images_;
  ProgressSink& sink_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

/// Training steps as `graft train` does them. False if stopped.
bool run_training(const FitSpec& fit_spec, Profile& profile, Turns& turns, ProgressSink& progress) {
  Fit fit(fit_spec, progress);
  Report report(turns, profile.images(), progress);
  std::int64_t images_before = 0;
  const auto take_loss = [&](std::int64_t, double loss) {
    if (!std::isfinite(loss))
      throw Error(fmt::format("profile: the loss became {}; use a lower --lr, times of such steps mean nothing", loss));
    const bool is_whole = fit.state().images - images_before == profile.images();
    images_before = fit.state().images;
    const bool goes_on = turns.take_step(is_whole);
    report.advance();
    return goes_on;
  };
  return fit.sweep({.epoch = profile.epoch - 1,
                    .steps = std::numeric_limits<std::int64_t>::max(),
                    .lr = [&](std::int64_t) { return fit_spec.settings.lr; },
                    .take_loss = take_loss});
}

/// Forward passes in evaluation mode, their logits read by the host. False if stopped.
bool run_inference(const Network& network, BatchSource& source, const ProfileSpec& spec, const Profile& profile,
                   Turns& turns, ProgressSink& progress) {
  Context& context = network.context();
  Backend& device = context.backend();
  const Inference inference(context);
  const EvaluationMode evaluation(context);
  Report report(turns, profile.images(), progress);
  source.start(0);
  for (std::int64_t epoch = 0;;) {
    if (spec.stop && *spec.stop) return false;
    DeviceBatch batch;
    {
      const NamedRange step(device, "step");
      bool has_batch = false;
      {
        const NamedRange data(device, "data");
        if (!(has_batch = source.next(batch))) source.start(++epoch);
      }
      if (has_batch) {
        const NamedRange forward(device, "forward");
        (void)network.run_parts(batch.x, batch.part, network.parts()).to_host();
      }
    }
    if (!turns.take_step(batch.n() == profile.batch)) return true;
    report.advance();
  }
}

// What the times add up to.

using LayerKey = std::pair<int, StepPart>;
using CallKey = std::tuple<StepPart, int, std::string_view, std::string_view>;

/// Sums of one key, step by step.
struct Series {
  std::vector<double> seconds;  // per step
  Cost typical;                 // of the step whose counts are shown
  std::size_t place = 0;        // of its first call among the keys
};

Cost cost_of(const TimedCall& call) { return {call.seconds, call.flops, double(call.bytes), 1, call.kernels}; }

/// Adds up the calls of all steps by a key; seconds become medians, the rest is of step `typical`.
template <class Key, class KeyOf>
std::vector<std::pair<Key, Cost>> add_up(const std::vector<TimedStep>& steps, std::size_t typical, KeyOf key_of) {
  std::map<Key, Series> all;
  for (std::size_t s = 0; s < steps.size(); ++s) {
    for (const TimedCall& call : steps[s].calls) {
      const auto [it, is_new] = all.try_emplace(key_of(call));
      Series& series = it->second;
      if (is_new) series.seconds.resize(steps.size()), series.place = all.size() - 1;
      series.seconds[s] += call.seconds;
      if (s == typical) series.typical += cost_of(call);
    }
  }
  std::vector<std::pair<Key, Cost>> costs(all.size());
  for (auto& [key, series] : all) {
    series.typical.seconds = median(series.seconds);
    costs[series.place] = {key, series.typical};
  }
  return costs;
}

/// The step whose duration is nearest to the median.
std::size_t typical_step(const Profile& p) {
  const auto distance = [&](const TimedStep& step) { return std::abs(step.seconds - p.seconds); };
  return std::size_t(std::ranges::min_element(p.steps, {}, distance) - p.steps.begin());
}

void add_layers(Profile& p, std::size_t typical) {
  std::map<int, LayerProfile> by_number;
  std::vector<int> order;
  const auto key_of = [](const TimedCall& c) { return LayerKey{c.layer, c.part}; };
  for (const auto& [key, cost] : add_up<LayerKey>(p.steps, typical, key_of)) {
    const auto& [number, part] = key;
    if (part != StepPart::forward && part != StepPart::backward) continue;
    const auto [it, is_new] = by_number.try_emplace(number);
    if (is_new) order.push_back(number);
    (part == StepPart::forward ? it->second.forward : it->second.backward) = cost;
  }
  std::ranges::stable_sort(order, {}, [&](int n) { return p.step_layers[std::size_t(n)] == "network"; });
  for (int number : order) {
    p.layers.push_back(by_number[number]);
    p.layers.back().name = p.step_layers[std::size_t(number)];
  }
}

/// "layer1.0.conv1" of "layer1.0.conv1.weight" and of its adapters "layer1.0.conv1.weight.lora_up".
std::string layer_of(const Parameter& parameter) {
  std::string name = parameter.name;
  if (parameter.role == Role::adapter) name.resize(name.rfind('.'));
  return name.substr(0, name.rfind('.'));
}

/// Divides the update's calls among the layers.
void add_update(Profile& p, const ParameterSet& parameters, std::size_t typical) {
  Cost update;
  for (const auto& [part, cost] : add_up<StepPart>(p.steps, typical, [](const TimedCall& c) { return c.part; }))
    if (part == StepPart::update) update = cost;
  double trainable = 0;
  for (const Parameter& parameter : parameters.parameters()) {
    if (!parameter.is_trainable) continue;
    const std::string name = layer_of(parameter);
    auto layer = std::ranges::find(p.layers, name, &LayerProfile::name);
    if (layer == p.layers.end()) layer = p.layers.insert(layer, {.name = name});
    layer->trainable += parameter.shape.size();
    trainable += double(parameter.shape.size());
  }
  for (LayerProfile& layer : p.layers) {
    const double share = double(layer.trainable) / trainable;
    layer.update = {.seconds = update.seconds * share, .flops = update.flops * share, .bytes = update.bytes * share};
  }
}

void add_calls(Profile& p, std::size_t typical) {
  const auto key_of = [](const TimedCall& c) { return CallKey{c.part, c.layer, c.op, c.detail}; };
  for (const auto& [key, cost] : add_up<CallKey>(p.steps, typical, key_of)) {
    const auto& [part, layer, op, detail] = key;
    const std::string& name = part == StepPart::update ? kOptimizer : p.step_layers[std::size_t(layer)];
    p.calls.push_back({part, name, std::string(op), std::string(detail), cost});
    p.calls_per_step += cost.calls;
    p.kernels_per_step += cost.kernels;
  }
}

void add_up(Profile& p, const Network& network) {
  std::vector<double> seconds;
  for (const TimedStep& step : p.steps) seconds.push_back(step.seconds);
  p.seconds = median(seconds);
  p.plain = median(p.plain_seconds);
  for (StepPart part : kStepParts) {
    std::vector<double> of_part;
    for (const TimedStep& step : p.steps) of_part.push_back(step.part_seconds(part));
    p.part_seconds[std::size_t(part)] = median(of_part);
  }
  const std::size_t typical = typical_step(p);
  add_layers(p, typical);
  if (!p.is_inference) add_update(p, network.parameters(), typical);
  add_calls(p, typical);
}

// Data.

Dataset dataset_for(const TrainSettings& settings, const ProfileSpec& spec) {
  if (!settings.data.empty()) return open_dataset(settings);
  const std::int64_t classes = settings.from_scratch ? kNoiseClasses : read_model_info(settings.weights).num_classes;
  return Dataset::without_images(settings.batch * settings.accumulate * (spec.warmup + 2 * spec.steps), classes);
}

void check_size(const Dataset& dataset, const Profile& profile) {
  const std::int64_t n = std::ssize(dataset.indices(Split::train));
  if (n < profile.images())
    throw Error(fmt::format("profile: a step takes {} images, and {} has {} for training; use a smaller --batch",
                            profile.images(), dataset.root().string(), n));
}

/// Without a tracer, calls are timed as ever.
void trace_kernels(StepProfiler& profiler, Backend& device, ProgressSink& progress) {
  try {
    profiler.attach(device.make_kernel_tracer());
  } catch (const Error& e) {
    progress.note(std::string("kernels are not traced: ") + e.what());
  }
}

TrainSettings adapted(const TrainSettings& given) {
  TrainSettings settings = given;
  settings.from_scratch = given.weights.empty();
  settings.feature_cache = false;  // the whole step is profiled
  settings.graph = "off";          // replayed calls cannot be seen one by one
  TrainSettings checked = settings;
  if (checked.data.empty()) checked.data = "noise";
  check_start(checked, "profile");
  return settings;
}

}  // namespace

Cost& Cost::operator+=(const Cost& other) {
  seconds += other.seconds, flops += other.flops, bytes += other.bytes, calls += other.calls, kernels += other.kernels;
  return *this;
}

Bound bound_of(const Cost& cost, const DeviceLimits& limits) {
  const double compute = cost.flops / limits.flops_per_second, memory = cost.bytes / limits.bytes_per_second;
  return {std::max(compute, memory), compute > memory};
}

Cost LayerProfile::total() const {
  Cost sum = forward;
  sum += backward;
  sum += update;
  return sum;
}

Cost Profile::layer_total() const {
  Cost sum;
  for (const LayerProfile& layer : layers) sum += layer.total();
  return sum;
}

double Profile::outside_calls() const {
  return seconds - part_seconds[std::size_t(StepPart::data)] - layer_total().seconds;
}

std::optional<Profile> profile_steps(Context& context, StepProfiler& profiler, const TrainSettings& given,
                                     const ProfileSpec& spec, const std::function<DeviceLimits()>& limits_of_device,
                                     ProgressSink& progress) {
  const TrainSettings settings = adapted(given);
  if (spec.epoch > settings.epochs)
    throw UsageError(
        fmt::format("--epoch: {} has {} epochs, got {}; see --epochs", settings.strategy, settings.epochs, spec.epoch));
  Profile p{.strategy = settings.strategy,
            .device = context.backend().description(),
            .precision = settings.precision,
            .optimizer = settings.optimizer,
            .batch = settings.batch,
            .accumulate = spec.is_inference ? 1 : settings.accumulate,
            .epoch = spec.epoch,
            .is_inference = spec.is_inference,
            .has_data = !settings.data.empty()};
  const Dataset dataset = dataset_for(settings, spec);
  for (const BadImage& bad : dataset.skipped()) progress.note("skipped " + bad.path + ": " + bad.reason);
  check_size(dataset, p);
  const StartingModel model = starting_model(context, settings, dataset.class_names(), dataset.is_multi_label());
  Network& network = *model.network;
  if (settings.dropout >= 0) network.set_dropout(settings.dropout);
  p.architecture = network.info().architecture;
  p.size = network.info().input_size;

  std::unique_ptr<NoiseBatches> noise;
  if (!p.has_data)
    noise = std::make_unique<NoiseBatches>(
        context,
        NoiseBatches::Spec{
            .count = dataset.size(), .batch = settings.batch, .size = p.size, .classes = network.num_classes()});
  SplitBatches batches({.network = network,
                        .dataset = dataset,
                        .settings = settings,
                        .transform = transform_of(network.info()),
                        .validates = false,
                        .training = noise.get()});
  p.limits = limits_of_device();
  profiler.attach(context.backend());
  if (context.backend().device().kind == DeviceKind::cuda) trace_kernels(profiler, context.backend(), progress);
  Turns turns(profiler, p, spec);
  const RunDirectory nowhere{{}};
  const auto starting_network = [&] {
    return starting_model(context, settings, dataset.class_names(), dataset.is_multi_label()).network;
  };
  const bool is_whole = spec.is_inference
                            ? run_inference(network, batches.training(), spec, p, turns, progress)
                            : run_training({network, dataset, settings, batches, nowhere, spec.stop, starting_network},
                                           p, turns, progress);
  profiler.set_mode(StepProfiler::Mode::off);
  if (!is_whole) return {};
  p.step_layers = profiler.layers();
  p.peak_bytes = context.backend().memory().peak_bytes;
  add_up(p, network);
  return p;
}

}  // namespace graft
