// Settings that several strategies offer under the same names, each with what it does to a plan: how batch norm
// behaves, what counts as the head, rates that fall towards the input. docs/strategies.md says which source reads them
// how.
#pragma once

#include "strategies/strategy.h"

namespace graft {

/// "batch_norm", of layers that train: "batch" uses the batch's statistics and moves the running ones, "running" fixes
/// the statistics, "frozen" fixes scale and shift as well.
StrategySetting batch_norm_setting(const char* default_choice = "batch");
/// Applies it to one block (-1: all), whose parameters were set to train.
void choose_batch_norm(FreezePlan& freeze, const ParameterSet& parameters, const std::string& batch_norm,
                       int block = -1);

/// "frozen_batch_norm", of layers that are frozen: "fixed", "updated" (batch statistics, running ones move) or
/// "trained" (scale and shift train as well).
StrategySetting frozen_batch_norm_setting();
/// Everything frozen, batch norm as chosen: where a plan that unfreezes starts from.
FreezePlan frozen_plan(const ParameterSet& parameters, const std::string& frozen_batch_norm);

/// "head": the last linear layer, or all of them (VGGs have three).
StrategySetting head_setting();
HeadPart head_part(const StrategyOptions& options);

/// The texts between the commas of a list, without the blanks around them. Errors (UsageError): an empty text.
std::vector<std::string> split_list(std::string_view list);

/// "lr_divisor": each block's rate is that of the block above it divided by this; 1 is one rate for all.
StrategySetting lr_divisor_setting(double default_divisor);
/// Factors per block: 1 for the head's, 1 / divisor for the one below, …
/// Source: Howard, Ruder 2018 (ULMFiT), discriminative fine-tuning with divisor 2.6.
std::vector<double> falling_rates(const EpochView& view, double divisor);

}  // namespace graft
