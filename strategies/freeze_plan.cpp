#include "strategies/freeze_plan.h"

#include <fmt/format.h>

#include <algorithm>

namespace graft {

FreezePlan FreezePlan::frozen(const ParameterSet& parameters) { return FreezePlan(parameters, false, kBatchNormFixed); }
FreezePlan FreezePlan::trainable(const ParameterSet& parameters) {
  return FreezePlan(parameters, true, kBatchNormTrains);
}

void FreezePlan::train_block(const ParameterSet& parameters, int block, NormSwitches norm) {
  for (std::size_t i = 0; i < trains_.size(); ++i)
    if (parameters.parameters()[i].block == block) trains_[i] = true;
  for (std::size_t i = 0; i < norms_.size(); ++i)
    if (parameters.statistics()[i].block == block) norms_[i] = norm;
}

std::int64_t FreezePlan::train_matching(const ParameterSet& parameters, std::string_view pattern) {
  std::int64_t matched = 0;
  for (std::size_t i = 0; i < trains_.size(); ++i) {
    if (!matches_pattern(parameters.parameters()[i].name, pattern)) continue;
    trains_[i] = true;
    ++matched;
  }
  return matched;
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
  }
  for (std::size_t i = 0; i < norms_.size(); ++i) {
    RunningStatistics& s = parameters.statistics()[i];
    s.use_batch_statistics = norms_[i].uses_batch_statistics;
    s.update_running = norms_[i].updates_running;
  }
  if (changed) parameters.prepare_gradients();
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

std::string truth_table(const TruthTableInput& in) {
  struct Row {
    std::int64_t trained = 0, all = 0, norms = 0, batch = 0, moving = 0;
  };
  std::vector<Row> rows(in.block_names.size());
  for (std::size_t i = 0; i < in.parameters.parameters().size(); ++i) {
    const Parameter& p = in.parameters.parameters()[i];
    rows.at(p.block).all += p.shape.size();
    if (in.plan.trains(std::int64_t(i))) rows[p.block].trained += p.shape.size();
  }
  for (std::size_t i = 0; i < in.parameters.statistics().size(); ++i) {
    Row& row = rows.at(in.parameters.statistics()[i].block);
    const NormSwitches norm = in.plan.norm(std::int64_t(i));
    ++row.norms;
    row.batch += norm.uses_batch_statistics;
    row.moving += norm.updates_running;
  }
  const auto share = [](std::int64_t some, std::int64_t all, const char* yes, const char* no) {
    return some == all ? std::string(yes) : some == 0 ? std::string(no) : fmt::format("{}/{} {}", some, all, yes);
  };
  std::string text = fmt::format("{:<14} {:>12} {:>12}  {:<24} {:>10} {:>10}\n", "block", "trainable", "of",
                                 "batch norm", "lr", "decay");
  for (std::size_t b = 0; b < rows.size(); ++b) {
    const Row& r = rows[b];
    const std::string norm = r.norms == 0 ? "-"
                                          : share(r.batch, r.norms, "batch", "running") + ", " +
                                                share(r.moving, r.norms, "updated", "fixed");
    const double factor = in.block_lr_factors.empty() ? 1 : in.block_lr_factors.at(b);
    const bool trains = r.trained > 0;
    text += fmt::format("{:<14} {:>12} {:>12}  {:<24} {:>10} {:>10}\n", in.block_names[b], r.trained, r.all, norm,
                        trains ? fmt::format("{:g}", in.lr * factor) : "-",
                        trains ? fmt::format("{:g}", in.weight_decay) : "-");
  }
  return text;
}

bool matches_pattern(std::string_view text, std::string_view pattern) {
  if (pattern.empty()) return text.empty();
  if (pattern[0] == '*')
    return matches_pattern(text, pattern.substr(1)) || (!text.empty() && matches_pattern(text.substr(1), pattern));
  return !text.empty() && (pattern[0] == '?' || pattern[0] == text[0]) &&
         matches_pattern(text.substr(1), pattern.substr(1));
}

}  // namespace graft
