// A fine-tuning strategy: what trains in which epoch, with which rates, and how batch norm behaves meanwhile. The
// training loop (fit.h) asks it before every epoch; it never sees data. To add one, copy full.cpp and register it in
// registry.cpp; see CONTRIBUTING.md.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "strategies/freeze_plan.h"
#include "strategies/train_settings.h"

namespace graft {

class Network;

/// What a strategy may look at before an epoch.
struct EpochView {
  std::int64_t epoch = 0, epochs = 1;  // from 0
  const Network& network;
  const TrainSettings& settings;
};

/// What holds during one epoch.
struct EpochPlan {
  FreezePlan freeze;
  double lr_factor = 1;                  // on the schedule's rate
  std::vector<double> block_lr_factors;  // on top of it, per block; empty: all 1
  /// Epochs [schedule_begin, schedule_end) span one course of the schedule; by default all of them.
  std::int64_t schedule_begin = 0, schedule_end = -1;
  bool resets_optimizer = false;  // moments start at zero in this epoch
  bool may_stop_early = true;     // false: too soon, a later stage is still to come
  bool starts_from_best = false;  // the best checkpoint so far is restored first
};

class Strategy {
 public:
  virtual ~Strategy() = default;
  virtual EpochPlan plan(const EpochView& view) = 0;
  /// Numbers a checkpoint must keep for the strategy to continue; most have none.
  virtual std::vector<double> state() const { return {}; }
  virtual void restore(const std::vector<double>&) {}
};

/// A setting that belongs to one strategy: key without "strategy.", default (which fixes the type), limits, help.
struct StrategySetting : SettingInfo {
  SettingValue default_value;
};

/// The strategy's settings with defaults filled in.
class StrategyOptions {
 public:
  explicit StrategyOptions(std::map<std::string, SettingValue> values) : values_(std::move(values)) {}
  const std::string& text(const std::string& key) const { return std::get<std::string>(values_.at(key)); }
  std::int64_t integer(const std::string& key) const { return std::get<std::int64_t>(values_.at(key)); }
  double number(const std::string& key) const { return std::get<double>(values_.at(key)); }
  bool is_on(const std::string& key) const { return std::get<bool>(values_.at(key)); }

 private:
  std::map<std::string, SettingValue> values_;
};

struct StrategyInfo {
  std::string_view name;     // "linear-probe"
  std::string_view summary;  // one line
  std::string_view source;   // paper or official code, with its label from METHODS
  std::vector<StrategySetting> settings;
  std::unique_ptr<Strategy> (*create)(const StrategyOptions&);
};

/// All strategies, in the order of `graft strategies`.
const std::vector<StrategyInfo>& strategies();
/// Errors (UsageError): unknown, with the nearest known name.
const StrategyInfo& find_strategy(std::string_view name);
/// The strategy that `settings` name, with its options.
std::unique_ptr<Strategy> make_strategy(const TrainSettings& settings);

}  // namespace graft
