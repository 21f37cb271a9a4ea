#include "apps/report/report_numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "data/parallel.h"

namespace graft {
namespace {

constexpr double kNotMeasured = std::numeric_limits<double>::quiet_NaN();

/// The finished cells of one seed, if no fold is missing.
std::vector<const CellResult*> whole_seed(const ReportEntry& entry, std::int64_t seed) {
  std::vector<const CellResult*> cells;
  for (const CellResult* cell : entry.cells) {
    if (cell->cell.seed != seed) continue;
    if (cell->state != CellState::finished) return {};
    cells.push_back(cell);
  }
  return cells;
}

/// Test images of one seed, all folds, as every other seed of the group must have them.
struct TestImages {
  std::vector<std::string> paths, groups;
  std::vector<std::int32_t> labels;
  LabelSets label_sets;
};

TestImages test_images(const std::vector<const CellResult*>& cells) {
  TestImages images;
  LabelNumbers numbers;  // of all folds
  for (const CellResult* cell : cells) {
    const CellPredictions& p = cell->predictions;
    images.paths.insert(images.paths.end(), p.paths.begin(), p.paths.end());
    images.groups.insert(images.groups.end(), p.groups.begin(), p.groups.end());
    for (const std::int32_t label : p.labels)
      images.labels.push_back(p.label_sets.is_multi_label() ? numbers.label_of(p.label_sets.classes_of(label)) : label);
    if (p.label_sets.is_multi_label()) images.label_sets = numbers.sets();
  }
  images.groups.resize(images.paths.size());
  return images;
}

/// One number for all images of a patient; an image in several folds is one cluster too. Empty if no two images belong
/// together.
std::vector<std::int64_t> clusters_of(const TestImages& images) {
  std::map<std::string, std::int64_t> numbers;
  std::vector<std::int64_t> clusters;
  for (std::size_t i = 0; i < images.paths.size(); ++i) {
    const std::string key = images.groups[i].empty() ? "image " + images.paths[i] : "group " + images.groups[i];
    clusters.push_back(numbers.emplace(key, std::ssize(numbers)).first->second);
  }
  return numbers.size() == clusters.size() ? std::vector<std::int64_t>() : clusters;
}

/// Takes the group's test images from its first finished seed.
void take_images(ReportGroup& group, TestImages images, const std::vector<std::string>& class_names) {
  group.clusters = clusters_of(images);
  std::set<std::string> named(images.groups.begin(), images.groups.end());
  named.erase("");
  group.named_groups = std::ssize(named);
  group.class_names = class_names;
  group.class_counts.assign(class_names.size(), 0);
  for (std::int32_t label : images.labels)
    for (const std::int32_t c : images.label_sets.classes_of(label)) ++group.class_counts[std::size_t(c)];
  group.paths = std::move(images.paths);
  group.labels = std::move(images.labels);
  group.label_sets = std::move(images.label_sets);
}

void add_seeds(ReportGroup& group, ReportEntry& entry, const StudySpec& spec) {
  for (std::int64_t seed : spec.seeds) {
    const std::vector<const CellResult*> cells = whole_seed(entry, seed);
    if (cells.empty()) continue;
    TestImages images = test_images(cells);
    if (images.labels.empty()) continue;
    if (group.labels.empty()) take_images(group, images, cells.front()->class_names);
    const bool is_comparable =
        images.paths == group.paths && images.labels == group.labels && images.label_sets == group.label_sets &&
        std::ranges::all_of(cells, [&](const CellResult* cell) { return cell->class_names == group.class_names; });
    if (!is_comparable) {
      group.excluded.push_back(cells.front()->cell.id());
      continue;
    }
    SeedAnswers answers{.seed = seed, .cells = cells};
    for (const CellResult* cell : cells)
      answers.probabilities.insert(answers.probabilities.end(), cell->predictions.probabilities.begin(),
                                   cell->predictions.probabilities.end());
    entry.seeds.push_back(std::move(answers));
  }
}

/// What needs no statistics: counts, times, rates.
void add_facts(ReportEntry& entry) {
  entry.lr_min = INFINITY, entry.lr_max = -INFINITY;
  for (const CellResult* cell : entry.cells) {
    entry.failed += cell->state == CellState::failed;
    if (cell->state != CellState::finished) continue;
    ++entry.finished;
    entry.lr_min = std::min(entry.lr_min, cell->lr), entry.lr_max = std::max(entry.lr_max, cell->lr);
  }
  double seconds = 0;
  for (const SeedAnswers& seed : entry.seeds)
    for (const CellResult* cell : seed.cells) seconds += cell->train_seconds;
  entry.train_seconds = entry.seeds.empty() ? kNotMeasured : seconds / double(entry.seeds.size());
}

ReportGroup group_of(const StudyResults& results, const std::string& network, const std::string& dataset) {
  ReportGroup group{.network = network, .dataset = dataset};
  for (const StudyStrategy& strategy : results.spec.strategies) {
    ReportEntry entry{.strategy = strategy.name};
    for (const CellResult& cell : results.cells)
      if (cell.cell.network == network && cell.cell.dataset == dataset && cell.cell.strategy == strategy.name)
        entry.cells.push_back(&cell);
    entry.intervals.fill({.estimate = kNotMeasured, .low = kNotMeasured, .high = kNotMeasured});
    entry.variance = {kNotMeasured, kNotMeasured, kNotMeasured};
    add_seeds(group, entry, results.spec);
    add_facts(entry);
    group.entries.push_back(std::move(entry));
  }
  return group;
}

/// Without an interval (a single test image, say) the score alone.
Interval interval_or_score(Score which, const std::vector<Cases>& runs, const BootstrapSpec& spec) {
  try {
    return mean_interval(which, runs, spec);
  } catch (const Error&) {
    double sum = 0;
    for (const Cases& cases : runs) sum += score(which, cases);
    return {.estimate = sum / double(runs.size()),
            .low = kNotMeasured,
            .high = kNotMeasured,
            .method = "none",
            .is_doubtful = true};
  }
}

void add_intervals(const ReportGroup& group, ReportEntry& entry, Score score_of_study, const BootstrapSpec& spec) {
  if (entry.seeds.empty()) return;
  const std::vector<Cases> runs = group.cases(entry);
  for (std::size_t i = 0; i < runs.size(); ++i) entry.seeds[i].score = score(score_of_study, runs[i]);
  for (Score which : kScores) entry.intervals[std::size_t(which)] = interval_or_score(which, runs, spec);
  try {
    entry.variance = variance_parts(score_of_study, runs);
  } catch (const Error&) {  // too few images; stays unknown
  }
}

std::optional<std::size_t> best_of(const ReportGroup& group, Score score) {
  std::optional<std::size_t> best;
  for (std::size_t i = 0; i < group.entries.size(); ++i) {
    const double value = group.entries[i].interval(score).estimate;
    if (std::isfinite(value) && (!best || is_better(score, value, group.entries[*best].interval(score).estimate)))
      best = i;
  }
  return best;
}

/// The smallest p value of a bootstrap is about 2 / resamples; Holm multiplies it by the number of pairs, and must
/// still get well below 1 - level.
BootstrapSpec spec_for_pairs(BootstrapSpec spec, std::size_t pairs) {
  constexpr double kReserve = 1.5;
  spec.resamples = std::max(spec.resamples, std::int64_t(std::ceil(kReserve * 2 * double(pairs) / (1 - spec.level))));
  return spec;
}

void add_pairs(ReportGroup& group, Score score, const BootstrapSpec& bootstrap) {
  std::vector<std::size_t> entry_of;  // contender -> entry
  std::vector<std::vector<Cases>> contenders;
  for (std::size_t i = 0; i < group.entries.size(); ++i) {
    if (!std::isfinite(group.entries[i].interval(score).estimate)) continue;
    entry_of.push_back(i);
    contenders.push_back(group.cases(group.entries[i]));
  }
  if (contenders.size() < 2) return;
  try {
    group.pairs = compare_all(score, contenders, bootstrap);
  } catch (const Error&) {  // too few images: nothing is compared, and the page says so
    return;
  }
  for (PairComparison& pair : group.pairs) pair.a = entry_of[pair.a], pair.b = entry_of[pair.b];
}

/// What `pair` says of `entry` minus the other one.
Comparison seen_from(const PairComparison& pair, std::size_t entry) {
  Comparison c = pair.result;
  if (pair.a == entry) return c;
  c.difference = -pair.result.difference;
  c.low = -pair.result.high, c.high = -pair.result.low;
  return c;
}

void compare_with_best(ReportGroup& group, Score score) {
  for (const PairComparison& pair : group.pairs) {
    const bool a_is_best = group.is_best(pair.a, score);
    if (a_is_best == group.is_best(pair.b, score)) continue;
    const std::size_t other = a_is_best ? pair.b : pair.a;
    std::optional<Comparison>& known = group.entries[other].to_best;
    if (!known || known->p_holm < pair.result.p_holm) known = seen_from(pair, other);
  }
}

/// The verdict is one over all data sets and networks, and so is Holm's correction.
void correct_pairs(StudyReport& report) {
  std::vector<Comparison*> together;
  for (ReportGroup& group : report.groups)
    for (PairComparison& pair : group.pairs) together.push_back(&pair.result);
  correct_together(together, report.bootstrap.level);
  for (ReportGroup& group : report.groups) compare_with_best(group, report.score);
}

std::optional<ReportRanks> ranks_of(const StudyReport& report, const std::string& network) {
  ReportRanks ranks{.network = network};
  std::vector<const ReportGroup*> groups;
  for (const ReportGroup& group : report.groups)
    if (group.network == network && group.best) groups.push_back(&group);
  if (groups.size() < StudyReport::kRankedDatasets) return std::nullopt;
  std::vector<std::size_t> entries;
  for (std::size_t i = 0; i < groups.front()->entries.size(); ++i) {
    const auto is_scored = [&](const ReportGroup* g) {
      return std::isfinite(g->entries[i].interval(report.score).estimate);
    };
    if (!std::ranges::all_of(groups, is_scored)) continue;
    entries.push_back(i);
    ranks.strategies.push_back(groups.front()->entries[i].strategy);
  }
  if (entries.size() < 2) return std::nullopt;
  std::vector<std::vector<double>> scores;
  for (const ReportGroup* group : groups) {
    ranks.datasets.push_back(group->dataset);
    scores.emplace_back();
    for (std::size_t i : entries) scores.back().push_back(group->entries[i].interval(report.score).estimate);
  }
  ranks.test = friedman_nemenyi(scores, higher_is_better(report.score), report.bootstrap.level);
  return ranks;
}

Score score_of(const StudySpec& spec) {
  const std::optional<Score> score = score_named(spec.score == "loss" ? "log_loss" : spec.score);
  if (score) return *score;
  std::string known;
  for (Score s : kScores) known += (known.empty() ? "" : ", ") + std::string(name(s));
  throw Error(fmt::format("study report: score '{}' is unknown; use one of {}", spec.score, known));
}

}  // namespace

bool is_better(Score score, double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return !std::isnan(a);
  return higher_is_better(score) ? a > b : a < b;
}

std::vector<Cases> ReportGroup::cases(const ReportEntry& entry) const {
  std::vector<Cases> runs;
  for (const SeedAnswers& seed : entry.seeds) runs.push_back(cases(seed));
  return runs;
}

bool ReportGroup::is_best(std::size_t entry, Score score) const {
  constexpr double kRounding = 1e-12;
  return best &&
         std::abs(entries[entry].interval(score).estimate - entries[*best].interval(score).estimate) <= kRounding;
}

std::vector<std::size_t> ReportGroup::best_entries(Score score) const {
  std::vector<std::size_t> all;
  for (std::size_t i = 0; i < entries.size(); ++i)
    if (is_best(i, score)) all.push_back(i);
  return all;
}

std::int64_t StudyReport::pairs() const {
  std::int64_t count = 0;
  for (const ReportGroup& group : groups) count += std::ssize(group.pairs);
  return count;
}

StudyReport make_report(const StudyResults& results, const ReportSpec& spec) {
  StudyReport report{
      .results = &results, .leakage = spec.leakage, .score = score_of(results.spec), .bootstrap = spec.bootstrap};
  for (const StudyNetwork& network : results.spec.networks)
    for (const StudyDataset& dataset : results.spec.datasets)
      report.groups.push_back(group_of(results, network.name, dataset.name));
  report.cells = std::ssize(results.cells);
  for (const CellResult& cell : results.cells) {
    report.finished += cell.state == CellState::finished;
    report.failed += cell.state == CellState::failed;
  }

  // Entries are independent of each other, and so are groups.
  std::vector<std::pair<ReportGroup*, ReportEntry*>> entries;
  for (ReportGroup& group : report.groups)
    for (ReportEntry& entry : group.entries) entries.emplace_back(&group, &entry);
  std::atomic<std::int64_t> done{0};
  const std::int64_t all = std::ssize(entries) + std::ssize(report.groups);
  std::mutex mutex;
  const auto count = [&](const std::string& what) {
    const std::lock_guard lock(mutex);
    ++done;
    if (spec.progress) spec.progress(what, done, all);
  };
  parallel_for(std::ssize(entries), spec.threads, [&](std::int64_t i) {
    auto [group, entry] = entries[std::size_t(i)];
    add_intervals(*group, *entry, report.score, spec.bootstrap);
    count("intervals");
  });
  const std::size_t strategies = results.spec.strategies.size();
  const std::size_t all_pairs =
      report.groups.size() * strategies * (strategies - std::min<std::size_t>(strategies, 1)) / 2;
  const BootstrapSpec comparisons = spec_for_pairs(spec.bootstrap, all_pairs);
  report.comparison_resamples = comparisons.resamples;
  parallel_for(std::ssize(report.groups), spec.threads, [&](std::int64_t i) {
    ReportGroup& group = report.groups[std::size_t(i)];
    group.best = best_of(group, report.score);
    add_pairs(group, report.score, comparisons);
    count("comparisons");
  });
  correct_pairs(report);
  for (const StudyNetwork& network : results.spec.networks)
    if (std::optional<ReportRanks> ranks = ranks_of(report, network.name)) report.ranks.push_back(std::move(*ranks));
  return report;
}

}  // namespace graft
