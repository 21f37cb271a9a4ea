#include "strategies/shared_settings.h"

namespace graft {

StrategySetting batch_norm_setting(const char* default_choice) {
  return {{.key = "batch_norm",
           .help = "batch norm of what trains: batch statistics, running ones (fixed), or scale and shift frozen too",
           .choices = {"batch", "running", "frozen"}},
          std::string(default_choice)};
}

void choose_batch_norm(FreezePlan& freeze, const ParameterSet& parameters, const std::string& batch_norm, int block) {
  freeze.set_norms(parameters, {.block = block}, batch_norm == "batch" ? kBatchNormTrains : kBatchNormFixed);
  if (batch_norm == "frozen") freeze.set_trains(parameters, {.block = block, .type = LayerType::batch_norm}, false);
}

StrategySetting frozen_batch_norm_setting() {
  return {{.key = "frozen_batch_norm",
           .help = "batch norm of what is frozen: fixed, its statistics updated, or scale and shift trained too",
           .choices = {"fixed", "updated", "trained"}},
          std::string("fixed")};
}

FreezePlan frozen_plan(const ParameterSet& parameters, const std::string& frozen_batch_norm) {
  FreezePlan freeze = FreezePlan::frozen(parameters);
  if (frozen_batch_norm != "fixed") freeze.set_all_norms(kBatchNormTrains);
  if (frozen_batch_norm == "trained") freeze.set_trains(parameters, {.type = LayerType::batch_norm}, true);
  return freeze;
}

StrategySetting head_setting() {
  return {{.key = "head",
           .help = "what counts as the head: the last linear layer, or all of them (VGGs have three)",
           .choices = {"last", "all"}},
          std::string("last")};
}

HeadPart head_part(const StrategyOptions& options) {
  return options.text("head") == "all" ? HeadPart::all_linear : HeadPart::last_linear;
}

std::vector<std::string> split_list(std::string_view list) {
  std::vector<std::string> texts;
  for (bool more = true; more;) {
    const std::size_t comma = list.find(',');
    more = comma != std::string_view::npos;
    std::string_view text = list.substr(0, comma);
    while (text.starts_with(' ')) text.remove_prefix(1);
    while (text.ends_with(' ')) text.remove_suffix(1);
    if (text.empty()) throw UsageError("list: a name is missing; write names separated by commas");
    texts.emplace_back(text);
    if (more) list.remove_prefix(comma + 1);
  }
  return texts;
}

StrategySetting lr_divisor_setting(double default_divisor) {
  return {{.key = "lr_divisor",
           .help = "a block's rate is that of the block above it divided by this; 1 is one rate for all",
           .min = 1},
          default_divisor};
}

std::vector<double> falling_rates(const EpochView& view, double divisor) {
  std::vector<double> factors(view.blocks.size(), 1.0);
  for (int block = view.last_block() - 1; block >= 0; --block)
    factors[std::size_t(block)] = factors[std::size_t(block + 1)] / divisor;
  return factors;
}

}  // namespace graft
