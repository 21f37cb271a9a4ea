#include "strategies/study/probe.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "strategies/training/resume_check.h"

namespace graft {
namespace {

/// Of a cell that trains the head alone first, under one course of the schedule: how many epochs it does so.
std::int64_t head_epochs(const StudySpec& spec, const StudyCell& cell, const TrainSettings& s) {
  const bool is_lp_ft = s.strategy == "lp-ft";
  // Gradual unfreezing's schedule spans all of its stages.
  const bool is_gradual = s.strategy.starts_with("gradual-") && s.schedule == "constant";
  if (!is_lp_ft && !is_gradual) return 0;
  const std::vector<Stage> stages = stages_of_model(s, model_of(spec, cell, 2));
  return stages.size() < 2 ? 0 : stages[0].last_epoch + 1;
}

/// Whether two runs may differ in a setting and still begin alike.
bool may_differ(std::string_view key) {
  return key.starts_with("strategy.") || key == "train.lr" || (may_change(key) && key != "train.feature_cache");
}

}  // namespace

std::optional<StudyCell> probe_for(const StudySpec& spec, const StudyDirectory& directory, const StudyCell& cell,
                                   const ToToml& to_toml) {
  const TrainSettings own = cell_settings(spec, directory, cell, 0);
  const std::int64_t epochs = own.record_every > 0 ? 0 : head_epochs(spec, cell, own);
  if (epochs == 0) return std::nullopt;
  const auto keys = keys_of(to_toml(own));
  for (const StudyStrategy& strategy : spec.strategies) {
    if (strategy.strategy != "linear-probe") continue;
    StudyCell probe = cell;
    probe.strategy = strategy.name;
    const TrainSettings other = cell_settings(spec, directory, probe, 0);
    const auto its_keys = keys_of(to_toml(other));
    const bool is_alike = std::ranges::all_of(keys, [&](const auto& key) {
      const auto found = its_keys.find(key.first);
      return may_differ(key.first) || (found != its_keys.end() && found->second == key.second);
    });
    if (other.epochs == epochs && other.max_steps == own.max_steps && is_alike) return probe;
  }
  return std::nullopt;
}

bool has_probe_stage(const std::filesystem::path& folder) {
  if (!std::filesystem::exists(folder / "last.h5") || !std::filesystem::exists(folder / "summary.json")) return false;
  const auto summary = nlohmann::json::parse(read_text(folder / "summary.json"), nullptr, false);
  return summary.is_object() && !summary.value("stopped_early", true);
}

}  // namespace graft
