#include "apps/report/report_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/terminal.h"

namespace graft {
namespace {

std::string percent(double level) { return fmt::format("{:.4g} %", 100 * level); }

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

/// "On chest, l2-sp has the highest macro accuracy, 0.820 (95 % interval 0.757–0.877), and is …"
std::string verdict_of_one(const StudyReport& report, const ReportGroup& group) {
  const ReportEntry& best = group.entries[*group.best];
  const Interval& interval = best.interval(report.score);
  const std::string score = fmt::format("{} ({} interval {})", number_text(interval.estimate),
                                        percent(report.bootstrap.level), range_text(interval.low, interval.high));
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
  for (const ReportGroup* group : groups) {
    const std::string& strategy = group->entries[*group->best].strategy;
    ++wins[strategy];
    places.push_back(strategy + " on " + place_text(report, *group));
  }
  if (groups.size() <= kFew) return "the best scores are those of " + listed(places);
  const auto most = std::ranges::max_element(wins, {}, [](const auto& w) { return w.second; });
  const bool is_alone = std::ranges::count(wins, most->second, [](const auto& w) { return w.second; }) == 1;
  return is_alone ? fmt::format("{} has the best score most often ({} of {})", most->first, most->second, groups.size())
                  : std::string("no single strategy has the best score most often");
}

std::string verdict_of_many(const StudyReport& report, const std::vector<const ReportGroup*>& groups) {
  std::vector<std::string> winners;
  for (const ReportGroup* group : groups)
    if (compared(*group) > 0 && tied_with_best(*group).empty())
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

void add_seed_caveat(const StudyReport& report, std::vector<std::string>& notes) {
  const std::int64_t seeds = std::ssize(report.results->spec.seeds);
  if (seeds == 1) {
    notes.push_back(
        "One seed: how far a result depends on chance in training (order, head's start) is unknown. Intervals and "
        "comparisons hold for these trained networks on other test images from the same source.");
    return;
  }
  if (std::ranges::none_of(report.groups, [](const ReportGroup& group) {
        return std::ranges::any_of(group.entries, [](const ReportEntry& e) { return e.seeds.size() > 1; });
      })) {
    notes.push_back(fmt::format(
        "{} seeds are planned, but no strategy has more than one that is finished: how far a result depends "
        "on chance in training is unknown as yet.",
        seeds));
    return;
  }
  notes.push_back(fmt::format(
      "{} seeds: scores are means over them. Intervals say what other test images from the same source would change, "
      "not what other seeds would; that is listed apart, and comparisons count both.",
      seeds));
  if (seeds < 5) notes.push_back("Fewer than five seeds say little about the spread between seeds.");
}

/// Leaks of one data set: "7 near-duplicates (5 held-out images, allowed by name)".
std::string leaks_of(const LeakageReport& leaks, const StudyDataset& dataset) {
  std::vector<std::string> kinds;
  for (LeakKind kind : kLeakKinds) {
    if (!leaks.has(kind)) continue;
    const bool is_allowed = std::ranges::any_of(
        dataset.allow, [&](const std::string& name) { return name == to_string(kind) || name == "all"; });
    const std::string_view many = to_string(kind);
    kinds.push_back(fmt::format("{} ({}{})", counted(leaks.count(kind).pairs, many.substr(0, many.size() - 1), many),
                                counted(leaks.count(kind).images, "held-out image", "held-out images"),
                                is_allowed ? ", allowed by name" : ""));
  }
  return listed(kinds);
}

void add_leakage_caveats(const StudyReport& report, std::vector<std::string>& notes) {
  std::vector<std::string> unchecked, clean;
  for (const StudyDataset& dataset : report.results->spec.datasets) {
    const auto found = report.leakage.find(dataset.name);
    if (found == report.leakage.end())
      unchecked.push_back(dataset.name);
    else if (found->second.is_clean())
      clean.push_back(dataset.name);
    else
      notes.push_back(fmt::format("{}: the splits leak: {}. Its scores may be too high.", dataset.name,
                                  leaks_of(found->second, dataset)));
  }
  if (!unchecked.empty())
    notes.push_back(
        fmt::format("{}: whether test images, or copies of them, are among the training images was not checked.",
                    listed(unchecked)));
  if (!clean.empty())
    notes.push_back(fmt::format("{}: checked for leaks between the splits; none were found.", listed(clean)));
}

/// What the test images of a group can show.
void add_image_caveats(const StudyReport& report, const ReportGroup& group, std::vector<std::string>& notes) {
  if (group.labels.empty()) return;
  const std::string place = place_text(report, group);
  double half_width = 0;
  for (const ReportEntry& entry : group.entries)
    if (const Interval& i = entry.interval(report.score); std::isfinite(i.high - i.low))
      half_width = std::max(half_width, (i.high - i.low) / 2);
  const std::string clusters =
      group.named_groups > 0
          ? fmt::format("of {} ", counted(group.named_groups, "patient or group", "patients or groups"))
          : std::string();
  notes.push_back(fmt::format("{}: {} {}; intervals reach ± {} at most.{}", place,
                              counted(group.images(), "test image", "test images"),
                              clusters + "in " + counted(group.classes(), "class", "classes"), number_text(half_width),
                              group.named_groups > 0 ? " Images of one patient or group are resampled together."
                                                     : " Nothing is known of patients: images of one may be on both "
                                                       "sides of the split, and count as independent here."));
  std::vector<std::string> rare;
  for (std::size_t c = 0; c < group.class_names.size(); ++c)
    if (group.class_counts[c] < 10) rare.push_back(fmt::format("{} ({})", group.class_names[c], group.class_counts[c]));
  const bool has_doubt = std::ranges::any_of(
      group.entries, [&](const ReportEntry& e) { return e.has_scores() && e.interval(report.score).is_doubtful; });
  if (!rare.empty() || has_doubt)
    notes.push_back(fmt::format(
        "{}: {}. Its intervals may be too narrow or too wide.", place,
        rare.empty() ? std::string("a class has images of fewer than 10 patients or groups")
                     : fmt::format("classes with fewer than 10 test images{}: {}",
                                   group.named_groups > 0 ? " (others may have fewer than 10 patients or groups)" : "",
                                   listed(rare))));
  for (const std::string& id : group.excluded)
    notes.push_back(fmt::format("{} was tested on other images or classes than the rest and is left out.", id));
}

/// Chosen rates at an end of what was tried, of those with enough trials to have a middle.
std::vector<std::string> rates_at_the_edge(const StudyReport& report) {
  const StudySpec& spec = report.results->spec;
  std::vector<std::string> edges;
  for (const TrialResult& t : report.results->trials) {
    const StudyCell& cell = t.trial.cell;
    if (!t.is_chosen || (t.trial.number != 1 && t.trial.number != spec.tuning.trials)) continue;
    const std::string network = spec.networks.size() > 1 ? " with " + cell.network : "";
    const std::string fold = cell.fold >= 0 ? fmt::format(", fold {}", cell.fold) : "";
    edges.push_back(fmt::format("{} on {}{}{} ({}, the {})", cell.strategy, cell.dataset, network, fold,
                                rate_text(t.trial.lr), t.trial.number == 1 ? "lowest" : "highest"));
  }
  return edges;
}

void add_tuning_caveats(const StudyReport& report, std::vector<std::string>& notes) {
  const StudySpec& spec = report.results->spec;
  if (std::ranges::none_of(spec.strategies, [&](const StudyStrategy& s) { return is_tuned(spec, s); })) {
    notes.push_back("Learning rates were given, not tuned: a strategy may be ahead because its rate suits it better.");
    return;
  }
  const std::optional<Score> selection = score_named(spec.selection);
  std::vector<std::string> given;
  for (const StudyStrategy& strategy : spec.strategies)
    if (!is_tuned(spec, strategy)) given.push_back(strategy.name);
  notes.push_back(fmt::format(
      "Learning rates were chosen by {} on validation images, {} for each strategy{}; test images decided nothing.{}",
      selection ? words_of(*selection) : spec.selection, counted(spec.tuning.trials, "short trial", "short trials"),
      given.empty() ? "" : " that was tuned",
      given.empty() ? ""
                    : fmt::format(" The rate{} of {} {} given, not tuned.", given.size() == 1 ? "" : "s", listed(given),
                                  given.size() == 1 ? "was" : "were")));
  if (spec.tuning.trials < 3) {
    notes.push_back("With so few rates tried, a better one may lie between them or outside.");
    return;
  }
  std::vector<std::string> edges = rates_at_the_edge(report);
  constexpr std::size_t kShown = 6;
  if (edges.size() > kShown) {
    const std::size_t more = edges.size() - kShown;
    edges.resize(kShown);
    edges.push_back(fmt::format("{} more", more));
  }
  if (!edges.empty())
    notes.push_back(fmt::format("The chosen rate is the lowest or highest tried, so a better one may lie outside: {}.",
                                listed(edges)));
}

}  // namespace

std::string words_of(Score score) {
  switch (score) {
    case Score::accuracy:
      return "accuracy";
    case Score::macro_accuracy:
      return "macro accuracy";
    case Score::macro_f1:
      return "macro F1";
    case Score::weighted_f1:
      return "weighted F1";
    case Score::kappa:
      return "Cohen's κ";
    case Score::auc:
      return "area under the ROC curve";
    case Score::average_precision:
      return "average precision";
    case Score::sensitivity:
      return "sensitivity";
    case Score::specificity:
      return "specificity";
    case Score::brier:
      return "Brier score";
    case Score::calibration_error:
      return "calibration error";
    case Score::log_loss:
      return "log loss";
  }
  return std::string(name(score));
}

std::string heading_of(Score score) {
  std::string words = words_of(score);
  words[0] = char(std::toupper(static_cast<unsigned char>(words[0])));
  return words;
}

std::string number_text(double value) { return std::isfinite(value) ? fmt::format("{:.3f}", value) : "–"; }

std::string signed_text(double value) { return std::isfinite(value) ? fmt::format("{:+.3f}", value) : "–"; }

std::string range_text(double low, double high) {
  if (!std::isfinite(low) || !std::isfinite(high)) return "–";
  return low < 0 ? fmt::format("{:.3f} to {:.3f}", low, high) : fmt::format("{:.3f}–{:.3f}", low, high);
}

std::string p_text(double p) {
  if (!std::isfinite(p)) return "–";
  return p < 0.001 ? "< 0.001" : p >= 0.9995 ? "1" : fmt::format("{:.3f}", p);
}

std::string rate_text(double lr) {
  if (!std::isfinite(lr) || lr <= 0) return "–";
  const int power = int(std::floor(std::log10(lr) + 1e-9));
  return fmt::format("{:.2g}e{}", lr / std::pow(10, power), power);
}

std::string counted(std::int64_t count, std::string_view one, std::string_view many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i)
    text += (i == 0 ? "" : i + 1 == words.size() ? " and " : ", ") + words[i];
  return text;
}

std::string place_text(const StudyReport& report, const ReportGroup& group) {
  return group.dataset + (report.results->spec.networks.size() > 1 ? " with " + group.network : "");
}

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

std::vector<std::string> caveats(const StudyReport& report) {
  std::vector<std::string> notes;
  if (!report.is_complete())
    notes.push_back(fmt::format(
        "{} of {} trainings are missing{}; means of some strategies are over fewer seeds than those of others.",
        report.cells - report.finished, report.cells,
        report.failed > 0 ? fmt::format(", {} of them because they failed", report.failed) : ""));
  add_seed_caveat(report, notes);
  add_leakage_caveats(report, notes);
  for (const ReportGroup& group : report.groups) add_image_caveats(report, group, notes);
  add_tuning_caveats(report, notes);
  if (report.results->spec.folds > 0)
    notes.push_back(
        "Scores of a seed are of the images of all folds together, which different networks have answered; areas under "
        "curves compare their probabilities as if they were of one.");
  return notes;
}

std::string without_folders(const StudyReport& report, std::string text) {
  std::vector<std::filesystem::path> folders{report.results->directory};
  for (const StudyDataset& dataset : report.results->spec.datasets) {
    const std::filesystem::path path(dataset.path);
    folders.push_back(path.has_extension() ? path.parent_path() : path);
  }
  for (const std::filesystem::path& folder : folders) {
    const std::string prefix = folder.string() + "/";
    if (prefix.size() < 2) continue;
    for (std::size_t at = text.find(prefix); at != std::string::npos; at = text.find(prefix, at))
      text.erase(at, prefix.size());
  }
  return text;
}

std::vector<std::string> missing(const StudyReport& report) {
  std::vector<std::string> lines;
  for (const ReportGroup& group : report.groups) {
    for (const ReportEntry& entry : group.entries) {
      std::vector<std::string> ids;
      for (const CellResult* cell : entry.cells) {
        if (cell->state == CellState::failed)
          lines.push_back(fmt::format("{} failed: {}", cell->cell.id(), without_folders(report, cell->error)));
        else if (cell->state != CellState::finished)
          ids.push_back(fmt::format("seed {}{}{}", cell->cell.seed,
                                    cell->cell.fold >= 0 ? fmt::format(" fold {}", cell->cell.fold) : "",
                                    cell->runs                          ? " (running)"
                                    : cell->state == CellState::partial ? " (interrupted)"
                                                                        : ""));
      }
      if (!ids.empty())
        lines.push_back(fmt::format("{} on {}: {}", entry.strategy, place_text(report, group), listed(ids)));
    }
  }
  return lines;
}

}  // namespace graft
