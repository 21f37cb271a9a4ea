#include "data/statistics.h"

#include <cmath>
#include <set>

#include "data_testing.h"

namespace graft {
namespace {

TEST(Statistics, ScoresHaveNames) {
  std::set<std::string_view> names;
  for (const Score each : kScores) {
    EXPECT_EQ(score_named(name(each)), each);
    names.insert(name(each));
  }
  EXPECT_EQ(names.size(), std::size(kScores));
  EXPECT_FALSE(score_named("macro accuracy"));
  EXPECT_FALSE(higher_is_better(Score::brier));
  EXPECT_TRUE(higher_is_better(Score::kappa));
}

TEST(Statistics, ScoresAreThoseOfMetrics) {
  const std::vector<double> p{0.2, 0.8, 0.6, 0.4, 0.3, 0.7, 0.9, 0.1};
  const std::vector<std::int32_t> labels{1, 0, 0, 1};
  const Cases cases{.probabilities = p, .labels = labels, .clusters = {}, .classes = 2};
  EXPECT_EQ(score(Score::accuracy, cases), 0.5);
  EXPECT_EQ(score(Score::sensitivity, cases), 0.5);
  const Metrics m = compute_metrics(p, labels, 2);
  EXPECT_EQ(score(Score::log_loss, cases), m.loss);
  for (const Score each : kScores) EXPECT_EQ(score(each, cases), score(each, m)) << name(each);
}

TEST(Statistics, HolmStepsDown) {
  // Worked by hand: 4 * 0.01, 3 * 0.02, then max(0.06, 2 * 0.03), max(0.06, 0.04).
  EXPECT_EQ(holm(std::vector<double>{0.04, 0.01, 0.03, 0.02}), (std::vector<double>{0.06, 0.04, 0.06, 0.06}));
  EXPECT_EQ(holm(std::vector<double>{0.6, 0.7}), (std::vector<double>{1.0, 1.0}));
  const auto with_nan = holm(std::vector<double>{std::nan(""), 0.02});
  EXPECT_TRUE(std::isnan(with_nan[0]));
  EXPECT_EQ(with_nan[1], 0.02);
  EXPECT_TRUE(holm({}).empty());
}

TEST(Statistics, ScoresThatDifferByRoundingShareTheirRank) {
  const double sum = 0.1 + 0.2;
  ASSERT_GT(sum, 0.3);
  for (const bool higher_is_better : {true, false}) {
    const RankTest test = friedman_nemenyi({{sum, 0.3, 0.1}, {sum, 0.3, 0.1}}, higher_is_better, 0.95);
    EXPECT_EQ(test.mean_ranks,
              higher_is_better ? (std::vector<double>{1.5, 1.5, 3}) : (std::vector<double>{2.5, 2.5, 1}));
  }
  const RankTest apart = friedman_nemenyi({{0.3 + 1e-9, 0.3}, {0.3 + 1e-9, 0.3}}, true, 0.95);
  EXPECT_EQ(apart.mean_ranks, (std::vector<double>{1, 2}));
}

}  // namespace
}  // namespace graft
