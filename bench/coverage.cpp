// How often intervals of data/statistics.h hold the truth, and how often comparisons find a difference where there is
// none: simulated test cases (tests/support/simulated_cases.h), every score. docs/statistics-coverage.md
// holds what it found with --resamples 299, --n by --n.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <iostream>

#include "data/parallel.h"
#include "data/statistics.h"
#include "kernels/philox.h"
#include "tests/support/simulated_cases.h"

using namespace graft;
using graft::testing::CaseDesign;
using graft::testing::expected_smallest_class;
using graft::testing::simulate;
using graft::testing::SimulatedCases;
using graft::testing::SimulatedModel;

namespace {

constexpr std::size_t kScoreCount = std::size(kScores);
static_assert(static_cast<std::size_t>(Score::log_loss) + 1 == kScoreCount);  // scores are indices
const std::vector<SimulatedModel> kOneModel(1);

struct Options {
  std::int64_t simulations = 2000, comparisons = 2000, resamples = 1000, threads = 1;
  std::vector<std::int64_t> sizes{120, 200, 500}, classes{2, 4, 9};
  bool is_stratified = false, is_multi_label = false;
  std::int64_t runs = 1;  // of each contender, as seeds have
  double spread = 0.1;    // of the skill of a contender's runs
  std::string clusters = "with and without";
  std::vector<std::string> scores;
  std::string output;

  bool wants(Score score) const { return scores.empty() || std::ranges::find(scores, name(score)) != scores.end(); }
};

std::vector<CaseDesign> designs(const Options& options) {
  std::vector<CaseDesign> all;
  for (const bool is_clustered : {false, true}) {
    if (options.clusters == (is_clustered ? "without" : "with")) continue;
    for (const std::int64_t n : options.sizes) {
      for (const std::int64_t classes : options.classes) {
        for (const bool is_balanced : {true, false}) {
          for (const bool is_accurate : {false, true}) {
            all.push_back(
                {n, classes, is_balanced, is_clustered, is_accurate, options.is_stratified, options.is_multi_label});
          }
        }
      }
    }
  }
  return all;
}

Cases cases_of(const SimulatedCases& from, std::size_t model, std::int64_t classes) {
  return {from.probabilities[model], from.labels, from.clusters, classes, &from.label_sets};
}

/// Scores of the population: of very many cases.
Metrics truth(CaseDesign design) {
  design.n = 200000;
  design.is_clustered = false;  // it changes no score, only how they vary
  const SimulatedCases population = simulate(design, kOneModel, 99, 0);
  return compute_metrics(population.probabilities[0], population.labels, design.classes, population.label_sets);
}

struct Coverage {
  std::array<std::int64_t, kScoreCount> below{}, above{};  // the truth is
};

Coverage coverage(const CaseDesign& design, const Options& options) {
  const Metrics population = truth(design);
  std::vector<Coverage> each(static_cast<std::size_t>(options.simulations));
  parallel_for(options.simulations, static_cast<int>(options.threads), [&](std::int64_t i) {
    const SimulatedCases drawn = simulate(design, kOneModel, 1, static_cast<std::uint64_t>(i));
    Coverage& here = each[static_cast<std::size_t>(i)];
    for (std::size_t s = 0; s < kScoreCount; ++s) {
      if (!options.wants(kScores[s])) continue;
      const Interval found = interval(kScores[s], cases_of(drawn, 0, design.classes),
                                      {.resamples = options.resamples, .seed = static_cast<std::uint64_t>(i)});
      const double value = score(kScores[s], population);
      here.below[s] = value < found.low ? 1 : 0;
      here.above[s] = value > found.high ? 1 : 0;
    }
  });
  Coverage sum;
  for (const Coverage& here : each) {
    for (std::size_t s = 0; s < kScoreCount; ++s) {
      sum.below[s] += here.below[s];
      sum.above[s] += here.above[s];
    }
  }
  return sum;
}

/// Share of simulations in which anything is called distinguishable, of four contenders alike (six comparisons,
/// corrected), and in which one comparison finds a contender of that much more skill.
struct Detection {
  std::array<double, kScoreCount> false_positive{}, power{};
};

/// Runs of contenders, one after the other: of four that are alike and one of more skill. Skills of a contender's runs
/// scatter as those of networks trained with several seeds do.
std::vector<SimulatedModel> contenders(const Options& options, std::int64_t simulation) {
  std::vector<SimulatedModel> models;
  Random random({.seed = 3, .stream = RandomStream::other, .index = static_cast<std::uint64_t>(simulation)});
  for (const double skill : {1.0, 1.0, 1.0, 1.0, 1.2})
    for (std::int64_t run = 0; run < options.runs; ++run) {
      const double radius = std::sqrt(-2.0 * std::log(1.0 - random.uniform()));
      const double normal = radius * std::cos(6.283185307179586 * random.uniform());
      models.push_back({.skill = skill + (options.runs > 1 ? options.spread * normal : 0.0)});
    }
  return models;
}

Detection detection(const CaseDesign& design, const Options& options) {
  std::vector<std::array<std::array<int, 2>, kScoreCount>> each(static_cast<std::size_t>(options.comparisons));
  parallel_for(options.comparisons, static_cast<int>(options.threads), [&](std::int64_t i) {
    const SimulatedCases drawn = simulate(design, contenders(options, i), 2, static_cast<std::uint64_t>(i));
    const auto runs = static_cast<std::size_t>(options.runs);
    std::vector<std::vector<Cases>> alike(5);
    for (std::size_t m = 0; m < 5 * runs; ++m) alike[m / runs].push_back(cases_of(drawn, m, design.classes));
    const std::vector<Cases> better = std::move(alike.back());
    alike.pop_back();
    for (std::size_t s = 0; s < kScoreCount; ++s) {
      if (!options.wants(kScores[s])) continue;
      const BootstrapSpec spec{.resamples = options.resamples, .seed = static_cast<std::uint64_t>(i)};
      auto& here = each[static_cast<std::size_t>(i)][s];
      for (const PairComparison& pair : compare_all(kScores[s], alike, spec)) here[0] |= pair.result.is_distinguishable;
      here[1] = compare(kScores[s], better, alike.front(), spec).is_distinguishable;
    }
  });
  Detection result;
  for (const auto& here : each) {
    for (std::size_t s = 0; s < kScoreCount; ++s) {
      result.false_positive[s] += here[s][0] / static_cast<double>(each.size());
      result.power[s] += here[s][1] / static_cast<double>(each.size());
    }
  }
  return result;
}

std::string table_head(const std::string& first) {
  std::string text = "| " + first + " |", line = "|---|";
  for (const Score each : kScores) {
    text += fmt::format(" {} |", name(each));
    line += "---|";
  }
  return text + "\n" + line + "\n";
}

void run(const Options& options, std::ostream& out) {
  out << "# How often the intervals hold\n\n"
      << fmt::format(
             "Written by `graft_coverage --simulations {} --comparisons {} --resamples {}`. "
             "[statistics.md](statistics.md) explains the methods, "
             "and the designs.\n\n",
             options.simulations, options.comparisons, options.resamples)
      << "## Intervals\n\nPer cent of simulations whose 95 % interval holds the population's score (standard error "
      << fmt::format("{:.1f}", 100.0 * std::sqrt(0.05 * 0.95 / static_cast<double>(options.simulations)))
      << "), then those with the truth below and above it. *Italics*: marked doubtful. **Bold**: outside 93 to 97.\n\n";
  if (options.simulations > 0) out << table_head("cases");
  const auto n = static_cast<double>(options.simulations);
  for (const CaseDesign& design : designs(options)) {
    if (options.simulations == 0) break;
    const Coverage found = coverage(design, options);
    out << "| " << to_string(design) << " |";
    for (std::size_t s = 0; s < kScoreCount; ++s) {
      const double below = 100.0 * static_cast<double>(found.below[s]) / n;
      const double above = 100.0 * static_cast<double>(found.above[s]) / n;
      const double held = 100.0 - below - above;
      const char* mark = expected_smallest_class(design) < 10.0 ? "*" : held < 93.0 || held > 97.0 ? "**" : "";
      out << fmt::format(" {}{:.1f}{} ({:.1f}, {:.1f}) |", mark, held, mark, below, above);
    }
    out << "\n" << std::flush;
  }
  if (options.comparisons == 0) return;
  out << "\n## Comparisons\n\nPer cent of simulations in which any of six comparisons among four contenders that are "
         "alike is "
         "called distinguishable at 95 % after Holm's correction; then, of one comparison, with a contender whose "
         "classes lie "
         "20 % further apart. *Italics*: doubtful.\n\n"
      << table_head("cases");
  for (const CaseDesign& design : designs(options)) {
    const Detection found = detection(design, options);
    out << "| " << to_string(design) << " |";
    for (std::size_t s = 0; s < kScoreCount; ++s) {
      out << fmt::format(" {:.1f}; {:.0f} |", 100.0 * found.false_positive[s], 100.0 * found.power[s]);
    }
    out << "\n" << std::flush;
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("How often intervals hold and comparisons err, on simulated cases.");
  app.add_option("--simulations", options.simulations, "Of each design, for intervals");
  app.add_option("--comparisons", options.comparisons, "Of each design, for comparisons");
  app.add_option("--resamples", options.resamples);
  app.add_option("--threads", options.threads);
  app.add_option("--n", options.sizes);
  app.add_option("--classes", options.classes);
  app.add_option("--scores", options.scores, "Names; all if left out (the columns of others mean nothing)");
  app.add_option("--runs", options.runs, "Of each contender, as of several seeds, in comparisons");
  app.add_option("--spread", options.spread, "Standard deviation of the skill of a contender's runs");
  app.add_option("--clusters", options.clusters, "Designs with them, without, or both")
      ->check(CLI::IsMember({"with", "without", "with and without"}));
  app.add_flag("--multi-label", options.is_multi_label, "Any number of the classes per case");
  app.add_flag("--stratified", options.is_stratified, "Fixed numbers of cases per class; not of several labels")
      ->excludes("--multi-label");
  app.add_option("-o", options.output, "Markdown; stdout if left out");
  CLI11_PARSE(app, argc, argv);
  try {
    if (options.output.empty()) {
      run(options, std::cout);
    } else {
      std::ofstream file(options.output);
      run(options, file);
      if (!file) throw std::runtime_error("cannot write " + options.output);
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "graft_coverage: error: {}\n", error.what());
    return 1;
  }
}
