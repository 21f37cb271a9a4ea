// Scores under weights equal the scores of cases repeated as often, for every score, with ties and lost classes.
#include "data/weighted_score.h"

#include <cmath>

#include "cases_testing.h"
#include "data_testing.h"
#include "kernels/philox.h"

namespace graft {
namespace {

using testing::statistics_reference;

/// Under some random weights of whole numbers.
void expect_score_of_repeated_cases(const Cases& cases) {
  const auto width = static_cast<std::size_t>(cases.classes);
  for (const Score each : kScores) {
    SCOPED_TRACE(std::string(name(each)));
    const WeightedScore weighted(each, cases);
    Random random({.seed = 3, .index = static_cast<std::uint64_t>(each)});
    for (int resample = 0; resample < 5; ++resample) {
      std::vector<double> weights(cases.labels.size());
      for (std::size_t k = 0; k < weights.size(); ++k)
        ++weights[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(weights.size())))];
      std::vector<double> repeated;
      std::vector<std::int32_t> labels;
      for (std::size_t i = 0; i < weights.size(); ++i) {
        for (double copy = 0.0; copy < weights[i]; ++copy) {
          const auto row = cases.probabilities.subspan(i * width, width);
          repeated.insert(repeated.end(), row.begin(), row.end());
          labels.push_back(cases.labels[i]);
        }
      }
      Cases all = cases;
      all.probabilities = repeated, all.labels = labels;
      const double expected = score(each, all), got = weighted(weights);
      if (std::isnan(expected)) {
        EXPECT_TRUE(std::isnan(got)) << got;
      } else {
        EXPECT_NEAR(got, expected, 1e-12);  // sums in another order
      }
    }
  }
}

TEST(WeightedScore, EqualsTheScoreOfRepeatedCases) {
  for (const auto& stored : statistics_reference()["scores"]) {
    SCOPED_TRACE(std::string(stored["name"]));
    const std::vector<double> p = stored["probabilities"];
    const std::vector<std::int32_t> labels = stored["labels"];
    expect_score_of_repeated_cases(
        {.probabilities = p, .labels = labels, .clusters = {}, .classes = stored["classes"]});
  }
}

TEST(WeightedScore, OfSeveralLabelsTheSame) {
  for (const std::int64_t n : {6, 60}) {  // of few cases a class may get lost
    SCOPED_TRACE(n);
    testing::SimulatedCases drawn = testing::simulate(
        {.n = n, .classes = 4, .is_balanced = false, .is_multi_label = true}, {testing::SimulatedModel{}}, 2, 1);
    expect_score_of_repeated_cases(testing::cases_of(drawn, 4));
    for (double& p : drawn.probabilities[0]) p = std::round(10.0 * p) / 10.0;  // ties
    expect_score_of_repeated_cases(testing::cases_of(drawn, 4));
  }
}

}  // namespace
}  // namespace graft
