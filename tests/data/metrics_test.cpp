#include "data/metrics.h"

#include <cmath>

#include "data_testing.h"

namespace graft {
namespace {

using testing::error_of;
using testing::reference;

TEST(Metrics, EqualScikitLearn) {
  ASSERT_GE(reference()["metrics"].size(), 4U);
  for (const auto& expected : reference()["metrics"]) {
    SCOPED_TRACE(std::string(expected["name"]));
    const std::vector<double> probabilities = expected["probabilities"];
    const std::vector<std::int32_t> labels = expected["labels"];
    const Metrics m = compute_metrics(probabilities, labels, expected["classes"]);
    // Both sum a few dozen doubles in different orders.
    constexpr double kRounding = 1e-12;
    EXPECT_EQ(m.n, static_cast<std::int64_t>(labels.size()));
    EXPECT_NEAR(m.loss, expected["loss"], kRounding);
    EXPECT_NEAR(m.accuracy, expected["accuracy"], kRounding);
    EXPECT_NEAR(m.macro_accuracy, expected["macro_accuracy"], kRounding);
    EXPECT_NEAR(m.macro_f1, expected["macro_f1"], kRounding);
    EXPECT_NEAR(m.kappa, expected["kappa"], kRounding);
    EXPECT_NEAR(m.auc, expected["auc"], kRounding);
    EXPECT_NEAR(m.average_precision, expected["average_precision"], kRounding);
    const std::vector<std::vector<std::int64_t>> confusion = expected["confusion"];
    EXPECT_EQ(m.confusion, confusion);
  }
}

TEST(Metrics, EqualScoresCountHalf) {
  const std::vector<double> scores{0.5, 0.5, 0.5, 0.5};
  const std::vector<std::uint8_t> positive{1, 0, 1, 0};
  EXPECT_EQ(roc_auc(scores, positive), 0.5);
  EXPECT_EQ(average_precision(scores, positive), 0.5);
}

TEST(Metrics, UndefinedScoresAreNan) {
  const Metrics m = compute_metrics(std::vector<double>{0.9, 0.1, 0.8, 0.2}, std::vector<std::int32_t>{0, 0}, 2);
  EXPECT_EQ(m.accuracy, 1.0);
  EXPECT_TRUE(std::isnan(m.auc));
  EXPECT_TRUE(std::isnan(m.kappa));
}

TEST(Metrics, LossStaysFiniteWhenAProbabilityUnderflows) {
  const Metrics m = compute_metrics(std::vector<double>{1.0, 0.0}, std::vector<std::int32_t>{1}, 2);
  EXPECT_TRUE(std::isfinite(m.loss));
  EXPECT_GT(m.loss, 500.0);
}

TEST(Metrics, SoftmaxOfLargeLogits) {
  const auto p = softmax_rows(std::vector<float>{1000.0F, 1000.0F, -1000.0F, 0.0F, std::log(3.0F), 0.0F}, 3);
  EXPECT_DOUBLE_EQ(p[0], 0.5);
  EXPECT_EQ(p[2], 0.0);
  EXPECT_NEAR(p[4], 0.6, 1e-7);  // log(3) was rounded to float
}

TEST(Metrics, RefuseWhatDoesNotFit) {
  const std::vector<double> two{0.5, 0.5};
  error_of([&] { compute_metrics(two, std::vector<std::int32_t>{}, 2); });
  error_of([&] { compute_metrics(two, std::vector<std::int32_t>{2}, 2); });
  error_of([&] { compute_metrics(two, std::vector<std::int32_t>{0, 1}, 2); });
  error_of([&] { compute_metrics(std::vector<double>{std::nan(""), 1.0}, std::vector<std::int32_t>{0}, 2); });
}

}  // namespace
}  // namespace graft
