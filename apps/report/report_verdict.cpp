// The sentence that a report begins with.
#include "apps/report/report_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>

namespace graft {
namespace {

std::string level_text(double level) { return fmt::format("{:.4g} %", 100 * level); }

std::string strategies_text(const ReportGroup& group, const std::vector<std::size_t>& entries) {
  constexpr std::size_t kListed = 4;
  if (entries.size() > kListed) return std::to_string(entries.size()) + " others";
  std::vector<std::string> names;
  for (std::size_t i : entries) names.push_back(group.entries[i].strategy);
  return listed(names);
}

std::size_t compared(const ReportGroup& group) {
  return std::size_t(std::ranges::count_if(group.entries, [](const ReportEntry& e) { return e.to_best.has_value(); }));
}

/// "0.820 (95 % interval 0.757–0.877)"; of equal scores whose intervals differ, what these span together.
std::string best_score_text(const StudyReport& report, const ReportGroup& group) {
  const Interval& first = group.entries[*group.best].interval(report.score);
  const std::string level = level_text(report.bootstrap.level);
  double low = first.low, high = first.high;
  bool is_one = true;
  for (std::size_t i : group.best_entries(report.score)) {
    const Interval& interval = group.entries[i].interval(report.score);
    is_one = is_one && range_text(interval.low, interval.high) == range_text(first.low, first.high);
    low = std::min(low, interval.low), high = std::max(high, interval.high);
  }
  return is_one ? fmt::format("{} ({} interval {})", number_text(first.estimate), level, range_text(low, high))
                : fmt::format("{} ({} intervals within {})", number_text(first.estimate), level, range_text(low, high));
}

/// Several strategies whose scores are equal.
std::string leaders_of(const ReportGroup& group, const std::vector<std::size_t>& entries) {
  constexpr std::size_t kListed = 4;
  if (entries.size() > kListed)
    return fmt::format("{}{} strategies", entries.size() == group.entries.size() ? "all " : "", entries.size());
  return strategies_text(group, entries);
}

/// "On chest, full and lp-ft share the highest macro accuracy, 0.750 (95 % interval 0.600–0.900), and are …"
std::string verdict_of_equals(const StudyReport& report, const ReportGroup& group,
                              const std::vector<std::size_t>& leaders) {
  const std::string text = fmt::format(
      "On {}, {} share the {} {}, {}", place_text(report, group), leaders_of(group, leaders),
      higher_is_better(report.score) ? "highest" : "lowest", words_of(report.score), best_score_text(report, group));
  const std::size_t others = compared(group);
  const std::vector<std::size_t> tied = tied_with_best(group);
  if (others == 0) return text + (group.pairs.empty() ? "." : ", and none of them is distinguishable from another.");
  if (tied.empty())
    return text + fmt::format(", and are distinguishable from {}, though not from each other.",
                              others == 1 ? "the other strategy" : fmt::format("the {} other strategies", others));
  const std::string whom = tied.size() < others ? strategies_text(group, tied)
                           : others == 1        ? "the other strategy"
                                                : fmt::format("any of the {} other strategies", others);
  return text + fmt::format(", but are distinguishable neither from each other nor from {}.", whom);
}

/// "On chest, l2-sp has the highest macro accuracy, 0.820 (95 % interval 0.757–0.877), and is …"
std::string verdict_of_one(const StudyReport& report, const ReportGroup& group) {
  const std::vector<std::size_t> leaders = group.best_entries(report.score);
  if (leaders.size() > 1) return verdict_of_equals(report, group, leaders);
  const ReportEntry& best = group.entries[*group.best];
  const std::string score = best_score_text(report, group);
  const std::size_t others = compared(group);
  if (others == 0)
    return fmt::format("On {}, {} has a {} of {}; there is nothing to compare it with.", place_text(report, group),
                       best.strategy, words_of(report.score), score);
  const std::vector<std::size_t> tied = tied_with_best(group);
  const std::string best_text =
      fmt::format("On {}, {} has the {} {}, {}", place_text(report, group), best.strategy,
                  higher_is_better(report.score) ? "highest" : "lowest", words_of(report.score), score);
  if (tied.empty())
    return best_text +
           fmt::format(", and is distinguishable from {}.",
                       others == 1 ? "the other strategy" : fmt::format("each of the {} other strategies", others));
  if (tied.size() == others)
    return best_text +
           fmt::format(", but is not distinguishable from {}.",
                       others == 1 ? "the other strategy" : fmt::format("any of the {} other strategies", others));
  return best_text + fmt::format(", but is not distinguishable from {}.", strategies_text(group, tied));
}

/// Of few places the best strategy of each, of many the one that is best most often.
std::string leaders_text(const StudyReport& report, const std::vector<const ReportGroup*>& groups) {
  constexpr std::size_t kFew = 3;
  std::vector<std::string> places;
  std::map<std::string, std::size_t> wins;
  bool has_shared = false;
  for (const ReportGroup* group : groups) {
    const std::vector<std::size_t> leaders = group->best_entries(report.score);
    for (std::size_t i : leaders) ++wins[group->entries[i].strategy];
    has_shared = has_shared || leaders.size() > 1;
    places.push_back(fmt::format("{}{} on {}", leaders_of(*group, leaders), leaders.size() > 1 ? " (equal)" : "",
                                 place_text(report, *group)));
  }
  if (groups.size() <= kFew) return "the best scores are those of " + listed(places);
  const auto most = std::ranges::max_element(wins, {}, [](const auto& w) { return w.second; });
  const bool is_alone = std::ranges::count(wins, most->second, [](const auto& w) { return w.second; }) == 1;
  return is_alone ? fmt::format("{} has {}the best score most often ({} of {})", most->first,
                                has_shared ? "or shares " : "", most->second, groups.size())
                  : std::string("no single strategy has the best score most often");
}

std::string verdict_of_many(const StudyReport& report, const std::vector<const ReportGroup*>& groups) {
  std::vector<std::string> winners;
  for (const ReportGroup* group : groups)
    if (compared(*group) > 0 && tied_with_best(*group).empty() && group->best_entries(report.score).size() == 1)
      winners.push_back(group->entries[*group->best].strategy + " on " + place_text(report, *group));
  const bool has_networks = report.results->spec.networks.size() > 1;
  const std::string places =
      fmt::format("{} {}", groups.size(), has_networks ? "pairs of network and data set" : "data sets");
  std::string text = winners.empty()
                         ? fmt::format("On none of the {} is the best strategy distinguishable from all others in {}",
                                       places, words_of(report.score))
                         : fmt::format("On {} of the {} one strategy is distinguishable from all others in {} ({})",
                                       winners.size(), places, words_of(report.score), listed(winners));
  text += "; " + leaders_text(report, groups);
  for (const ReportRanks& ranks : report.ranks)
    text += fmt::format("; over {} data sets{} the ranks of the strategies {} (Friedman p {})", ranks.datasets.size(),
                        has_networks ? " with " + ranks.network : "",
                        ranks.test.p < 1 - report.bootstrap.level ? "differ" : "are not distinguishable",
                        ranks.test.p < 0.001 ? p_text(ranks.test.p) : "= " + p_text(ranks.test.p));
  return text + ".";
}

}  // namespace

std::vector<std::size_t> tied_with_best(const ReportGroup& group) {
  std::vector<std::size_t> tied;
  for (std::size_t i = 0; i < group.entries.size(); ++i)
    if (group.entries[i].to_best && !group.entries[i].to_best->is_distinguishable) tied.push_back(i);
  return tied;
}

std::string verdict(const StudyReport& report) {
  std::vector<const ReportGroup*> groups;
  for (const ReportGroup& group : report.groups)
    if (group.best) groups.push_back(&group);
  if (groups.empty())
    return report.finished == 0
               ? "No training of this study has finished, so nothing can be said yet."
               : fmt::format("No strategy has a {} yet, so nothing can be said.", words_of(report.score));
  std::string text = groups.size() == 1 ? verdict_of_one(report, *groups.front()) : verdict_of_many(report, groups);
  if (report.is_complete()) return text;
  text[0] = char(std::tolower(static_cast<unsigned char>(text[0])));
  return fmt::format("So far, with {} of {} trainings: {}", report.finished, report.cells, text);
}

}  // namespace graft
