#include "strategies/study/study.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace graft {
namespace {

template <class T>
const T& named(const std::vector<T>& all, std::string_view name, const char* kind) {
  const auto found = std::ranges::find(all, name, &T::name);
  if (found == all.end()) throw Error(fmt::format("study: it has no {} '{}'", kind, name));
  return *found;
}

bool sets(const KeyedSettings& settings, std::string_view key) {
  return std::ranges::any_of(settings, [&](const auto& s) { return s.first == key; });
}

}  // namespace

std::string StudyCell::id() const {
  return fmt::format("{}/{}/{}/seed-{}{}", network, dataset, strategy, seed,
                     fold >= 0 ? fmt::format("/fold-{}", fold) : "");
}

std::string StudyTrial::id() const {
  return fmt::format("{}/{}/{}{}/trial-{}", cell.network, cell.dataset, cell.strategy,
                     cell.fold >= 0 ? fmt::format("/fold-{}", cell.fold) : "", number);
}

std::vector<StudyCell> cells_of(const StudySpec& spec) {
  std::vector<StudyCell> cells;
  for (const StudyNetwork& network : spec.networks)
    for (const StudyDataset& dataset : spec.datasets)
      for (std::int64_t fold = spec.folds > 0 ? 0 : -1; fold < std::max<std::int64_t>(spec.folds, 0); ++fold)
        for (const StudyStrategy& strategy : spec.strategies)
          for (std::int64_t seed : spec.seeds) cells.push_back({network.name, dataset.name, strategy.name, seed, fold});
  return cells;
}

bool is_tuned(const StudySpec& spec, const StudyStrategy& strategy) {
  return spec.tuning.trials > 0 && !sets(strategy.settings, "train.lr");
}

std::vector<StudyTrial> trials_of(const StudySpec& spec, const StudyCell& cell) {
  const StudyStrategy& strategy = strategy_of(spec, cell.strategy);
  if (!is_tuned(spec, strategy)) return {};
  StudyCell tried = cell;
  tried.seed = spec.tuning.seed >= 0 ? spec.tuning.seed : spec.seeds.at(0);
  const double low = std::log(strategy.lr_min > 0 ? strategy.lr_min : spec.tuning.lr_min),
               high = std::log(strategy.lr_max > 0 ? strategy.lr_max : spec.tuning.lr_max);
  std::vector<StudyTrial> trials;
  for (std::int64_t i = 0; i < spec.tuning.trials; ++i) {
    const double lr = std::exp(low + (high - low) * (double(i) + 0.5) / double(spec.tuning.trials));
    // Three digits, so that tables and files show the rate that was used.
    trials.push_back({tried, i + 1, std::stod(fmt::format("{:.3g}", lr))});
  }
  return trials;
}

const StudyNetwork& network_of(const StudySpec& spec, std::string_view name) {
  return named(spec.networks, name, "network");
}
const StudyDataset& dataset_of(const StudySpec& spec, std::string_view name) {
  return named(spec.datasets, name, "dataset");
}
const StudyStrategy& strategy_of(const StudySpec& spec, std::string_view name) {
  return named(spec.strategies, name, "strategy");
}

}  // namespace graft
