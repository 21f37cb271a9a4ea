// The measuring half of estimate.h.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include "data/parallel.h"
#include "kernels/dry_backend.h"
#include "models/network_io.h"
#include "strategies/analysis/memory_estimate.h"
#include "strategies/batches/frozen_prefix.h"
#include "strategies/seconds.h"
#include "strategies/study/child_process.h"
#include "strategies/study/estimate.h"
#include "strategies/study/splits.h"
#include "strategies/training/evaluation.h"
#include "strategies/training/fit.h"
#include "strategies/training/starting_model.h"

namespace graft {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
double between(Clock::time_point a, Clock::time_point b) { return std::chrono::duration<double>(b - a).count(); }

template <class Work>
double seconds_of(const Work& work) {
  const Clock::time_point begin = Clock::now();
  work();
  return seconds_since(begin);
}

/// Images of a split: files, or those of an .npz.
class SplitImages final : public ImageSource {
 public:
  SplitImages(std::vector<std::string> paths, std::shared_ptr<const Dataset> npz, std::vector<std::int64_t> numbers,
              const std::optional<IntensityWindow>& window)
      : paths_(std::move(paths)), npz_(std::move(npz)), numbers_(std::move(numbers)), window_(window) {}
  Image load(std::int64_t i, ImageInfo* info) const override {
    return npz_ ? npz_->load(numbers_[std::size_t(i)], info) : decode_image(paths_[std::size_t(i)], info, window_);
  }

 private:
  std::vector<std::string> paths_;
  std::shared_ptr<const Dataset> npz_;
  std::vector<std::int64_t> numbers_;
  std::optional<IntensityWindow> window_;
};

/// At most so many images of each split, evenly chosen; none for testing.
Dataset some_images(const StudyDataset& dataset, const StudySplit& split, std::int64_t train, std::int64_t val,
                    const std::optional<IntensityWindow>& window) {
  std::vector<Sample> samples;
  std::vector<std::string> paths;
  std::vector<std::int64_t> numbers;
  const auto take = [&](Split part, std::int64_t most) {
    std::vector<std::int64_t> all;
    for (std::int64_t i = 0; i < std::ssize(split.samples); ++i)
      if (split.samples[std::size_t(i)].split == part) all.push_back(i);
    const std::int64_t count = std::min(most, std::ssize(all));
    for (std::int64_t k = 0; k < count; ++k) {
      const std::int64_t i = all[std::size_t(k * std::ssize(all) / count)];
      samples.push_back(split.samples[std::size_t(i)]);
      paths.push_back(samples.back().path);
      numbers.push_back(i);
    }
  };
  take(Split::train, train);
  take(Split::val, val);
  std::shared_ptr<const Dataset> npz;
  if (is_npz(dataset))
    npz = std::make_shared<const Dataset>(Dataset::open({.path = dataset.path, .decodes_all = false}));
  return {split.class_names, samples, std::make_shared<SplitImages>(paths, npz, numbers, window), split.label_sets};
}

/// Remembers when batches of each kind of pass were done.
class PassTimes final : public ProgressSink {
 public:
  struct Pass {
    Clock::time_point first, last;
    std::int64_t first_done = 0, done = 0;
    double begin_to_first = 0;
  };
  void note(std::string_view) override {}
  void advance(const PassProgress& p) override {
    Pass& pass = passes_[std::string(p.pass)];
    const Clock::time_point now = Clock::now();
    if (pass.done == 0) {
      pass.first = now, pass.first_done = p.done;
      pass.begin_to_first = p.images_per_second > 0 ? double(p.done) / p.images_per_second : 0;
    }
    pass.last = now, pass.done = p.done;
  }
  /// Seconds in all.
  double total(const std::string& name) const {
    const auto pass = passes_.find(name);
    return pass == passes_.end() ? 0 : pass->second.begin_to_first + between(pass->second.first, pass->second.last);
  }
  /// Without the first batch, if there are others.
  double per_image(const std::string& name) const {
    const auto found = passes_.find(name);
    if (found == passes_.end() || found->second.done == 0) return 0;
    const Pass& pass = found->second;
    if (pass.done == pass.first_done) return pass.begin_to_first / double(pass.done);
    return between(pass.first, pass.last) / double(pass.done - pass.first_done);
  }

 private:
  std::map<std::string, Pass> passes_;
};

/// The lower quartile: what else runs on the machine only ever makes a step slower.
double quick(std::vector<double> seconds) {
  const auto at = seconds.begin() + (std::ssize(seconds) - 1) / 4;
  std::ranges::nth_element(seconds, at);
  return *at;
}

/// What trains in an epoch, as the strategy plans from the first on.
FreezePlan freeze_plan_in(const TrainSettings& s, const Network& network, std::int64_t last) {
  const std::unique_ptr<Strategy> strategy = make_strategy(s);
  FreezePlan freeze = FreezePlan::frozen(network.parameters());
  for (std::int64_t epoch = 0; epoch <= last; ++epoch)
    freeze = plan_epoch(*strategy, s, {epoch, s.epochs, network.parameters(), network.blocks()}).freeze;
  return freeze;
}

constexpr std::int64_t kDecoded = 48;    // images of a data set that are decoded to see how long that takes
constexpr double kBytesPerSecond = 8e9;  // of memory, when an update reads and writes weights, gradients and moments

class Measurement {
 public:
  Measurement(const StudySpec& spec, const MeasureCall& call) : spec_(spec), call_(call) {}
  StudyRates measure();

 private:
  struct Probe {
    StudyCell cell;
    TrainSettings settings;
    std::vector<Stage> stages;
  };
  void read_splits();
  void measure_dataset(const StudyDataset& dataset);
  void measure_network(const StudyNetwork& network);
  TaskRates measure_strategy(const Probe& probe, Context& context);
  StageRates measure_stage(const Probe& probe, Context& context, std::int64_t first_epoch);
  std::int64_t affordable_batch(const Probe& probe, Context& context);
  std::string stage_key(const Probe& probe, const Network& network, std::int64_t first_epoch) const;
  TrainSettings probe_settings(const StudyCell& cell) const;
  double process_seconds() const;
  double evaluation_seconds(const std::string& network) const;
  bool is_stopping() const { return call_.stop && *call_.stop; }
  const StudySplit& split(const std::string& dataset) const { return splits_.at(dataset); }

  const StudySpec& spec_;
  const MeasureCall& call_;
  StudyRates rates_;
  std::map<std::string, StudySplit> splits_;  // the first of each dataset
  std::map<std::string, StageRates> known_;
  double probe_seconds_ = 1;  // that one stage may take
  std::int64_t batch_ = 1;    // of the network that is measured now
};

StudyRates Measurement::measure() {
  const Clock::time_point begin = Clock::now();
  check_study(spec_);
  read_splits();
  std::int64_t kinds = 0;
  for (const StudyNetwork& network : spec_.networks)
    for (const StudyStrategy& strategy : spec_.strategies) {
      const StudyCell cell{network.name, spec_.datasets[0].name, strategy.name, spec_.seeds[0], -1};
      kinds += std::ssize(stages_of_model(probe_settings(cell), model_of(spec_, cell, 2)));
    }
  probe_seconds_ = std::clamp(call_.seconds / double(kinds), 0.2, 10.0);
  call_.note(fmt::format("measuring steps of {} network{} with {} strateg{}, at most {} kinds: about {:.0f} s",
                         spec_.networks.size(), spec_.networks.size() == 1 ? "" : "s", spec_.strategies.size(),
                         spec_.strategies.size() == 1 ? "y" : "ies", kinds, probe_seconds_ * double(kinds)));
  for (const StudyDataset& dataset : spec_.datasets) measure_dataset(dataset);
  for (const StudyNetwork& network : spec_.networks) measure_network(network);
  rates_.probes = std::ssize(known_);
  rates_.seconds = seconds_since(begin);
  return std::move(rates_);
}

void Measurement::read_splits() {
  for (const StudyDataset& dataset : spec_.datasets) {
    const std::vector<StudySplit> splits = make_splits(spec_, dataset, false, call_.decoding_threads);
    for (std::size_t i = 0; i < splits.size(); ++i) {
      std::array<std::int64_t, 3>& count = rates_.counts[{dataset.name, spec_.folds > 0 ? std::int64_t(i) : -1}];
      for (const Split part : kSplits) count[std::size_t(part)] = splits[i].count(part);
    }
    splits_[dataset.name] = splits[0];
  }
}

TrainSettings Measurement::probe_settings(const StudyCell& cell) const {
  TrainSettings s = cell_settings(spec_, StudyDirectory(call_.scratch), cell, 0);
  if (s.threads == 0) s.threads = call_.threads;
  s.resume = false;
  s.class_weights = "none";  // a few images may lack a class
  s.record_every = 0;
  s.feature_cache_dir = (call_.scratch / "features").string();
  return s;
}

void Measurement::measure_dataset(const StudyDataset& dataset) {
  const StudyCell cell{spec_.networks[0].name, dataset.name, spec_.strategies[0].name, spec_.seeds[0], -1};
  const TrainSettings s = probe_settings(cell);
  const ModelInfo info = model_of(spec_, cell, 2);
  const Dataset images = some_images(dataset, split(dataset.name), kDecoded, 0, intensity_window(s));
  const int threads = loader_threads(s.loader_threads, s.threads);
  DatasetRates& rates = rates_.datasets[dataset.name];
  std::vector<std::int64_t> bytes(std::size_t(images.size()));
  const double n = double(images.size());
  rates.open_seconds = seconds_of([&] {
                         parallel_for(images.size(), threads,
                                      [&](std::int64_t i) { bytes[std::size_t(i)] = std::ssize(images.load(i).rgb); });
                       }) /
                       n;
  Loader loader(
      images,
      {.indices = images.indices(Split::train), .batch = s.batch, .transform = transform_of(info), .threads = threads});
  const auto pass = [&] {
    loader.start(0);
    for (Batch batch; loader.next(batch);) {
    }
  };
  const double first = seconds_of(pass), again = seconds_of(pass);
  rates.load_seconds = std::max(0.0, first - again) / n;
  const bool keeps_cropped = augmentation_of(s).is_none();
  std::int64_t all = 0;
  for (std::int64_t b : bytes) all += b;
  rates.decoded_bytes = all / images.size();
  rates.image_bytes = keeps_cropped ? 3 * info.input_size * info.input_size : rates.decoded_bytes;
}

/// Starting the program and loading its libraries.
double Measurement::process_seconds() const {
  return seconds_of([&] {
    ChildProcess process({.program = call_.program, .arguments = {"--version"}, .log = call_.scratch / "log.txt"});
    while (!process.poll()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
}

void Measurement::measure_network(const StudyNetwork& network) {
  NetworkRates& rates = rates_.networks[network.name];
  const StudyCell first{network.name, spec_.datasets[0].name, spec_.strategies[0].name, spec_.seeds[0], -1};
  TrainSettings settings = probe_settings(first);
  std::unique_ptr<Context> context;
  rates.start_seconds = process_seconds() + seconds_of([&] { context = call_.open(settings); });
  rates_.device_waits = !context->backend().is_asynchronous();
  StartingModel model;
  const StudySplit& images = split(first.dataset);
  rates.start_seconds += seconds_of(
      [&] { model = starting_model(*context, settings, images.class_names, images.label_sets.is_multi_label()); });
  fs::create_directories(call_.scratch);
  const fs::path file = call_.scratch / "best.h5";
  rates.best_seconds = seconds_of([&] { save_network(file, *model.network); });
  rates.best_bytes = std::int64_t(fs::file_size(file));
  model.network.reset();

  Probe full{first, settings, stages_of_model(settings, model_of(spec_, first, 2))};
  batch_ = affordable_batch(full, *context);
  for (const StudyStrategy& strategy : spec_.strategies) {
    StudyCell cell = first;
    cell.strategy = strategy.name;
    Probe probe{cell, probe_settings(cell), {}};
    probe.settings.precision = settings.precision;
    probe.stages = stages_of_model(probe.settings, model_of(spec_, cell, 2));
    rates_.tasks[{network.name, strategy.name}] = measure_strategy(probe, *context);
  }
  rates.test_seconds = evaluation_seconds(network.name);
}

/// An image through the whole network: as a strategy that keeps no features validates, else as features are computed.
double Measurement::evaluation_seconds(const std::string& network) const {
  double least = std::numeric_limits<double>::infinity(), features = 0;
  for (const auto& [key, task] : rates_.tasks)
    for (const StageRates& stage : task.stages) {
      if (key.first != network) continue;
      features = std::max(features, stage.feature_seconds);
      if (!stage.keeps_features) least = std::min(least, stage.validation_seconds);
    }
  return std::isfinite(least) ? least : features;
}

/// The largest batch, up to the settings', of which some steps fit into the time for a stage.
std::int64_t Measurement::affordable_batch(const Probe& probe, Context& context) {
  constexpr std::int64_t kPilot = 4, kSteps = 4;
  batch_ = std::min(kPilot, probe.settings.batch);
  const double seconds =
      measure_stage(probe, context, probe.stages.back().first_epoch).step_seconds / double(probe.settings.batch);
  const double most = probe_seconds_ / double(kSteps) / std::max(seconds, 1e-9);
  return std::clamp(std::int64_t(most), batch_, probe.settings.batch);
}

/// Stages that are alike are measured once.
std::string Measurement::stage_key(const Probe& probe, const Network& network, std::int64_t first_epoch) const {
  const FreezePlan freeze = freeze_plan_in(probe.settings, network, first_epoch);
  const KeyedSettings& own = strategy_of(spec_, probe.cell.strategy).settings;
  constexpr std::array<std::string_view, 9> kPlain{"full",  "linear-probe", "gradual-last-first", "gradual-first-last",
                                                   "lp-ft", "bn-only",      "discriminative"};
  const bool is_plain = std::ranges::find(kPlain, probe.settings.strategy) != kPlain.end() &&
                        std::ranges::none_of(own, [](const auto& s) {
                          return s.first.starts_with("train.") && s.first != "train.lr" && s.first != "train.epochs" &&
                                 s.first != "train.patience" && s.first != "train.monitor" &&
                                 s.first != "train.weight_decay";
                        });
  std::string key = fmt::format("{} {}", probe.cell.network, is_plain ? "" : probe.cell.strategy);
  const ParameterSet& parameters = network.parameters();
  for (std::int64_t i = 0; i < std::ssize(parameters.parameters()); ++i) key += freeze.trains(i) ? '1' : '0';
  for (std::int64_t i = 0; i < std::ssize(parameters.statistics()); ++i) {
    const NormSwitches norm = freeze.norm(i);
    key += fmt::format(" {}{}{}", int(norm.uses_batch_statistics), int(norm.updates_running), norm.batch_share);
  }
  return key;
}

TaskRates Measurement::measure_strategy(const Probe& probe, Context& context) {
  TaskRates task;
  const ModelInfo info = model_of(spec_, probe.cell, std::ssize(split(probe.cell.dataset).class_names));
  for (const Stage& stage : probe.stages) {
    if (is_stopping()) return task;
    Context dry(std::make_unique<DryBackend>(Device{DeviceKind::reference}, BackendOptions{}));
    const std::string key = stage_key(probe, *make_network(dry, info), stage.first_epoch);
    const auto found = known_.find(key);
    if (found == known_.end()) known_[key] = measure_stage(probe, context, stage.first_epoch);
    task.stages.push_back(known_.at(key));
  }
  const auto [images, val, test] = rates_.counts.begin()->second;
  const MemoryQuestion question{.settings = probe.settings,
                                .info = info,
                                .device = context.backend().device(),
                                .precision = precision_on(probe.settings, context.backend().device()),
                                .images = images};
  task.memory_bytes = largest(estimate_memory(question)).peak.total();
  return task;
}

StageRates Measurement::measure_stage(const Probe& probe, Context& context, std::int64_t first_epoch) {
  TrainSettings s = probe.settings;
  s.batch = batch_, s.accumulate = 1;
  fs::remove_all(call_.scratch);
  fs::create_directories(call_.scratch);
  const StudySplit& all = split(probe.cell.dataset);
  const Dataset images =
      some_images(dataset_of(spec_, probe.cell.dataset), all, 2 * s.batch, 2 * s.batch, intensity_window(s));
  s.batch = std::min(s.batch, std::ssize(images.indices(Split::train)));
  StartingModel model = starting_model(context, s, images.class_names(), images.is_multi_label());
  Network& network = *model.network;
  if (s.dropout >= 0) network.set_dropout(s.dropout);
  SplitBatches batches({network, images, s, transform_of(network.info()), call_.scratch});
  const RunDirectory directory(call_.scratch);
  const auto start = [&] { return starting_model(context, s, images.class_names(), images.is_multi_label()).network; };
  PassTimes passes;
  Fit fit({network, images, s, batches, directory, call_.stop, start}, passes);
  std::vector<Clock::time_point> ends;
  constexpr std::int64_t kLeastSteps = 4, kMostSteps = 24;
  const Clock::time_point begin = Clock::now();
  fit.sweep({.epoch = first_epoch,
             .steps = kMostSteps,
             .lr = [](std::int64_t) { return 1e-8; },
             .take_loss =
                 [&](std::int64_t, double) {
                   ends.push_back(Clock::now());
                   return std::ssize(ends) < kLeastSteps || between(ends[0], ends.back()) < probe_seconds_ / 2;
                 }});
  if (ends.size() < 2) return {};  // stopped
  std::vector<double> steps;
  for (std::size_t i = 1; i < ends.size(); ++i) steps.push_back(between(ends[i - 1], ends[i]));
  const double step = quick(std::move(steps));
  const double trained = double(network.parameters().trainable_size());
  constexpr double kBytesOfWeight = 7 * 4;  // read: weight, gradient, two moments; written: weight, moments
  StageRates rates;
  rates.update_seconds = std::min(step / 2, trained * kBytesOfWeight / kBytesPerSecond);
  const double ratio = double(probe.settings.batch * probe.settings.accumulate) / double(s.batch);
  rates.step_seconds = rates.update_seconds + (step - rates.update_seconds) * ratio;
  rates.begin_seconds =
      std::max(0.0, between(begin, ends[0]) - step - passes.total("features") - passes.total("probe"));
  rates.observed_batches = make_strategy(s)->probe_batches();
  rates.observe_seconds = passes.per_image("probe");
  rates.keeps_features = batches.has_features();
  if (rates.keeps_features) {
    rates.feature_seconds = passes.per_image("features");
    rates.feature_parts = frozen_prefix(network, freeze_plan_in(s, network, first_epoch)).parts;
    for (const fs::directory_entry& file : fs::directory_iterator(call_.scratch / "features"))
      rates.feature_bytes = std::int64_t(file.file_size()) / images.size();
  }
  if (const std::int64_t count = batches.count(Split::val); count > 0) {
    const PredictionPass validation{.name = "validate", .count = count, .stop = call_.stop, .rows = batches.rows()};
    const auto pass = [&] { predict_batches(network, batches.evaluation(Split::val), validation, passes); };
    pass();  // decodes the images, prepares the device
    rates.validation_seconds = std::min(seconds_of(pass), seconds_of(pass)) / double(count);
  }
  rates.last_seconds = seconds_of([&] { fit.save(); });  // without what is written beside training
  fit.finish_saving();
  rates.last_bytes = std::int64_t(fs::file_size(directory.last()));
  return rates;
}

}  // namespace

StudyRates measure_rates(const StudySpec& spec, const MeasureCall& call) {
  StudyRates rates = Measurement(spec, call).measure();
  std::error_code ignored;
  fs::remove_all(call.scratch, ignored);
  return rates;
}

}  // namespace graft
