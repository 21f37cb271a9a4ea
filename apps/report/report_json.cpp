// The report for programs.
#include <nlohmann/json.hpp>

#include "apps/report/report_tables.h"
#include "apps/report/report_words.h"
#include "strategies/training/evaluation.h"

namespace graft {
namespace {

using nlohmann::ordered_json;

// nlohmann writes NaN as null.

ordered_json to_json(const Interval& i) {
  return {
      {"estimate", i.estimate}, {"low", i.low}, {"high", i.high}, {"method", i.method}, {"is_doubtful", i.is_doubtful}};
}

ordered_json to_json(const Comparison& c) {
  return {{"difference", c.difference},
          {"low", c.low},
          {"high", c.high},
          {"p", c.p},
          {"p_holm", c.p_holm},
          {"is_distinguishable", c.is_distinguishable}};
}

ordered_json entry_json(const StudyReport& report, const ReportGroup& group, const ReportEntry& entry) {
  ordered_json seeds = ordered_json::array(), scores = ordered_json::object(), states = ordered_json::array();
  for (const SeedAnswers& seed : entry.seeds) seeds.push_back({{"seed", seed.seed}, {"score", seed.score}});
  if (entry.has_scores())
    for (Score score : kScores) scores[std::string(name(score))] = to_json(entry.interval(score));
  ordered_json recalls = ordered_json::array();
  if (entry.has_scores()) {
    const std::vector<Cases> runs = group.cases(entry);
    for (std::int64_t c = 0; c < group.classes(); ++c)
      recalls.push_back(group.class_counts[std::size_t(c)] > 0 ? to_json(recall_interval(c, runs, report.bootstrap))
                                                               : ordered_json());
  }
  ordered_json cells = ordered_json::array();
  for (const CellResult* cell : entry.cells) {
    ordered_json one{{"id", cell->cell.id()}, {"seed", cell->cell.seed}, {"state", to_string(cell->state)}};
    if (cell->cell.fold >= 0) one["fold"] = cell->cell.fold;
    if (cell->state == CellState::failed) one["error"] = without_folders(report, cell->error);
    if (cell->state == CellState::finished) {
      one["lr"] = cell->lr, one["best_epoch"] = cell->best_epoch, one["epochs"] = cell->epochs;
      one["train_seconds"] = cell->train_seconds;
      if (group.is_multi_label())
        one["classes"] = classes_json(cell->test, group.class_names);
      else
        one["confusion"] = cell->test.confusion;
    }
    cells.push_back(std::move(one));
  }
  ordered_json json{{"strategy", entry.strategy},        {"finished", entry.finished},
                    {"planned", entry.cells.size()},     {"failed", entry.failed},
                    {"seeds", std::move(seeds)},         {"scores", std::move(scores)},
                    {"class_recall", std::move(recalls)}};
  json["variance_of_mean"] = {
      {"seed", entry.variance.seed}, {"cases", entry.variance.cases}, {"total", entry.variance.total}};
  json["train_seconds"] = entry.train_seconds;
  json["to_best"] = entry.to_best ? to_json(*entry.to_best) : ordered_json();
  json["cells"] = std::move(cells);
  return json;
}

ordered_json group_json(const StudyReport& report, const ReportGroup& group) {
  ordered_json entries = ordered_json::array(), pairs = ordered_json::array();
  for (const ReportEntry& entry : group.entries) entries.push_back(entry_json(report, group, entry));
  for (const PairComparison& pair : group.pairs) {
    ordered_json one{{"a", group.entries[pair.a].strategy}, {"b", group.entries[pair.b].strategy}};
    one.update(to_json(pair.result));
    pairs.push_back(std::move(one));
  }
  std::vector<std::string> best;  // several, if their scores are equal
  for (std::size_t i : group.best_entries(report.score)) best.push_back(group.entries[i].strategy);
  return {{"network", group.network},
          {"dataset", group.dataset},
          {"class_names", group.class_names},
          {"test_images", group.images()},
          {"class_counts", group.class_counts},
          {"groups", group.named_groups},
          {"best", group.best ? ordered_json(group.entries[*group.best].strategy) : ordered_json()},
          {"best_strategies", std::move(best)},
          {"strategies", std::move(entries)},
          {"comparisons", std::move(pairs)},
          {"excluded", group.excluded}};
}

}  // namespace

std::string report_json(const StudyReport& report) {
  const StudyResults& results = *report.results;
  ordered_json groups = ordered_json::array(), ranks = ordered_json::array(), trials = ordered_json::array();
  for (const ReportGroup& group : report.groups) groups.push_back(group_json(report, group));
  for (const ReportRanks& r : report.ranks)
    ranks.push_back({{"network", r.network},
                     {"datasets", r.datasets},
                     {"strategies", r.strategies},
                     {"mean_ranks", r.test.mean_ranks},
                     {"statistic", r.test.statistic},
                     {"p", r.test.p},
                     {"critical_difference", r.test.critical_difference}});
  for (const TrialResult& t : results.trials)
    trials.push_back({{"id", t.trial.id()},
                      {"lr", t.trial.lr},
                      {"state", to_string(t.state)},
                      {"diverged", t.diverged},
                      {"score", t.score},
                      {"is_chosen", t.is_chosen}});
  ordered_json leakage = ordered_json::object();
  for (const auto& [dataset, leaks] : report.leakage) {
    ordered_json& one = leakage[dataset];
    one["images"] = leaks.images;
    for (LeakKind kind : kLeakKinds)
      one[std::string(to_string(kind))] = {{"pairs", leaks.count(kind).pairs},
                                           {"held_out_images", leaks.count(kind).images}};
  }
  const ordered_json json{{"title", title_text(report)},
                          {"verdict", verdict(report)},
                          {"score", name(report.score)},
                          {"level", report.bootstrap.level},
                          {"resamples", report.bootstrap.resamples},
                          {"comparison_resamples", report.comparison_resamples},
                          {"cells", report.cells},
                          {"finished", report.finished},
                          {"failed", report.failed},
                          {"results", std::move(groups)},
                          {"ranks", std::move(ranks)},
                          {"trials", std::move(trials)},
                          {"leakage", std::move(leakage)},
                          {"missing", missing(report)},
                          {"caveats", caveats(report)}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace graft
