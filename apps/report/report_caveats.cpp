// What a reader must know before believing a report.
#include "apps/report/report_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace graft {
namespace {

/// Places with strategies of which one seed alone is finished: "chest", or "chest (full)" where others have more.
std::vector<std::string> places_with_one_seed(const StudyReport& report) {
  std::vector<std::string> places;
  for (const ReportGroup& group : report.groups) {
    std::vector<std::string> single;
    for (const ReportEntry& entry : group.entries)
      if (entry.seeds.size() == 1) single.push_back(entry.strategy);
    if (single.empty()) continue;
    const bool has_more = std::ranges::any_of(group.entries, [](const ReportEntry& e) { return e.seeds.size() > 1; });
    places.push_back(place_text(report, group) + (has_more ? " (" + listed(single) + ")" : ""));
  }
  return places;
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
        "on chance in training is unknown as yet, and comparisons hold for these trained models alone.",
        seeds));
    return;
  }
  const std::vector<std::string> single = places_with_one_seed(report);
  notes.push_back(fmt::format(
      "{} seeds: scores are means over them. Intervals say what other test images from the same source would change, "
      "not what other seeds would; that is listed apart, and comparisons count both{}.",
      seeds, single.empty() ? "" : " where more than one seed is finished"));
  if (!single.empty())
    notes.push_back(fmt::format(
        "Only one of {} seeds is finished on {}: between strategies with one seed comparisons hold for these trained "
        "models alone.",
        seeds, listed(single)));
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
  const StudySpec& spec = report.results->spec;
  const bool is_subset = spec.train_per_class > 0 || spec.val_per_class > 0 || spec.test_per_class > 0;
  std::vector<std::string> unchecked, clean;
  for (const StudyDataset& dataset : spec.datasets) {
    const auto found = report.leakage.find(dataset.name);
    if (found == report.leakage.end())
      unchecked.push_back(dataset.name);
    else if (found->second.is_clean())
      clean.push_back(dataset.name);
    else
      notes.push_back(fmt::format("{}: the splits leak: {}{}. Its scores may be too high.", dataset.name,
                                  leaks_of(found->second, dataset),
                                  is_subset ? " in the whole data set, before the subset was taken" : ""));
  }
  if (!unchecked.empty())
    notes.push_back(
        fmt::format("{}: whether test images, or copies of them, are among the training images was not checked.",
                    listed(unchecked)));
  if (!clean.empty())
    notes.push_back(fmt::format("{}: checked for leaks between the splits; none were found.", listed(clean)));
}

/// "; the widest interval of macro accuracy reaches from 0.512 to 0.826 (lp-ft)"; empty without any.
std::string widest_text(const StudyReport& report, const ReportGroup& group) {
  const ReportEntry* widest = nullptr;
  const auto width = [&](const ReportEntry& e) { return e.interval(report.score).high - e.interval(report.score).low; };
  for (const ReportEntry& entry : group.entries)
    if (std::isfinite(width(entry)) && (widest == nullptr || width(entry) > width(*widest))) widest = &entry;
  if (widest == nullptr) return {};
  const Interval& interval = widest->interval(report.score);
  return fmt::format("; the widest interval of {} reaches from {} to {} ({})", words_of(report.score),
                     number_text(interval.low), number_text(interval.high), widest->strategy);
}

/// What the test images of a group can show.
void add_image_caveats(const StudyReport& report, const ReportGroup& group, std::vector<std::string>& notes) {
  if (group.labels.empty()) return;
  const std::string place = place_text(report, group);
  const std::string clusters =
      group.named_groups > 0
          ? fmt::format("of {} ", counted(group.named_groups, "patient or group", "patients or groups"))
          : std::string();
  notes.push_back(fmt::format("{}: {} {}{}.{}", place, counted(group.images(), "test image", "test images"),
                              clusters + "in " + counted(group.classes(), "class", "classes"),
                              widest_text(report, group),
                              group.named_groups > 0 ? " Images of one patient or group are resampled together."
                                                     : " Nothing is known of patients: images of one may be on both "
                                                       "sides of the split, and count as independent here."));
  std::vector<std::string> rare;
  for (std::size_t c = 0; c < group.class_names.size(); ++c) {
    const std::int64_t with = group.class_counts[c], without = group.images() - with;
    if (with < 10) rare.push_back(fmt::format("{} ({})", group.class_names[c], with));
    if (group.is_multi_label() && without < 10)
      rare.push_back(fmt::format("without {} ({})", group.class_names[c], without));
  }
  const bool has_doubt = std::ranges::any_of(
      group.entries, [&](const ReportEntry& e) { return e.has_scores() && e.interval(report.score).is_doubtful; });
  if (!rare.empty() || has_doubt)
    notes.push_back(fmt::format(
        "{0}: {1}. Intervals on {0} may therefore be too narrow or too wide.", place,
        rare.empty()
            ? std::string(group.is_multi_label() ? "fewer than 10 patients or groups have a class, or lack it"
                                                 : "a class has images of fewer than 10 patients or groups")
            : fmt::format(
                  "fewer than 10 test images of {}{}", listed(rare),
                  group.named_groups > 0 ? ", and other classes may have fewer than 10 patients or groups" : "")));
  for (const std::string& id : group.excluded)
    notes.push_back(fmt::format("{} was tested on other images or classes than the rest and is left out.", id));
}

/// The first of many, as words.
std::string listed_in_part(std::vector<std::string> words) {
  constexpr std::size_t kShown = 6;
  if (words.size() > kShown) {
    const std::size_t more = words.size() - kShown;
    words.resize(kShown);
    words.push_back(fmt::format("{} more", more));
  }
  return listed(words);
}

/// Finished trainings whose rate is not the one that their trials choose now.
void add_rate_caveat(const StudyReport& report, std::vector<std::string>& notes) {
  constexpr double kRounding = 1e-6;  // of rates, which files have as text
  std::vector<std::string> others;
  for (const TrialResult& t : report.results->trials) {
    if (!t.is_chosen) continue;
    for (const CellResult& result : report.results->cells) {
      const StudyCell &cell = result.cell, &of_trial = t.trial.cell;
      const bool is_its_own = cell.network == of_trial.network && cell.dataset == of_trial.dataset &&
                              cell.strategy == of_trial.strategy && cell.fold == of_trial.fold;
      if (is_its_own && result.state == CellState::finished &&
          std::abs(result.lr - t.trial.lr) > kRounding * t.trial.lr)
        others.push_back(fmt::format("{} ({}; now {})", cell.id(), rate_text(result.lr), rate_text(t.trial.lr)));
    }
  }
  if (!others.empty())
    notes.push_back(
        fmt::format("Trained at another rate than their trials choose now: {}.", listed_in_part(std::move(others))));
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
  std::vector<std::string> given;
  for (const StudyStrategy& strategy : spec.strategies)
    if (!is_tuned(spec, strategy)) given.push_back(strategy.name);
  notes.push_back(fmt::format(
      "Learning rates were chosen by {} on validation images, {} for each strategy{}; test images decided nothing.{}",
      selection_words(spec), counted(spec.tuning.trials, "short trial", "short trials"),
      given.empty() ? "" : " that was tuned",
      given.empty() ? ""
                    : fmt::format(" The rate{} of {} {} given, not tuned.", given.size() == 1 ? "" : "s", listed(given),
                                  given.size() == 1 ? "was" : "were")));
  if (spec.tuning.trials < 3) {
    notes.push_back("With so few rates tried, a better one may lie between them or outside.");
    return;
  }
  std::vector<std::string> edges = rates_at_the_edge(report);
  if (!edges.empty())
    notes.push_back(fmt::format("The chosen rate is the lowest or highest tried, so a better one may lie outside: {}.",
                                listed_in_part(std::move(edges))));
}

}  // namespace

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
  add_rate_caveat(report, notes);
  if (report.score == Score::calibration_error) notes.push_back(kCalibrationNote);
  if (report.results->spec.folds > 0)
    notes.push_back(
        "Scores of a seed are of the images of all folds together, which different networks have answered; areas under "
        "curves compare their probabilities as if they were of one.");
  return notes;
}

}  // namespace graft
