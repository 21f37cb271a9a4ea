#include "strategies/freeze_plan.h"

#include <algorithm>

#include "strategies/settings.h"

namespace graft {
namespace {

bool selects(const Selection& s, std::string_view name, int block, LayerType type) {
  return (s.block < 0 || s.block == block) && (!s.type || *s.type == type) && matches_pattern(name, s.name);
}

}  // namespace

FreezePlan FreezePlan::frozen(const ParameterSet& parameters) { return FreezePlan(parameters, false, kBatchNormFixed); }
FreezePlan FreezePlan::trainable(const ParameterSet& parameters) {
  return FreezePlan(parameters, true, kBatchNormTrains);
}

void FreezePlan::train_block(const ParameterSet& parameters, int block, NormSwitches norm) {
  set_trains(parameters, {.block = block}, true);
  set_norms(parameters, {.block = block}, norm);
}

std::int64_t FreezePlan::set_trains(const ParameterSet& parameters, const Selection& selection, bool trains) {
  std::int64_t selected = 0;
  for (std::size_t i = 0; i < trains_.size(); ++i) {
    const Parameter& p = parameters.parameters()[i];
    if (!selects(selection, p.name, p.block, layer_type(parameters, std::int64_t(i)))) continue;
    trains_[i] = trains;
    ++selected;
  }
  return selected;
}

std::int64_t FreezePlan::freeze_channels(const ParameterSet& parameters, const Selection& selection,
                                         std::span<const ChannelRange> channels) {
  std::int64_t selected = 0;
  for (std::size_t i = 0; i < trains_.size(); ++i) {
    const Parameter& p = parameters.parameters()[i];
    // What adapters are made of has no name of its own to users: they follow the weight that they change.
    if (p.role == Role::adapter) continue;
    if (!selects(selection, p.name, p.block, layer_type(parameters, std::int64_t(i)))) continue;
    freeze_channels(parameters, std::int64_t(i), channels);
    ++selected;
    for (std::size_t a = 0; p.adapter.up && a < trains_.size(); ++a)
      if (&parameters.parameters()[a] == p.adapter.up) freeze_channels(parameters, std::int64_t(a), channels);
  }
  return selected;
}

void FreezePlan::freeze_channels(const ParameterSet& parameters, std::int64_t parameter,
                                 std::span<const ChannelRange> channels) {
  const Parameter& p = parameters.parameters()[std::size_t(parameter)];
  std::vector<std::uint32_t>& mask = masks_[std::size_t(parameter)];
  if (mask.empty()) {
    mask.assign(std::size_t((p.rows() + 31) / 32), 0);
    for (std::int64_t k = 0; k < p.rows(); ++k) mask[std::size_t(k / 32)] |= 1u << (k % 32);
  }
  for (const ChannelRange& range : channels) {
    if (range.first < 0 || range.first > range.last)
      throw UsageError("channels " + std::to_string(range.first) + "-" + std::to_string(range.last) +
                       " are none; give the first, then the last, from 0");
    if (range.last >= p.rows())
      throw UsageError("there is no channel " + std::to_string(std::max(range.first, p.rows())) + " in " + p.name +
                       ", whose output channels are 0-" + std::to_string(p.rows() - 1));
    for (std::int64_t k = range.first; k <= range.last; ++k) mask[std::size_t(k / 32)] &= ~(1u << (k % 32));
  }
}

bool FreezePlan::trains(std::int64_t parameter) const {
  const std::vector<std::uint32_t>& mask = masks_[std::size_t(parameter)];
  return trains_[std::size_t(parameter)] != 0 &&
         (mask.empty() || std::ranges::any_of(mask, [](std::uint32_t word) { return word != 0; }));
}

std::int64_t FreezePlan::set_norms(const ParameterSet& parameters, const Selection& selection, NormSwitches norm) {
  std::int64_t selected = 0;
  for (std::size_t i = 0; i < norms_.size(); ++i) {
    const RunningStatistics& s = parameters.statistics()[i];
    if (!selects(selection, s.name, s.block, LayerType::batch_norm)) continue;
    norms_[i] = norm;
    ++selected;
  }
  return selected;
}

void FreezePlan::train_head(const ParameterSet& parameters, HeadPart part) {
  for (std::int64_t i : head_parameters(parameters, part)) trains_[i] = true;
}

bool FreezePlan::uses_batch_statistics() const {
  return std::ranges::any_of(norms_, [](const NormSwitches& n) { return n.uses_batch_statistics; });
}

bool FreezePlan::apply(ParameterSet& parameters) const {
  bool changed = false;
  for (std::size_t i = 0; i < trains_.size(); ++i) {
    Parameter& p = parameters.parameters()[i];
    changed = changed || p.is_trainable != trains(std::int64_t(i));
    p.is_trainable = trains(std::int64_t(i));
    p.row_mask = p.is_trainable ? masks_[i] : std::vector<std::uint32_t>{};
  }
  for (std::size_t i = 0; i < norms_.size(); ++i) {
    RunningStatistics& s = parameters.statistics()[i];
    s.use_batch_statistics = norms_[i].uses_batch_statistics;
    s.update_running = norms_[i].updates_running;
    s.batch_share = norms_[i].batch_share;
  }
  if (changed || !parameters.gradients()) parameters.prepare_gradients();
  return changed;
}

std::vector<std::int64_t> head_parameters(const ParameterSet& parameters, HeadPart part) {
  std::vector<std::string> layers;  // "classifier.6."
  for (const Parameter& p : parameters.parameters())
    if (p.role == Role::linear_weight) layers.push_back(p.name.substr(0, p.name.rfind('.') + 1));
  if (layers.empty()) throw Error("head: the network has no linear layer");
  if (part == HeadPart::last_linear) layers.erase(layers.begin(), layers.end() - 1);
  std::vector<std::int64_t> indices;
  for (std::size_t i = 0; i < parameters.parameters().size(); ++i) {
    const std::string& name = parameters.parameters()[i].name;
    if (std::ranges::any_of(layers, [&](const std::string& l) { return name.substr(0, name.rfind('.') + 1) == l; }))
      indices.push_back(std::int64_t(i));
  }
  return indices;
}

LayerType layer_type(const ParameterSet& parameters, std::int64_t parameter) {
  const auto& all = parameters.parameters();
  switch (all[std::size_t(parameter)].role) {
    case Role::conv_weight:
    case Role::adapter:
      return LayerType::convolution;
    case Role::linear_weight:
      return LayerType::linear;
    case Role::bias:  // its weight stands before it
      return all[std::size_t(parameter - 1)].role == Role::linear_weight ? LayerType::linear : LayerType::convolution;
    default:
      return LayerType::batch_norm;
  }
}

int block_index(const std::vector<std::string>& blocks, std::string_view name) {
  const auto found = std::ranges::find(blocks, name);
  if (found != blocks.end()) return int(found - blocks.begin());
  std::string list;
  for (const std::string& block : blocks) list += (list.empty() ? "" : ", ") + block;
  const std::string near = nearest_name(name, {blocks.begin(), blocks.end()});
  throw UsageError("block: '" + std::string(name) + "' is unknown" +
                   (near.empty() ? "" : ", did you mean '" + near + "'?") + "; the network has " + list);
}

bool matches_pattern(std::string_view text, std::string_view pattern) {
  if (pattern.empty()) return text.empty();
  if (pattern[0] == '*')
    return matches_pattern(text, pattern.substr(1)) || (!text.empty() && matches_pattern(text.substr(1), pattern));
  return !text.empty() && (pattern[0] == '?' || pattern[0] == text[0]) &&
         matches_pattern(text.substr(1), pattern.substr(1));
}

}  // namespace graft
