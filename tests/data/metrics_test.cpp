#include "data/metrics.h"

#include <cmath>

#include "data_testing.h"

namespace graft {
namespace {

using testing::error_of;
using testing::reference;
using testing::statistics_reference;

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

/// Stored numbers: null is NaN, "inf" infinity.
double number(const nlohmann::json& stored) {
  if (stored.is_null()) return std::nan("");
  return stored.is_string() ? HUGE_VAL : stored.get<double>();
}

void expect_same(double got, const nlohmann::json& stored) {
  const double expected = number(stored);
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(got)) << got;
  } else if (std::isinf(expected)) {
    EXPECT_EQ(got, expected);
  } else {
    EXPECT_NEAR(got, expected, 1e-12);  // sums of a few dozen doubles in another order
  }
}

TEST(Metrics, EqualScikitLearnWithTiesAbsentClassesAndOneClass) {
  ASSERT_GE(statistics_reference()["scores"].size(), 10U);
  for (const auto& expected : statistics_reference()["scores"]) {
    SCOPED_TRACE(std::string(expected["name"]));
    const std::vector<double> probabilities = expected["probabilities"];
    const std::vector<std::int32_t> labels = expected["labels"];
    const Metrics m = compute_metrics(probabilities, labels, expected["classes"]);
    const std::pair<const char*, double> scores[] = {{"loss", m.loss},
                                                     {"accuracy", m.accuracy},
                                                     {"macro_accuracy", m.macro_accuracy},
                                                     {"macro_f1", m.macro_f1},
                                                     {"weighted_f1", m.weighted_f1},
                                                     {"kappa", m.kappa},
                                                     {"auc", m.auc},
                                                     {"average_precision", m.average_precision},
                                                     {"sensitivity", m.sensitivity},
                                                     {"specificity", m.specificity},
                                                     {"brier", m.brier},
                                                     {"calibration_error", m.calibration_error}};
    for (const auto& [name, value] : scores) {
      SCOPED_TRACE(name);
      expect_same(value, expected[name]);
    }
    const std::vector<std::vector<std::int64_t>> confusion = expected["confusion"];
    EXPECT_EQ(m.confusion, confusion);
  }
}

TEST(Metrics, CurvesEqualScikitLearn) {
  for (const auto& expected : statistics_reference()["scores"]) {
    SCOPED_TRACE(std::string(expected["name"]));
    const std::vector<double> probabilities = expected["probabilities"];
    const std::vector<std::int32_t> labels = expected["labels"];
    const std::int64_t classes = expected["classes"];
    std::vector<double> scores;
    std::vector<std::uint8_t> positive;
    for (std::size_t i = 0; i < labels.size(); ++i) {
      scores.push_back(probabilities[i * static_cast<std::size_t>(classes) + 1]);
      positive.push_back(labels[i] == 1);
    }
    const auto roc = roc_curve(scores, positive);
    ASSERT_EQ(roc.size(), expected["roc"].size());
    for (std::size_t i = 0; i < roc.size(); ++i) {
      expect_same(roc[i].threshold, expected["roc"][i][0]);
      expect_same(roc[i].false_positive_rate, expected["roc"][i][1]);
      expect_same(roc[i].true_positive_rate, expected["roc"][i][2]);
    }
    const auto curve = precision_recall_curve(scores, positive);
    if (expected.contains("precision_recall")) {
      ASSERT_EQ(curve.size(), expected["precision_recall"].size());
      for (std::size_t i = 0; i < curve.size(); ++i) {
        expect_same(curve[i].threshold, expected["precision_recall"][i][0]);
        expect_same(curve[i].precision, expected["precision_recall"][i][1]);
        expect_same(curve[i].recall, expected["precision_recall"][i][2]);
      }
    } else {
      EXPECT_TRUE(std::isnan(curve.back().recall));
    }
    std::int64_t n = 0;
    std::size_t filled = 0;
    for (const ReliabilityBin& bin : reliability_diagram(probabilities, labels, classes)) {
      n += bin.n;
      if (bin.n == 0) {
        EXPECT_TRUE(std::isnan(bin.accuracy));
        continue;
      }
      ASSERT_LT(filled, expected["reliability"].size());
      expect_same(bin.mean_probability, expected["reliability"][filled][0]);
      expect_same(bin.accuracy, expected["reliability"][filled++][1]);
    }
    EXPECT_EQ(n, static_cast<std::int64_t>(labels.size()));
    EXPECT_EQ(filled, expected["reliability"].size());
  }
}

TEST(Metrics, AnEdgeBelongsToTheBinBelowIt) {
  for (std::size_t bin = 0; bin < 15; ++bin) {
    const double edge = static_cast<double>(bin) / 15.0;
    EXPECT_EQ(calibration_bin(edge), bin == 0 ? 0 : bin - 1);
    EXPECT_EQ(calibration_bin(std::nextafter(edge, 1.0)), bin);
  }
  EXPECT_EQ(calibration_bin(1.0), 14U);
  EXPECT_EQ(calibration_bin(1.0 + 1e-15), 14U);  // a softmax that rounded up
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
  const auto p = softmax_rows(std::vector<double>{1000.0F, 1000.0F, -1000.0F, 0.0F, std::log(3.0F), 0.0F}, 3);
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
  error_of([&] { reliability_diagram(two, std::vector<std::int32_t>{0}, 2, 0); });
}

}  // namespace
}  // namespace graft
