// Intervals of scores: against SciPy, their edges, and that they hold on simulated cases. How often each holds at every
// size is measured by bench/coverage.cpp.
#include <cmath>
#include <map>

#include "cases_testing.h"
#include "data/statistics.h"
#include "data_testing.h"
#include "tests/support/simulated_cases.h"

namespace graft {
namespace {

using testing::CaseDesign;
using testing::cases_of;
using testing::error_of;
using testing::simulate;
using testing::SimulatedCases;
using testing::SimulatedModel;
using testing::statistics_reference;

const std::vector<SimulatedModel> kOneModel(1);

void expect_same(const Interval& a, const Interval& b) {
  EXPECT_EQ(a.estimate, b.estimate);
  EXPECT_EQ(a.low, b.low);
  EXPECT_EQ(a.high, b.high);
  EXPECT_EQ(a.method, b.method);
}

TEST(Intervals, HoldTheirEstimateEvenIfAClassHasOneCase) {
  std::vector<double> p;
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < 99; ++i) {  // three classes, one in nine wrong
    labels.push_back(std::int32_t(i % 3));
    const std::int64_t answer = i % 9 == 0 ? (i + 1) % 3 : i % 3;
    for (std::int64_t c = 0; c < 4; ++c) p.push_back(c == answer ? 0.7 : 0.1);
  }
  labels.push_back(3);
  p.insert(p.end(), {0.7, 0.1, 0.1, 0.1});
  for (const Score score : kScores) {
    const Interval i = interval(score, {p, labels, {}, 4}, {});
    EXPECT_TRUE(i.is_doubtful);
    if (score == Score::calibration_error) continue;  // its estimate is biased, so may lie outside
    EXPECT_LE(i.low, i.estimate) << name(score);
    EXPECT_GE(i.high, i.estimate) << name(score);
    EXPECT_LT(i.low, i.high) << name(score);
  }
}

TEST(Intervals, WilsonEqualsSciPy) {
  for (const std::vector<double> row : statistics_reference()["wilson"]) {
    const Interval found = wilson_interval(row[0], row[1], row[2]);
    EXPECT_NEAR(found.low, row[3], 1e-12);
    EXPECT_NEAR(found.high, row[4], 1e-12);
  }
}

TEST(Intervals, BcaEqualsSciPy) {
  const auto& stored = statistics_reference()["bca"];
  const std::vector<double> p = stored["probabilities"];
  const std::vector<std::int32_t> labels = stored["labels"];
  const Interval found = interval(Score::brier, {.probabilities = p, .labels = labels, .clusters = {}, .classes = 2},
                                  {.resamples = 40000, .seed = 5});
  EXPECT_EQ(found.method, "BCa");
  // Both are drawn: the ends' own error at 40000 resamples is about 0.02 standard errors of the score.
  const double tolerance = 0.08 * stored["standard_error"].get<double>();
  EXPECT_NEAR(found.low, stored["low"].get<double>(), tolerance);
  EXPECT_NEAR(found.high, stored["high"].get<double>(), tolerance);
}

TEST(Intervals, AccuracyAndRecallOfSingleCasesAreWilsons) {
  const SimulatedCases drawn = simulate({.n = 90, .classes = 3}, kOneModel, 1, 0);
  const Cases cases = cases_of(drawn, 3);
  const Metrics m = compute_metrics(cases.probabilities, cases.labels, 3);
  const auto of = [](const std::vector<std::int64_t>& row, std::size_t hit) {
    double n = 0.0;
    for (const std::int64_t count : row) n += static_cast<double>(count);
    return wilson_interval(static_cast<double>(row[hit]), n, 0.95);
  };
  const double right = static_cast<double>(m.confusion[0][0] + m.confusion[1][1] + m.confusion[2][2]);
  expect_same(interval(Score::accuracy, cases, {}), wilson_interval(right, 90.0, 0.95));
  expect_same(recall_interval(2, {&cases, 1}, {}), of(m.confusion[2], 2));

  const SimulatedCases two = simulate({.n = 60, .classes = 2}, kOneModel, 1, 1);
  const Cases binary = cases_of(two, 2);
  expect_same(interval(Score::sensitivity, binary, {}), recall_interval(1, {&binary, 1}, {}));
  expect_same(interval(Score::specificity, binary, {}), recall_interval(0, {&binary, 1}, {}));
  EXPECT_EQ(interval(Score::sensitivity, binary, {}).method, "Wilson");
}

TEST(Intervals, DependOnSeedAlone) {
  const SimulatedCases drawn = simulate({.n = 80, .classes = 4, .is_clustered = true}, kOneModel, 1, 2);
  const Cases cases = cases_of(drawn, 4);
  for (const Score each : kScores) {
    SCOPED_TRACE(std::string(name(each)));
    const Interval first = interval(each, cases, {.resamples = 400, .seed = 7});
    expect_same(first, interval(each, cases, {.resamples = 400, .seed = 7}));
    EXPECT_LE(first.low, first.high);
    EXPECT_NEAR(first.estimate, score(each, cases), 1e-12);
    if (each != Score::calibration_error) {
      EXPECT_LT(first.low, first.estimate);
      EXPECT_GT(first.high, first.estimate);
    }
    const Interval wider = interval(each, cases, {.resamples = 400, .level = 0.99, .seed = 7});
    EXPECT_LE(wider.low, first.low);
    EXPECT_GE(wider.high, first.high);
  }
}

/// Cases written twice are no more than once, if clusters say so.
TEST(Intervals, ClustersAreNotMoreThanTheirNumber) {
  const SimulatedCases drawn = simulate({.n = 100, .classes = 2}, kOneModel, 1, 3);
  SimulatedCases twice = drawn;
  twice.labels.insert(twice.labels.end(), drawn.labels.begin(), drawn.labels.end());
  auto& p = twice.probabilities[0];
  p.insert(p.end(), drawn.probabilities[0].begin(), drawn.probabilities[0].end());
  for (int copy = 0; copy < 2; ++copy) {
    for (std::int64_t i = 0; i < 100; ++i) twice.clusters.push_back(1000 - i);
  }
  for (const Score each : {Score::accuracy, Score::macro_accuracy, Score::kappa, Score::brier, Score::log_loss}) {
    SCOPED_TRACE(std::string(name(each)));
    const Interval once = interval(each, cases_of(drawn, 2), {.resamples = 1000});
    const Interval clustered = interval(each, cases_of(twice, 2), {.resamples = 1000});
    EXPECT_NEAR(clustered.estimate, once.estimate, 1e-12);
    EXPECT_NEAR((clustered.high - clustered.low) / (once.high - once.low), 1.0, 0.04);
  }
}

TEST(Intervals, MeanOfSeedsIsNarrowerThanOneAndEqualsItIfTheyAgree) {
  const CaseDesign design{.n = 150, .classes = 4};
  const SimulatedCases drawn = simulate(design, std::vector<SimulatedModel>(5), 1, 4);
  std::vector<Cases> runs, same;
  for (std::size_t m = 0; m < 5; ++m) {
    runs.push_back(cases_of(drawn, 4, m));
    same.push_back(runs.front());
  }
  for (const Score each : kScores) {
    SCOPED_TRACE(std::string(name(each)));
    const BootstrapSpec spec{.resamples = 600};
    const Interval one = interval(each, runs.front(), spec);
    double mean = 0.0;
    for (const Cases& run : runs) mean += score(each, run) / 5.0;
    const Interval five = mean_interval(each, runs, spec);
    EXPECT_NEAR(five.estimate, mean, 1e-12);
    // The mean of five has less noise; how far the calibration error's interval reaches depends on where it lies.
    if (each != Score::calibration_error) {
      EXPECT_LT(five.high - five.low, 1.05 * (one.high - one.low));
    }
    const Interval repeated = mean_interval(each, same, spec);
    EXPECT_NEAR(repeated.low, one.low,
                each == Score::accuracy ? 2e-3 : 1e-9);  // Wilson of n, and of n - 1 by the jackknife
    EXPECT_NEAR(repeated.high, one.high, each == Score::accuracy ? 2e-3 : 1e-9);
  }
}

TEST(Intervals, SayWhenAClassIsTooSmall) {
  std::vector<double> p;
  std::vector<std::int32_t> labels;
  std::vector<std::int64_t> clusters;
  for (std::int64_t i = 0; i < 40; ++i) {
    labels.push_back(i < 9 ? 1 : 0);
    clusters.push_back(i / 2);
    p.insert(p.end(), {i % 3 == 0 ? 0.4 : 0.8, i % 3 == 0 ? 0.6 : 0.2});
  }
  const Interval few = interval(Score::kappa, {p, labels, {}, 2}, {});
  EXPECT_EQ(few.smallest_class, 9);
  EXPECT_TRUE(few.is_doubtful);
  labels[9] = 1;
  EXPECT_FALSE(interval(Score::kappa, {p, labels, {}, 2}, {}).is_doubtful);
  EXPECT_TRUE(interval(Score::kappa, {p, labels, clusters, 2}, {}).is_doubtful);  // ten cases, five clusters
  EXPECT_EQ(interval(Score::kappa, {p, labels, clusters, 2}, {}).smallest_class, 10);
}

TEST(Intervals, PerfectAndUndefinedScores) {
  std::vector<double> p;
  std::vector<std::int32_t> labels;
  for (int i = 0; i < 30; ++i) {
    labels.push_back(i % 2);
    p.insert(p.end(), {i % 2 == 0 ? 0.9 : 0.2, i % 2 == 0 ? 0.1 : 0.8});
  }
  const Cases perfect{p, labels, {}, 2};
  for (const Score each : kScores) {
    SCOPED_TRACE(std::string(name(each)));
    if (!higher_is_better(each)) continue;
    const Interval found = interval(each, perfect, {.resamples = 200});
    EXPECT_EQ(found.high, 1.0);
    EXPECT_LT(found.low, 0.95);  // 30 cases cannot show more
    EXPECT_GT(found.low, 0.7);
  }
  const std::vector<std::int32_t> ones(30, 1);
  const Interval undefined = interval(Score::auc, {p, ones, {}, 2}, {});
  EXPECT_TRUE(std::isnan(undefined.estimate) && std::isnan(undefined.low) && std::isnan(undefined.high));
  EXPECT_EQ(interval(Score::specificity, {p, ones, {}, 2}, {}).method, "undefined");
}

TEST(Intervals, RefuseWhatDoesNotFit) {
  const std::vector<double> p{0.5, 0.5, 0.3, 0.7};
  const std::vector<std::int32_t> labels{0, 1}, others{1, 1};
  const std::vector<std::int64_t> one_cluster{4, 4}, too_short{1};
  const Cases cases{p, labels, {}, 2};
  error_of([&] { interval(Score::auc, {p, labels, one_cluster, 2}, {}); });
  error_of([&] { interval(Score::auc, {p, labels, too_short, 2}, {}); });
  error_of([&] { interval(Score::auc, cases, {.resamples = 5}); });
  error_of([&] { interval(Score::auc, cases, {.level = 95}); });
  error_of([&] { mean_interval(Score::auc, {}, {}); });
  const std::vector<Cases> mixed{cases, {p, others, {}, 2}};
  error_of([&] { mean_interval(Score::auc, mixed, {}); });
  error_of([&] { recall_interval(2, {&cases, 1}, {}); });
  error_of([&] { wilson_interval(3.0, 2.0, 0.95); });
}

TEST(Intervals, OfSeveralLabelsCountTheRarestClassAndItsAbsence) {
  LabelNumbers numbers;
  std::vector<std::int32_t> labels;
  std::vector<double> p;
  for (int i = 0; i < 40; ++i) {  // all but six have the first class, twelve the second
    std::vector<std::int32_t> classes;
    if (i >= 6) classes.push_back(0);
    if (i % 10 < 3) classes.push_back(1);
    labels.push_back(numbers.label_of(classes));
    p.insert(p.end(), {i >= 6 ? 0.75 : 0.25, i % 10 < 3 && i > 2 ? 0.75 : 0.25});
  }
  const LabelSets sets = numbers.sets();
  const Cases cases{p, labels, {}, 2, &sets};
  const Interval accuracy = interval(Score::accuracy, cases, {.seed = 1}), kappa = interval(Score::kappa, cases, {});
  EXPECT_EQ(accuracy.smallest_class, 6);
  EXPECT_TRUE(accuracy.is_doubtful);
  EXPECT_EQ(accuracy.method, "BCa");
  EXPECT_LT(accuracy.low, accuracy.estimate);
  EXPECT_GT(accuracy.high, accuracy.estimate);
  EXPECT_LT(kappa.low, kappa.estimate);
  // The recall of a class is a proportion: of twelve images that have the second, nine are found.
  const Interval found = recall_interval(1, {&cases, 1}, {});
  EXPECT_EQ(found.estimate, 0.75);
  EXPECT_DOUBLE_EQ(found.low, wilson_interval(9, 12, 0.95).low);
  EXPECT_DOUBLE_EQ(recall_interval(0, {&cases, 1}, {}).estimate, 1.0);
  // Perfect answers: no narrower than as many right answers as there are images without the first class.
  std::vector<double> perfect;
  for (const std::int32_t label : labels)
    for (const int c : {0, 1}) perfect.push_back(sets.has(label, c) ? 0.9 : 0.1);
  EXPECT_DOUBLE_EQ(interval(Score::auc, {perfect, labels, {}, 2, &sets}, {}).low, wilson_interval(6, 6, 0.95).low);

  const std::vector<std::int32_t> first(40, 0);  // a label of either kind
  const std::vector<Cases> mixed{{p, first, {}, 2, &sets}, {p, first, {}, 2}};
  testing::expect_names(error_of([&] { mean_interval(Score::auc, mixed, {}); }), {"runs on different cases"});
}

/// Rare classes before any probability passes 0.5: no case makes a difference, but others would.
TEST(Intervals, OfAnswersThatAreAllNoHaveAWidth) {
  LabelNumbers numbers;
  std::vector<std::int32_t> labels;
  for (int i = 0; i < 400; ++i) labels.push_back(numbers.label_of(i < 20 ? std::vector{0} : std::vector{1}));
  const LabelSets sets = numbers.sets();
  const std::vector<double> p(800, 0.25);
  const Cases cases{p, labels, {}, 2, &sets};
  const auto expect = [&](Score score, double estimate, std::int64_t trials) {
    SCOPED_TRACE(std::string(name(score)));
    const Interval found = interval(score, cases, {});
    const Interval wilson = wilson_interval(estimate * double(trials), double(trials), 0.95);
    EXPECT_DOUBLE_EQ(found.estimate, estimate);
    EXPECT_NEAR(found.low, wilson.low, 1e-12);
    EXPECT_NEAR(found.high, wilson.high, 1e-12);
    EXPECT_EQ(found.method, "Wilson, rarest class");
  };
  expect(Score::sensitivity, 0.0, 20);  // images of the rarest class
  expect(Score::macro_f1, 0.0, 20);
  expect(Score::specificity, 1.0, 20);  // and 20 lack the other
  expect(Score::macro_accuracy, 0.5, 20);
  expect(Score::kappa, 0.0, 20);
}

/// A small share of what bench/coverage.cpp does; docs/statistics-coverage.md is the whole.
TEST(Intervals, HoldTheTruth) {
  constexpr int kSimulations = 200;
  for (const CaseDesign& design :
       {CaseDesign{.n = 120, .classes = 2}, CaseDesign{.n = 120, .classes = 4, .is_clustered = true},
        CaseDesign{.n = 120, .classes = 4, .is_multi_label = true}}) {
    SCOPED_TRACE(to_string(design));
    CaseDesign population = design;
    population.n = 100000;
    population.is_clustered = false;
    const SimulatedCases everyone = simulate(population, kOneModel, 9, 0);
    const Metrics truth =
        compute_metrics(everyone.probabilities[0], everyone.labels, design.classes, everyone.label_sets);
    std::map<Score, int> held;
    for (int i = 0; i < kSimulations; ++i) {
      const SimulatedCases drawn = simulate(design, kOneModel, 8, static_cast<std::uint64_t>(i));
      for (const Score each : kScores) {
        const Interval found =
            interval(each, cases_of(drawn, design.classes), {.resamples = 199, .seed = static_cast<std::uint64_t>(i)});
        const double value = score(each, truth);
        held[each] += found.low <= value && value <= found.high ? 1 : 0;
      }
    }
    // 95 % of 200 is 190, give or take 3; below 180 is less than 0.3 % likely for one score.
    for (const Score each : kScores) EXPECT_GE(held[each], 180) << name(each);
  }
}

}  // namespace
}  // namespace graft
