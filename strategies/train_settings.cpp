#include "strategies/train_settings.h"

#include <algorithm>

#include "data/augment.h"
#include "data/leakage.h"
#include "strategies/frozen_channels.h"
#include "strategies/monitor.h"
#include "strategies/strategy.h"

namespace graft {
namespace {

using T = TrainSettings;
constexpr double kAny = std::numeric_limits<double>::infinity();

using Member = decltype(Setting<T>::member);

Setting<T> row(std::string_view key, std::string_view flag, std::string_view group, Member member,
               std::string_view help, SettingInfo limits = {}) {
  limits.key = key, limits.flag = flag, limits.group = group, limits.help = help;
  return {limits, member};
}

// What a value may be.
SettingInfo range(double min, double max = kAny) { return {.min = min, .max = max}; }
constexpr double kMostThreads = 1024;  // a slip of the pen would end in swapping
SettingInfo above(double min) { return {.min = min, .excludes_min = true}; }
SettingInfo one_of(std::vector<std::string_view> choices) { return {.choices = std::move(choices)}; }
SettingInfo off_switch() { return {.flag_value = false}; }
SettingInfo of_one_call() { return {.is_recorded = false}; }
SettingInfo half_open(double min, double max) { return {.min = min, .max = max, .excludes_max = true}; }

SettingInfo augment_choices() {
  const std::vector<std::string>& names = augmentation_names();
  return one_of({names.begin(), names.end()});
}

SettingInfo monitor_choices() {
  std::vector<std::string_view> names = monitor_names();
  names.insert(names.begin(), kAutoMonitor);
  return one_of(names);
}

SettingInfo strategy_choices() {
  std::vector<std::string_view> names;
  for (const StrategyInfo& s : strategies()) names.push_back(s.name);
  return one_of(names);
}

std::vector<Setting<T>> make_table() {
  constexpr std::string_view kModel = "Model", kTraining = "Training", kSchedule = "Schedule", kData = "Data",
                             kAugment = "Augmentation", kRun = "Run";
  return {
      row("train.data", "", kModel, &T::data, "folder with train/ val/ test/, CSV, or MedMNIST .npz"),
      row("train.output", "-o,--output", kModel, &T::output, "run directory to write"),
      row("train.weights", "--weights", kModel, &T::weights, "graft model file to start from"),
      row("strategy.name", "--strategy", kModel, &T::strategy, "fine-tuning strategy (see graft strategies)",
          strategy_choices()),
      row("train.from_scratch", "--from-scratch", kModel, &T::from_scratch,
          "start from random weights instead of a file"),
      row("train.arch", "--arch", kModel, &T::arch,
          "network of a run from scratch, as weights import --help lists them",
          one_of({architecture_names().begin(), architecture_names().end()})),
      row("train.head", "--head", kModel, &T::head,
          "kind of head; auto is the model's own, gap is VGG's on pooled features",
          one_of({"auto", "original", "gap"})),
      row("train.new_head", "--new-head", kModel, &T::new_head,
          "new head even if the model's class names equal the data's"),
      row("train.dropout", "--dropout", kModel, &T::dropout,
          "probability of dropping before the last linear layer, in VGG before the last two; -1 is the network's "
          "own",
          half_open(-1, 1)),

      row("train.epochs", "--epochs", kTraining, &T::epochs, "passes over the training images at most", range(1)),
      row("train.batch", "--batch", kTraining, &T::batch, "images per batch", range(1, 1e6)),
      row("train.accumulate", "--accumulate", kTraining, &T::accumulate, "batches whose gradients make one update",
          range(1)),
      row("train.optimizer", "--optimizer", kTraining, &T::optimizer, "update rule", one_of({"sgd", "adam", "adamw"})),
      row("train.lr", "--lr", kTraining, &T::lr, "learning rate", above(0)),
      row("train.weight_decay", "--weight-decay", kTraining, &T::weight_decay, "decay of all trainable weights",
          range(0)),
      row("train.clip_norm", "--clip-norm", kTraining, &T::clip_norm,
          "the gradient of all that trains is scaled down to this norm; 0 leaves it", range(0)),
      row("train.momentum", "--momentum", kTraining, &T::momentum, "of sgd", half_open(0, 1)),
      row("train.nesterov", "--nesterov", kTraining, &T::nesterov, "Nesterov's momentum, of sgd"),
      row("train.beta1", "", kTraining, &T::beta1, "decay of adam's first moment", half_open(0, 1)),
      row("train.beta2", "", kTraining, &T::beta2, "decay of adam's second moment", half_open(0, 1)),
      row("train.epsilon", "", kTraining, &T::epsilon, "adam's guard against division by zero", range(0)),
      row("train.class_weights", "--class-weights", kTraining, &T::class_weights,
          "weight of each class in the loss; balanced is n / (classes * n_class), of several labels per image (n - "
          "n_class) "
          "/ n_class for those that hold",
          one_of({"none", "balanced"})),
      row("train.label_smoothing", "--label-smoothing", kTraining, &T::label_smoothing,
          "share of the target spread evenly", half_open(0, 1)),
      row("train.bss", "", kTraining, &T::bss,
          "strength of batch spectral shrinkage, a penalty on the smallest singular values of a batch's features; 0 is "
          "none",
          range(0)),
      row("train.bss_values", "", kTraining, &T::bss_values, "singular values that it shrinks", range(1)),
      row("train.patience", "--patience", kTraining, &T::patience,
          "epochs without a better validation score before stopping; 0 never stops early", range(0)),
      row("train.monitor", "--monitor", kTraining, &T::monitor,
          "validation score by which the best epoch is chosen and patience counted; auto is macro_accuracy, of several "
          "labels per image auc",
          monitor_choices()),
      row("train.max_steps", "--max-steps", kTraining, &T::max_steps,
          "updates at most; 0 only writes the initial model, -1 is no limit", range(-1)),
      row("train.freeze_channels", "--freeze-channels", kTraining, &T::freeze_channels,
          "output channels that never train, by patterns of parameters: 'layer1.*.weight=0-15,20; conv1.weight=3'"),
      row("train.probe_from", "--probe-from", kTraining, &T::probe_from,
          "run directory of a finished linear-probe run that is the first stage of lp-ft or gradual unfreezing"),
      row("train.feature_cache", "--no-feature-cache", kTraining, &T::feature_cache,
          "compute the output of frozen first blocks once, when nothing random touches the images", off_switch()),

      row("train.schedule", "--schedule", kSchedule, &T::schedule, "course of the learning rate",
          one_of({"constant", "cosine", "step", "one-cycle", "slanted-triangular"})),
      row("train.warmup_epochs", "--warmup-epochs", kSchedule, &T::warmup_epochs,
          "epochs of even climb to the learning rate", range(0)),
      row("train.min_lr", "", kSchedule, &T::min_lr, "where cosine ends", range(0)),
      row("train.cosine_t_max", "", kSchedule, &T::cosine_t_max, "epochs of cosine's half wave; 0 is all of them",
          range(0)),
      row("train.step_epochs", "", kSchedule, &T::step_epochs, "step: epochs between reductions", range(1)),
      row("train.step_gamma", "", kSchedule, &T::step_gamma, "step: factor of each reduction", above(0)),
      row("train.one_cycle_pct_start", "", kSchedule, &T::one_cycle_pct_start, "one-cycle: share of steps that climb",
          {.min = 0, .max = 1, .excludes_min = true, .excludes_max = true}),
      row("train.one_cycle_div", "", kSchedule, &T::one_cycle_div, "one-cycle: starts at lr / this", above(0)),
      row("train.one_cycle_final_div", "", kSchedule, &T::one_cycle_final_div, "one-cycle: ends at its start / this",
          above(0)),
      row("train.slanted_cut", "", kSchedule, &T::slanted_cut, "slanted-triangular: share of steps that climb",
          {.min = 0, .max = 1, .excludes_min = true, .excludes_max = true}),
      row("train.slanted_ratio", "", kSchedule, &T::slanted_ratio,
          "slanted-triangular: its highest rate over its lowest", range(1)),

      row("train.size", "--size", kData, &T::size, "side of the square images in pixels; 0 is the model's",
          range(0, 16384)),
      row("train.resize", "--resize", kData, &T::resize,
          "shorter side before the crop in pixels; 0 is the model's, scaled with the size", range(0)),
      row("train.intensity_window", "--intensity-window", kData, &T::intensity_window,
          "LOW,HIGH: numbers of 16-bit PNG, TIFF or PNM files that become black and white; without it their high byte "
          "is kept"),
      row("train.shuffle", "--no-shuffle", kData, &T::shuffle, "put the images in a new order every epoch",
          off_switch()),
      row("train.val_fraction", "--val-fraction", kData, &T::val_fraction,
          "share of training images held out where the data has no val/", half_open(0, 1)),
      row("train.test_fraction", "--test-fraction", kData, &T::test_fraction,
          "share of all images held out where the data has no splits", half_open(0, 1)),
      row("train.skip_bad", "--skip-bad", kData, &T::skip_bad, "drop unreadable images and list them"),
      row("train.allow_leaks", "--allow-leaks", kData, &T::allow_leaks,
          "what the splits may share, by name: duplicates,near-duplicates,groups or all; empty refuses any of it"),
      row("train.leak_check", "--no-leak-check", kData, &T::leak_check,
          "look for copies and groups that several splits share", off_switch()),
      row("train.loader_threads", "--loader-threads", kData, &T::loader_threads,
          "threads that decode; 0 is as --threads", range(0, kMostThreads)),
      row("train.image_cache_mb", "--image-cache-mb", kData, &T::image_cache_mb,
          "memory for decoded images kept between epochs, in MiB; half as much more before the first", range(0)),
      row("train.device_image_cache_mb", "--device-image-cache-mb", kData, &T::device_image_cache_mb,
          "memory of a GPU for images and kept features that stay there, in MiB; -1 is what the run leaves free",
          range(-1)),
      row("train.feature_cache_dir", "--feature-cache", kData, &T::feature_cache_dir,
          "folder where features stay for other runs of the same images and frozen weights"),
      row("train.feature_cache_mb", "--feature-cache-mb", kData, &T::feature_cache_mb,
          "memory for features of frozen blocks, in MiB; more go to a file in the run directory", range(0)),

      row("train.augment", "--augment", kAugment, &T::augment, "random changes to training images", augment_choices()),
      row("train.crop_scale_min", "", kAugment, &T::crop_scale_min,
          "smallest share of the area that a random crop keeps; -1 is the preset's", range(-1, 1)),
      row("train.horizontal_flip", "", kAugment, &T::horizontal_flip, "probability; -1 is the preset's", range(-1, 1)),
      row("train.vertical_flip", "", kAugment, &T::vertical_flip, "probability; -1 is the preset's", range(-1, 1)),
      row("train.rotation_degrees", "", kAugment, &T::rotation_degrees, "up to this angle; -1 is the preset's",
          range(-1, 180)),
      row("train.brightness", "", kAugment, &T::brightness, "strength; -1 is the preset's", range(-1)),
      row("train.contrast", "", kAugment, &T::contrast, "strength; -1 is the preset's", range(-1)),
      row("train.saturation", "", kAugment, &T::saturation, "strength; -1 is the preset's", range(-1)),

      row("train.device", "--device", kRun, &T::device,
          "auto, cpu, cuda, cuda:N or reference (double precision, slow)"),
      row("train.threads", "--threads", kRun, &T::threads,
          "threads that compute; 0 is all cores, or OMP_NUM_THREADS of them", range(0, kMostThreads)),
      row("train.seed", "--seed", kRun, &T::seed, "of the order, splits, augmentation, dropout and new heads",
          range(0)),
      row("train.precision", "--precision", kRun, &T::precision,
          "arithmetic; bf16 and f16 (or fp16) store activations in 16 bits, a CPU has f32 and, with AVX512_BF16 or "
          "AMX, "
          "bf16; auto is bf16 on a GPU and else f32",
          one_of({"auto", "f32", "tf32", "bf16", "f16", "fp16"})),
      row("train.graph", "--graph", kRun, &T::graph,
          "capture the device calls of a training step once and replay them; auto is on where the device can",
          one_of({"auto", "on", "off"})),
      row("train.recompute", "--recompute", kRun, &T::recompute,
          "what backward computes again instead of keeping it; norms are the outputs of batch norms: less memory, the "
          "same bits",
          one_of({"none", "norms"})),
      row("train.fused_norms", "", kRun, &T::fused_norms,
          "GPU, 16 bits: DenseNet's norms and 1 x 1 convolutions as one kernel, which keeps less; auto is what is "
          "faster",
          one_of({"auto", "on", "off"})),
      row("train.growth_kernels", "", kRun, &T::growth_kernels,
          "GPU, 16 bits: DenseNet's 3 x 3 convolutions by graft's own kernels; auto is what is faster",
          one_of({"auto", "on", "off"})),
      row("train.winograd", "--winograd", kRun, &T::winograd,
          "3 x 3 convolutions by Winograd's F(4,3), on a CPU, in f32: faster, rounds more"),
      row("train.deterministic", "", kRun, &T::deterministic,
          "GPU: only algorithms of cuDNN that give the same bits every time"),
      row("train.cudnn_timing", "", kRun, &T::cudnn_timing,
          "GPU: time cuDNN's plans for each convolution and check the fastest; false takes its first, untried"),
      row("train.cudnn_plan_cache", "", kRun, &T::cudnn_plan_cache,
          "GPU: remember chosen plans in ~/.cache/graft/cudnn_plans.tsv"),
      row("train.cudnn_workspace_mb", "", kRun, &T::cudnn_workspace_mb,
          "GPU: memory that one convolution may use beside its tensors, in MiB", range(0)),
      row("train.record_every", "--record-internals", kRun, &T::record_every,
          "steps between records of gradients, updates and drift in internals.h5; 0 records nothing", range(0)),
      row("train.tensorboard", "--tensorboard", kRun, &T::tensorboard,
          "write curves, histograms of weights and some images into the run directory, for tensorboard --logdir"),
      row("train.resume", "--resume", kRun, &T::resume, "continue an interrupted run", of_one_call()),
      row("train.overwrite", "--overwrite", kRun, &T::overwrite, "replace an existing run", of_one_call()),
  };
}

const StrategySetting* find_strategy_setting(const StrategyInfo& info, std::string_view key) {
  const auto found = std::ranges::find(info.settings, key, &StrategySetting::key);
  return found == info.settings.end() ? nullptr : &*found;
}

constexpr std::string_view kStrategyPrefix = "strategy.", kStrategyName = "strategy.name";

const Setting<T>& find_setting(std::string_view key) {
  const auto found = std::ranges::find(settings_table(), key, &Setting<T>::key);
  if (found == settings_table().end()) throw Error("settings: a strategy names the unknown key " + std::string(key));
  return *found;
}

[[noreturn]] void unknown_key(const TrainSettings& settings, std::string_view key) {
  std::vector<std::string> names;
  for (const Setting<T>& s : settings_table()) names.emplace_back(s.key);
  for (const StrategySetting& s : find_strategy(settings.strategy).settings)
    names.push_back(std::string(kStrategyPrefix) + std::string(s.key));
  const std::string near = nearest_name(key, {names.begin(), names.end()});
  throw UsageError("unknown key '" + std::string(key) + "'" +
                   (near.empty() ? "; graft train --print-config lists all keys" : ", did you mean '" + near + "'?"));
}

}  // namespace

const std::vector<Setting<TrainSettings>>& settings_table() {
  static const std::vector<Setting<T>> table = make_table();
  return table;
}

void choose_strategy(TrainSettings& settings, std::string_view name) {
  static const TrainSettings plain;
  const StrategyInfo &before = find_strategy(settings.strategy), &now = find_strategy(name);
  for (const StrategyDefault& d : before.defaults)
    if (const Setting<T>& s = find_setting(d.key); s.get(settings) == d.value) set(settings, s, s.get(plain));
  for (const StrategyDefault& d : now.defaults)
    if (const Setting<T>& s = find_setting(d.key); s.get(settings) == s.get(plain)) set(settings, s, d.value);
  settings.strategy = name;
}

void set_by_key(TrainSettings& settings, std::string_view key, const SettingValue& value) {
  if (key == kStrategyName) {
    const SettingValue name = convert(find_setting(key), SettingValue(std::string()), value);
    return choose_strategy(settings, std::get<std::string>(name));
  }
  for (const Setting<T>& setting : settings_table())
    if (setting.key == key) return set(settings, setting, value);
  if (key.starts_with(kStrategyPrefix)) {
    const std::string own(key.substr(kStrategyPrefix.size()));
    if (const StrategySetting* s = find_strategy_setting(find_strategy(settings.strategy), own)) {
      SettingInfo info = *s;
      info.key = key;
      settings.strategy_settings[own] = convert(info, s->default_value, value);
      return;
    }
  }
  unknown_key(settings, key);
}

std::optional<IntensityWindow> intensity_window(const TrainSettings& settings) {
  return parse_intensity_window(settings.intensity_window, "train.intensity_window");
}

Precision precision_on(const TrainSettings& s, const Device& device) {
  if (s.precision == "f32") return Precision::f32;
  if (s.precision == "tf32") return Precision::tf32;
  if (s.precision == "bf16") return Precision::bf16;
  if (s.precision == "f16" || s.precision == "fp16") return Precision::f16;
  return default_precision(device);
}

void check_start(const TrainSettings& s, std::string_view verb) {
  const auto fail = [&](const char* what) { throw UsageError(std::string(verb) + ": " + what); };
  if (s.data.empty()) fail("no data given; name a folder, a CSV or an .npz");
  if (s.from_scratch && !s.weights.empty()) fail("--from-scratch and --weights exclude each other; give one");
  if (!s.from_scratch && s.weights.empty())
    fail("no weights given; add --weights MODEL.h5, or --from-scratch --arch A");
  if (s.nesterov && s.momentum == 0) throw UsageError("train.nesterov: needs a momentum above 0");
  parse_frozen_channels(s.freeze_channels);
  parse_leak_kinds(s.allow_leaks, "train.allow_leaks");
  intensity_window(s);
  if (s.dropout != -1 && s.dropout < 0) throw UsageError("train.dropout: expects -1 or 0 to 1");
  const StrategyInfo& strategy = find_strategy(s.strategy);
  for (const auto& [key, value] : s.strategy_settings)
    if (!find_strategy_setting(strategy, key)) unknown_key(s, std::string(kStrategyPrefix) + key);
}

void check(const TrainSettings& s) {
  if (s.output.empty() && !s.data.empty()) throw UsageError("train: no run directory given; add -o RUN");
  check_start(s, "train");
  if (s.resume && s.overwrite) throw UsageError("train: --resume and --overwrite exclude each other; give one");
  if (s.winograd && s.precision != "auto" && s.precision != "f32")
    throw UsageError("train.winograd: an algorithm for f32; leave it out or use --precision f32");
  if (s.schedule == "one-cycle" && s.warmup_epochs > 0)
    throw UsageError("train.warmup_epochs: one-cycle has its own climb; set train.one_cycle_pct_start instead");
  if (s.schedule == "slanted-triangular" && s.warmup_epochs > 0)
    throw UsageError("train.warmup_epochs: slanted-triangular has its own climb; set train.slanted_cut instead");
  if (s.min_lr > s.lr) throw UsageError("train.min_lr: must not exceed train.lr");
}

}  // namespace graft
