// Every setting of `graft train`, its default and its one-line help: the single source for flags, --set, TOML keys and
// --print-config. A strategy's own settings are declared by the strategy (strategy.h) and held here as texts.
#pragma once

#include <map>

#include "data/image.h"
#include "kernels/backend.h"
#include "strategies/settings.h"

namespace graft {

struct TrainSettings {
  // What and where
  std::string data;     // folder, CSV or .npz
  std::string output;   // run directory
  std::string weights;  // model file
  std::string arch = "resnet50";
  bool from_scratch = false;
  bool new_head = false;
  std::string head = "auto";
  bool resume = false, overwrite = false;

  // Strategy
  std::string strategy = "full";
  std::map<std::string, SettingValue> strategy_settings;  // key without "strategy."; absent: the strategy's default

  // Training
  std::int64_t epochs = 30, batch = 96, accumulate = 1, max_steps = -1, patience = 3;
  std::string monitor = "auto";
  std::string optimizer = "adam";
  double lr = 1e-3, momentum = 0.9, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0, clip_norm = 0;
  bool nesterov = false;
  std::string schedule = "cosine";
  double warmup_epochs = 0, min_lr = 0;
  std::int64_t cosine_t_max = 0, step_epochs = 10;
  double step_gamma = 0.1, one_cycle_pct_start = 0.3, one_cycle_div = 25, one_cycle_final_div = 1e4;
  double slanted_cut = 0.1, slanted_ratio = 32;
  std::string class_weights = "none";
  double label_smoothing = 0, dropout = -1;
  double bss = 0;
  std::int64_t bss_values = 1;
  std::string freeze_channels, probe_from;
  bool feature_cache = true;
  std::string feature_cache_dir;

  // Data
  std::int64_t size = 0, resize = 0;
  std::string intensity_window;
  std::string augment = "none";
  double crop_scale_min = -1, horizontal_flip = -1, vertical_flip = -1, rotation_degrees = -1, brightness = -1,
         contrast = -1, saturation = -1;
  bool shuffle = true, skip_bad = false, leak_check = true;
  std::string allow_leaks;
  double val_fraction = 0.2, test_fraction = 0.2;
  std::int64_t loader_threads = 0, image_cache_mb = 2048, device_image_cache_mb = -1, feature_cache_mb = 2048;

  // Machine
  std::string device = "auto", precision = "auto", graph = "auto", recompute = "none";
  std::string fused_norms = "auto", growth_kernels = "auto";
  std::int64_t threads = 0, seed = 0, record_every = 0;
  bool winograd = false, tensorboard = false;
  bool deterministic = true, cudnn_timing = true, cudnn_plan_cache = true;
  std::int64_t cudnn_workspace_mb = 1024;
};

/// One row per member above except `strategy_settings`, in the order of --help.
const std::vector<Setting<TrainSettings>>& settings_table();

/// Keys that a file or --set may name: those of the table and "strategy.<key>" of the chosen strategy.
/// Naming a strategy also adopts its defaults, so "strategy.name" comes before the keys that override them.
/// Errors (UsageError): unknown key, with the nearest known one; a value of the wrong type or out of range.
void set_by_key(TrainSettings& settings, std::string_view key, const SettingValue& value);

/// Names the strategy and adopts the defaults that it brings (StrategyInfo::defaults) for settings that still have
/// graft's; those of the strategy named before are taken back. Errors (UsageError): an unknown name.
void choose_strategy(TrainSettings& settings, std::string_view name);

/// For files of 16 bits; none keeps their high byte. Errors (UsageError): the setting is no window.
std::optional<IntensityWindow> intensity_window(const TrainSettings& settings);

/// What the settings' precision means on a device: "auto" is the device's own.
Precision precision_on(const TrainSettings& settings, const Device& device);

/// What no single row can see: data given, weights or from_scratch, known strategy and its settings. `verb` begins the
/// message. Errors (UsageError): the first contradiction found.
void check_start(const TrainSettings& settings, std::string_view verb);
/// Also: output given, resume against overwrite, rates and schedule. Errors (UsageError): the first contradiction
/// found.
void check(const TrainSettings& settings);

}  // namespace graft
