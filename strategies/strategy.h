// A fine-tuning strategy: what trains in which epoch, with which rates, and how batch norm behaves meanwhile. The
// training loop (fit.h) asks it before every epoch and does the rest; most strategies see no images and compute
// nothing. To add one, copy full.cpp, declare it in registry.h and list it in registry.cpp.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "models/network.h"
#include "optim/optimizer.h"
#include "strategies/freeze_plan.h"
#include "strategies/train_settings.h"

namespace graft {

/// What a strategy may look at before an epoch.
struct EpochView {
  std::int64_t epoch = 0, epochs = 1;  // from 0
  const ParameterSet& parameters;
  const std::vector<std::string>& blocks;  // names, first to last; the head is in the last
  bool is_probe = false;  // asks for the plan under which gradients are observed, see Strategy::observe
  int last_block() const { return int(blocks.size()) - 1; }
};

/// What holds during one epoch.
struct EpochPlan {
  FreezePlan freeze;
  double lr_factor = 1;  // on the schedule's rate
  // Factors on top of it, by block and by parameter; empty: all 1.
  std::vector<double> block_lr_factors = {}, parameter_lr_factors = {};
  /// By parameter; empty: none. Anchors are the weights that the run started from, kept if the first epoch's plan has a
  /// penalty towards them.
  std::vector<PenaltySpec> penalties = {};
  /// Rates that every step measures anew, for groups of parameters (by parameter, -1: in none; a group's number means
  /// the same parameters in every epoch).
  std::optional<RelativeRates> relative_rates = {};
  std::vector<int> rate_groups = {};
  /// One course of the schedule spans the epochs [schedule_begin, schedule_end); -1: to the last.
  std::int64_t schedule_begin = 0, schedule_end = -1;
  bool may_stop_early = true;     // false: a later stage is still to come
  bool starts_from_best = false;  // the best weights so far are restored before this epoch
  bool resets_optimizer = false;  // moments start at zero with this epoch

  /// The factor on the rate of one parameter.
  double rate_factor(std::int64_t parameter, int block) const;
};

/// One batch as a strategy's penalty sees it, after the forward pass.
struct PenaltyView {
  const Tensor& images;                // [N,3,H,W]
  const std::vector<Tensor>& outputs;  // of the network's blocks
  std::int64_t images_in_update = 0;   // N, and with accumulation those of the update's other batches
};

/// Makes the network that the run started from once more: pre-trained weights, the same new head.
using StartingNetwork = std::function<std::unique_ptr<Network>()>;

struct PrepareCall {
  StartingNetwork starting_network;
  std::uint64_t seed = 0;
};

class Strategy {
 public:
  virtual ~Strategy() = default;
  /// Told of the network once, before anything is planned or trained, at the start of a run and when it is resumed.
  virtual void prepare(Network&, const PrepareCall&) {}
  /// Asked before every epoch, and once before a run writes anything. Errors (UsageError): the run cannot be planned,
  /// for example because it has fewer epochs than stages.
  virtual EpochPlan plan(const EpochView& view) = 0;
  /// Batches at the beginning of every epoch on which gradients are observed before the epoch is planned: those that it
  /// trains on afterwards, without changing weights, statistics or random numbers. 0: none.
  virtual int probe_batches() const { return 0; }
  /// Called after each of them, with the gradients of the task's loss in place for what the probe's plan trains. That
  /// plan must train all that the epoch's will. An epoch shorter than probe_batches gives the batches it has.
  virtual void observe(const ParameterSet&) {}
  /// Whether penalty() gives one. Plans of such a strategy must train the first block.
  virtual bool has_penalty() const { return false; }
  /// A term of the loss beside the task's, on the tape: one number, meant as a mean over the batch's images, as the
  /// task's is.
  virtual Tensor penalty(const PenaltyView&) { return {}; }
  /// Numbers that a checkpoint must keep for the strategy to continue; most have none.
  virtual std::vector<double> state() const { return {}; }
  virtual void restore(const std::vector<double>&) {}
};

/// What a strategy plans, with what the settings freeze on top (train.freeze_channels).
/// Errors (UsageError): see Strategy::plan and freeze_channels.
EpochPlan plan_epoch(Strategy& strategy, const TrainSettings& settings, const EpochView& view);

/// A setting that belongs to one strategy. The key is without "strategy."; the default fixes the type.
struct StrategySetting : SettingInfo {
  SettingValue default_value;
};

/// The strategy's settings, defaults filled in.
class StrategyOptions {
 public:
  explicit StrategyOptions(std::map<std::string, SettingValue> values) : values_(std::move(values)) {}
  const std::string& text(const std::string& key) const { return std::get<std::string>(values_.at(key)); }
  std::int64_t integer(const std::string& key) const { return std::get<std::int64_t>(values_.at(key)); }
  double number(const std::string& key) const { return std::get<double>(values_.at(key)); }

 private:
  std::map<std::string, SettingValue> values_;
};

/// Another default for a setting of `graft train`, by its whole key: {"train.weight_decay", 1e-4}.
struct StrategyDefault {
  std::string_view key;
  SettingValue value;
};

struct StrategyInfo {
  std::string_view name;     // "linear-probe"
  std::string_view summary;  // one line
  std::string_view source;   // paper or official code
  std::vector<StrategySetting> settings = {};
  std::vector<StrategyDefault> defaults = {};  // hold until the user says otherwise
  std::unique_ptr<Strategy> (*create)(const StrategyOptions&) = nullptr;
};

/// For StrategyInfo::create.
template <class T>
std::unique_ptr<Strategy> create_strategy(const StrategyOptions& options) {
  return std::make_unique<T>(options);
}

/// All strategies, in the order of `graft strategies`.
const std::vector<StrategyInfo>& strategies();
/// Errors (UsageError): unknown, with the nearest known name.
const StrategyInfo& find_strategy(std::string_view name);
/// The strategy that the settings name, with its options.
std::unique_ptr<Strategy> make_strategy(const TrainSettings& settings);

}  // namespace graft
