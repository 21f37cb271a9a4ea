// Scores under weights equal the scores of cases repeated as often, for every score, with ties and lost classes.
#include "data/weighted_score.h"

#include <cmath>

#include "data_testing.h"
#include "kernels/philox.h"

namespace graft {
namespace {

using testing::statistics_reference;

TEST(WeightedScore, EqualsTheScoreOfRepeatedCases) {
  for (const auto& stored : statistics_reference()["scores"]) {
    SCOPED_TRACE(std::string(stored["name"]));
    const std::vector<double> p = stored["probabilities"];
    const std::vector<std::int32_t> labels = stored["labels"];
    const std::int64_t classes = stored["classes"];
    const auto width = static_cast<std::size_t>(classes);
    for (const Score each : kScores) {
      SCOPED_TRACE(std::string(name(each)));
      const WeightedScore weighted(each, {.probabilities = p, .labels = labels, .clusters = {}, .classes = classes});
      Random random({.seed = 3, .index = static_cast<std::uint64_t>(each)});
      for (int resample = 0; resample < 5; ++resample) {
        std::vector<double> weights(labels.size());
        for (std::size_t k = 0; k < weights.size(); ++k)
          ++weights[static_cast<std::size_t>(random.below(labels.size()))];
        std::vector<double> repeated;
        std::vector<std::int32_t> repeated_labels;
        for (std::size_t i = 0; i < weights.size(); ++i) {
          for (double copy = 0.0; copy < weights[i]; ++copy) {
            const auto row = std::span(p).subspan(i * width, width);
            repeated.insert(repeated.end(), row.begin(), row.end());
            repeated_labels.push_back(labels[i]);
          }
        }
        const double expected =
            score(each, {.probabilities = repeated, .labels = repeated_labels, .clusters = {}, .classes = classes});
        const double got = weighted(weights);
        if (std::isnan(expected)) {
          EXPECT_TRUE(std::isnan(got)) << got;
        } else {
          EXPECT_NEAR(got, expected, 1e-12);  // sums in another order
        }
      }
    }
  }
}

}  // namespace
}  // namespace graft
