// Comparisons of contenders on the same cases, variance by seeds and cases, and ranks over data sets.
#include <cmath>
#include <iterator>
#include <numbers>

#include "cases_testing.h"
#include "data/statistics.h"
#include "data_testing.h"
#include "kernels/philox.h"
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

/// Two contenders of 40 cases; a alone is right in the first `only_a`, b alone in the next `only_b`, both in the rest.
struct Duel {
  std::vector<double> a, b;
  std::vector<std::int32_t> labels = std::vector<std::int32_t>(40, 0);

  Duel(int only_a, int only_b) {
    for (int i = 0; i < 40; ++i) {
      const bool a_right = i < only_a || i >= only_a + only_b, b_right = i >= only_a;
      a.insert(a.end(), {a_right ? 0.8 : 0.3, a_right ? 0.2 : 0.7});
      b.insert(b.end(), {b_right ? 0.8 : 0.3, b_right ? 0.2 : 0.7});
    }
  }
  Comparison compare(const BootstrapSpec& spec) const {
    const Cases of_a{a, labels, {}, 2}, of_b{b, labels, {}, 2};
    return graft::compare(Score::accuracy, {&of_a, 1}, {&of_b, 1}, spec);
  }
};

/// Of single cases and accuracy, lots drawn over names are the exact test of McNemar: P(|2 X - m| >= |a - b|), X
/// binomial.
TEST(Comparisons, AccuracyIsMcNemarsExactTest) {
  const BootstrapSpec spec{.resamples = 20000, .seed = 1};
  const struct {
    int a, b;
    double p;
  } expected[] = {{9, 2, 2.0 * (1 + 11 + 55) / 2048.0}, {8, 0, 2.0 / 256.0}, {5, 0, 2.0 / 32.0}, {3, 3, 1.0}};
  for (const auto& [a, b, p] : expected) {
    const Comparison found = Duel(a, b).compare(spec);
    EXPECT_NEAR(found.difference, (a - b) / 40.0, 1e-12);
    EXPECT_NEAR(found.p, p, 4.0 * std::sqrt(p * (1.0 - p) / 20000.0) + 1e-4);  // four standard errors
    EXPECT_EQ(found.is_distinguishable, p < 0.05);
    EXPECT_EQ(found.is_distinguishable, found.low > 0.0 || found.high < 0.0);
  }
}

TEST(Comparisons, OfSeveralLabelsPerCase) {
  const CaseDesign design{.n = 200, .classes = 4, .is_multi_label = true};
  const SimulatedCases drawn =
      simulate(design, {SimulatedModel{.skill = 1.6}, SimulatedModel{}, SimulatedModel{}}, 5, 0);
  for (const Score each : {Score::accuracy, Score::auc, Score::macro_f1}) {
    SCOPED_TRACE(std::string(name(each)));
    const auto of = [&](std::size_t model) { return std::vector<Cases>{cases_of(drawn, 4, model)}; };
    const Comparison better = compare(each, of(0), of(1), {.resamples = 999});
    EXPECT_TRUE(better.is_distinguishable);
    EXPECT_GT(better.low, 0.0);
    EXPECT_NEAR(better.difference, score(each, of(0)[0]) - score(each, of(1)[0]), 1e-12);
    EXPECT_FALSE(compare(each, of(1), of(2), {.resamples = 999}).is_distinguishable);
    EXPECT_EQ(compare(each, of(1), of(1), {.resamples = 999}).p, 1.0);
  }
}

TEST(Comparisons, IntervalAndPAgreeAndSidesAreSymmetric) {
  int distinguishable = 0;
  for (std::uint64_t i = 0; i < 12; ++i) {
    const CaseDesign design{.n = 100, .classes = 4, .is_clustered = i % 2 == 0};
    const SimulatedCases drawn = simulate(design, {{}, {.skill = 1.25}}, 4, i);
    const Cases a = cases_of(drawn, 4, 0), b = cases_of(drawn, 4, 1);
    for (const Score each : kScores) {
      SCOPED_TRACE(std::string(name(each)));
      const BootstrapSpec spec{.resamples = 999, .seed = i};
      const Comparison ab = compare(each, {&a, 1}, {&b, 1}, spec), ba = compare(each, {&b, 1}, {&a, 1}, spec);
      EXPECT_NEAR(ab.difference, score(each, a) - score(each, b), 1e-12);
      EXPECT_NEAR(ab.difference, -ba.difference, 1e-15);
      EXPECT_EQ(ab.p, ba.p);
      EXPECT_NEAR(ab.low, -ba.high, 1e-9);
      EXPECT_LE(ab.low, ab.difference);
      EXPECT_GE(ab.high, ab.difference);
      EXPECT_EQ(ab.is_distinguishable, ab.low > 0.0 || ab.high < 0.0) << ab.low << " " << ab.high << " p " << ab.p;
      distinguishable += ab.is_distinguishable;
    }
  }
  EXPECT_GT(distinguishable, 20);
}

TEST(Comparisons, AllPairsEqualSinglePairsAndAreCorrected) {
  const SimulatedCases drawn = simulate({.n = 120, .classes = 2}, {{}, {}, {.skill = 1.6}}, 4, 3);
  std::vector<std::vector<Cases>> contenders;
  for (std::size_t m = 0; m < 3; ++m) contenders.push_back({cases_of(drawn, 2, m)});
  const BootstrapSpec spec{.resamples = 999, .seed = 2};
  const auto pairs = compare_all(Score::log_loss, contenders, spec);
  ASSERT_EQ(pairs.size(), 3U);
  std::vector<double> p;
  for (const PairComparison& pair : pairs) {
    const Comparison single = compare(Score::log_loss, contenders[pair.a], contenders[pair.b], spec);
    EXPECT_EQ(pair.result.p, single.p);
    EXPECT_EQ(pair.result.low, single.low);
    EXPECT_EQ(single.p_holm, single.p);
    p.push_back(single.p);
  }
  const auto corrected = holm(p);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(pairs[i].result.p_holm, corrected[i]);
    EXPECT_EQ(pairs[i].result.is_distinguishable, corrected[i] < 0.05);
  }
  EXPECT_TRUE(pairs[1].result.is_distinguishable);
  EXPECT_EQ(std::pair(pairs[1].a, pairs[1].b), std::pair(std::size_t{0}, std::size_t{2}));
}

TEST(Comparisons, ContendersThatAnswerTheSameAreNotDistinguishable) {
  const SimulatedCases drawn = simulate({.n = 50, .classes = 3}, {{}}, 4, 5);
  const Cases a = cases_of(drawn, 3, 0);
  for (const Score each : kScores) {
    const Comparison found = compare(each, {&a, 1}, {&a, 1}, {.resamples = 200});
    EXPECT_EQ(found.difference, 0.0);
    EXPECT_EQ(found.p, 1.0);
    EXPECT_FALSE(found.is_distinguishable);
  }
}

/// Seeds that differ in skill: a test that knew of cases alone would find the better seeds of one contender.
TEST(Comparisons, SeedsThatScatterAreNoDifferenceOfContenders) {
  int found = 0, found_by_one = 0;
  constexpr int kSimulations = 200;
  Random random({.seed = 77});
  for (int i = 0; i < kSimulations; ++i) {
    std::vector<SimulatedModel> models(6);
    for (SimulatedModel& model : models) model.skill = random.uniform(0.6, 1.4);
    const SimulatedCases drawn = simulate({.n = 200, .classes = 2}, models, 6, static_cast<std::uint64_t>(i));
    std::vector<Cases> a, b;
    for (std::size_t m = 0; m < 3; ++m) {
      a.push_back(cases_of(drawn, 2, m));
      b.push_back(cases_of(drawn, 2, m + 3));
    }
    const BootstrapSpec spec{.resamples = 299, .seed = static_cast<std::uint64_t>(i)};
    found += compare(Score::auc, a, b, spec).is_distinguishable;
    found_by_one += compare(Score::auc, {a.data(), 1}, {b.data(), 1}, spec).is_distinguishable;
  }
  // 5 % of 200 is 10, give or take 3.
  EXPECT_LE(found, 20);
  EXPECT_GT(found_by_one, 30);  // the models do differ, and of one seed each that is all there is to see
}

TEST(Comparisons, VarianceOfSeedsAndOfCasesAreApart) {
  const CaseDesign design{.n = 300, .classes = 2};
  const std::vector<SimulatedModel> alike(4);
  std::vector<SimulatedModel> scattered(4);
  for (std::size_t m = 0; m < 4; ++m) scattered[m].skill = 0.5 + 0.3 * static_cast<double>(m);
  const auto parts = [&](const std::vector<SimulatedModel>& models) {
    const SimulatedCases drawn = simulate(design, models, 6, 1);
    std::vector<Cases> runs;
    for (std::size_t m = 0; m < 4; ++m) runs.push_back(cases_of(drawn, 2, m));
    return variance_parts(Score::accuracy, runs);
  };
  const VarianceParts quiet = parts(alike), loud = parts(scattered);
  EXPECT_LT(quiet.seed, 0.3 * quiet.cases);
  EXPECT_GT(loud.seed, 3.0 * loud.cases);
  EXPECT_EQ(loud.total, loud.seed + loud.cases);
  const SimulatedCases drawn = simulate(design, alike, 6, 1);
  const Cases one = cases_of(drawn, 2, 0);
  const VarianceParts single = variance_parts(Score::accuracy, {&one, 1});
  const double p = score(Score::accuracy, one);
  EXPECT_NEAR(single.cases, p * (1.0 - p) / 299.0, 1e-12);
  EXPECT_TRUE(std::isnan(single.seed) && std::isnan(single.total));
}

TEST(Comparisons, RefuseWhatDoesNotFit) {
  const SimulatedCases drawn = simulate({.n = 40, .classes = 2}, {{}, {}}, 4, 5);
  const SimulatedCases others = simulate({.n = 40, .classes = 2}, {{}}, 4, 6);
  const Cases a = cases_of(drawn, 2, 0), b = cases_of(others, 2, 0);
  error_of([&] { compare(Score::auc, {&a, 1}, {&b, 1}, {}); });
  error_of([&] { compare(Score::auc, {&a, 1}, {}, {}); });
  EXPECT_TRUE(compare_all(Score::auc, {}, {}).empty());
}

TEST(Ranks, EqualSciPyWithTies) {
  ASSERT_GE(statistics_reference()["ranks"].size(), 5U);
  std::size_t counted = 0;
  for (const auto& stored : statistics_reference()["ranks"]) {
    const RankTest test = friedman_nemenyi(stored["scores"], true, 0.95);
    EXPECT_NEAR(test.statistic, stored["statistic"].get<double>(), 1e-10);
    // SciPy has the F distribution alone; few orders are counted instead.
    const auto rows = std::ssize(stored["scores"]), contenders = std::ssize(stored["scores"][0]);
    const bool is_counted = std::pow(std::tgamma(contenders + 1), rows - 1) <= 1e5;
    if (!is_counted) {
      EXPECT_NEAR(test.p, stored["p"].get<double>(), 1e-10);
    }
    counted += is_counted;
    EXPECT_NEAR(test.critical_difference, stored["critical_difference"].get<double>(), 1e-7);
    const std::vector<double> ranks = stored["mean_ranks"];
    ASSERT_EQ(test.mean_ranks.size(), ranks.size());
    for (std::size_t c = 0; c < ranks.size(); ++c) EXPECT_NEAR(test.mean_ranks[c], ranks[c], 1e-12);
  }
  EXPECT_LT(counted, statistics_reference()["ranks"].size());
}

TEST(Ranks, FewDataSetsAreCountedExactly) {
  const auto p = [](const std::vector<std::vector<double>>& scores) { return friedman_nemenyi(scores, true, 0.95).p; };
  EXPECT_DOUBLE_EQ(p({{2, 1}, {2, 1}, {2, 1}, {2, 1}, {2, 1}}), 2.0 / 32);  // signs
  EXPECT_DOUBLE_EQ(p({{2, 1}, {2, 1}, {2, 1}, {2, 1}, {2, 1}, {2, 1}, {1, 2}}), 2.0 * 8 / 128);
  // Friedman's table for three contenders and five data sets: chi squared 8.4 has p 0.0085.
  EXPECT_NEAR(p({{1, 2, 3}, {1, 2, 3}, {1, 2, 3}, {1, 2, 3}, {2, 1, 3}}), 0.0085, 5e-5);
  EXPECT_DOUBLE_EQ(p({{1, 1}, {2, 1}, {2, 1}}), 0.5);  // a tie says nothing
}

TEST(Comparisons, ASideThatDoesNotScatterBringsNoDegreesOfFreedom) {
  // Two seeds a side; b's agree. So many cases that their noise is nothing beside the seeds': then it is Student's t
  // with one degree of freedom.
  constexpr std::size_t kCases = 4000;
  std::vector<double> high(2 * kCases), low(2 * kCases), calm(2 * kCases);
  std::vector<std::int32_t> labels(kCases, 0);
  for (std::size_t i = 0; i < kCases; ++i) {
    const auto fill = [&](std::vector<double>& into, bool is_right) {
      into[2 * i] = is_right ? 0.9 : 0.1, into[2 * i + 1] = is_right ? 0.1 : 0.9;
    };
    fill(high, i < kCases * 9 / 10), fill(low, i < kCases * 8 / 10), fill(calm, i < kCases * 7 / 10);
  }
  const auto cases = [&](const std::vector<double>& p) { return Cases{p, labels, {}, 2}; };
  const std::vector<Cases> scattering{cases(high), cases(low)}, still{cases(calm), cases(calm)}, one{cases(calm)};
  const double difference = 0.15, seed_error = 0.05;  // 0.85 against 0.70; seeds 0.90 and 0.80
  const double tail = 1.0 - 2.0 * std::atan(difference / seed_error) / std::numbers::pi;  // Cauchy's
  EXPECT_NEAR(compare(Score::accuracy, scattering, still, {}).p, tail, 0.03);  // of 2000 resamples: error 0.009
  EXPECT_GT(compare(Score::accuracy, scattering, one, {}).p, tail);  // its scatter is unknown, so taken as the other's
}

TEST(Comparisons, AnIntervalIsNoWiderThanFewestDegreesOfFreedomMakeIt) {
  // Three seeds a side, and the same on both, so that cases bring nothing; most of what the seeds differ by is noise of
  // cases. What remains of their variance is uncertain, but not more so than three seeds are.
  std::vector<std::vector<double>> answers;
  const std::vector<std::int32_t> labels(400, 0);
  std::size_t next = 0;
  for (const std::size_t wrong : {40, 30, 50}) {  // cases that no other seed gets wrong
    std::vector<double>& p = answers.emplace_back();
    for (std::size_t i = 0; i < 400; ++i) {
      const bool is_right = i < next || i >= next + wrong;
      p.insert(p.end(), {is_right ? 0.9 : 0.1, is_right ? 0.1 : 0.9});
    }
    next += wrong;
  }
  std::vector<Cases> runs;
  for (const std::vector<double>& p : answers) runs.push_back({p, labels, {}, 2});
  const double error = std::sqrt(2.0 * variance_parts(Score::accuracy, runs).seed);
  ASSERT_GT(error, 0.002);
  const Comparison found = compare(Score::accuracy, runs, runs, {.resamples = 20000});
  EXPECT_NEAR(found.high / error, 4.303, 0.3);  // Student's t with two degrees of freedom
  EXPECT_NEAR(found.low / error, -4.303, 0.3);
}

TEST(Comparisons, NoIntervalExceedsTheScoresOwnRange) {
  // Two seeds a side that scatter widely: t with one or two degrees of freedom reaches beyond any score.
  for (const std::int64_t classes : {2, 3}) {
    std::vector<SimulatedModel> models(4);
    models[0].skill = models[2].skill = 0.1, models[1].skill = models[3].skill = 2.0;
    const SimulatedCases drawn = simulate({.n = 60, .classes = classes}, models, 6, 8);
    const auto runs = [&](std::size_t first) {
      return std::vector<Cases>{cases_of(drawn, classes, first), cases_of(drawn, classes, first + 1)};
    };
    for (const Score each : kScores) {
      SCOPED_TRACE(std::string(name(each)));
      const Comparison found = compare(each, runs(0), runs(2), {});
      EXPECT_GE(found.low, -score_range(each, classes));
      EXPECT_LE(found.high, score_range(each, classes));
      EXPECT_EQ(found.is_distinguishable, found.low > 0.0 || found.high < 0.0);
    }
    EXPECT_EQ(compare(Score::macro_accuracy, runs(0), runs(2), {}).high, 1.0);
    EXPECT_GT(compare(Score::log_loss, runs(0), runs(2), {}).high, 1.0);
  }
  EXPECT_EQ(score_range(Score::kappa, 2), 2.0);
  EXPECT_EQ(score_range(Score::brier, 2), 1.0);
  EXPECT_EQ(score_range(Score::brier, 3), 2.0);
}

TEST(Ranks, EdgesAndErrors) {
  const RankTest agreed = friedman_nemenyi({{1, 2, 3}, {4, 5, 6}, {0, 1, 9}}, false, 0.95);
  EXPECT_EQ(agreed.mean_ranks, (std::vector<double>{1, 2, 3}));  // the lowest is best
  EXPECT_TRUE(std::isinf(agreed.statistic));
  EXPECT_DOUBLE_EQ(agreed.p, 1.0 / 36);
  const RankTest tied = friedman_nemenyi({{1, 1, 1}, {2, 2, 2}}, true, 0.95);
  EXPECT_EQ(tied.mean_ranks, (std::vector<double>{2, 2, 2}));
  EXPECT_EQ(tied.p, 1.0);
  error_of([] { friedman_nemenyi({{1, 2}}, true, 0.95); });
  error_of([] { friedman_nemenyi({{1, 2}, {1, 2, 3}}, true, 0.95); });
  error_of([] { friedman_nemenyi({{1, 2}, {1, std::nan("")}}, true, 0.95); });
  error_of([] { friedman_nemenyi({{1, 2}, {2, 1}}, true, 95); });
}

}  // namespace
}  // namespace graft
