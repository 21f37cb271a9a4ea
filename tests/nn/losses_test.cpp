#include "nn/losses.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

namespace graft {
namespace {

struct Case {
  double label_smoothing;
  std::vector<double> class_weights;
  double loss;         // torch.nn.functional.cross_entropy in float64
  double dx[4], dx_9;  // its gradient: row 0, and element 9
};

/// Logits 3 sin(1 + 0.7 i) as [3,4], labels 2 0 3.
const Case kCases[] = {
    {0,
     {},
     1.591301394925402,
     {0.10200845773951185, 0.1600741596709413, -0.27133966128552134, 0.009257043875068195},
     0.10145774434695451},
    {0.1,
     {},
     1.6010147026461108,
     {0.09367512440617853, 0.151740826337608, -0.24633966128552134, 0.0009237105417348623},
     0.09312441101362119},
    {0,
     {0.5, 1, 2, 0.25},
     1.6262336048075596,
     {0.2225639077952986, 0.34925271200932645, -0.5920138064411375, 0.020197186636512425},
     0.027670293912805777},
    {0.1,
     {0.5, 1, 2, 0.25},
     1.6248325430870252,
     {0.20619474564821882, 0.32160775259292196, -0.5446539820648612, 0.016851483823720433},
     0.026188715647918272},
};

TEST(TaskLoss, EqualsPyTorch) {
  Context context(make_backend({.kind = DeviceKind::reference}));
  std::vector<double> values(12);
  for (int i = 0; i < 12; ++i) values[i] = 3 * std::sin(1 + 0.7 * i);
  for (const Case& c : kCases) {
    ParameterSet parameters;
    Parameter& x = parameters.add("x", {3, 4, 1, 1}, Role::linear_weight, 0);
    parameters.allocate(context);
    x.value.from_host(values);
    const TaskLoss loss(context,
                        {.num_classes = 4, .label_smoothing = c.label_smoothing, .class_weights = c.class_weights});
    const CrossEntropyResult result = loss(x.value, labels_to_device(context, std::vector<std::int32_t>{2, 0, 3}, 4));
    context.tape().backward(result.loss);
    EXPECT_NEAR(result.loss.to_host()[0], c.loss, 1e-14);  // rounding of a dozen terms
    const std::vector<double> dx = x.gradient().to_host();
    for (int i = 0; i < 4; ++i) EXPECT_NEAR(dx[i], c.dx[i], 1e-15);
    EXPECT_NEAR(dx[9], c.dx_9, 1e-15);
  }
}

TEST(TaskLoss, OfSeveralLabelsEqualsPyTorch) {
  std::ifstream file(GRAFT_SOURCE_DIR "/tests/reference/data/multi_label.json");
  const auto cases = nlohmann::json::parse(file).at("losses");
  ASSERT_EQ(cases.size(), 4U);
  for (const auto& c : cases) {
    const std::vector<double> logits = c["logits"], truth = c["truth"], gradient = c["gradient"];
    const std::int64_t classes = c["classes"], rows = std::ssize(logits) / classes;
    Context context(make_backend({.kind = DeviceKind::reference}));
    ParameterSet parameters;
    Parameter& x = parameters.add("x", {rows, classes, 1, 1}, Role::linear_weight, 0);
    parameters.allocate(context);
    x.value.from_host(logits);
    const TaskLoss loss(
        context,
        {.num_classes = classes, .label_smoothing = c["smoothing"], .class_weights = c["weights"], .targets = truth});
    std::vector<std::int32_t> labels(std::size_t(rows), 0);  // each image has a row of targets of its own
    std::iota(labels.begin(), labels.end(), 0);
    const CrossEntropyResult result = loss(x.value, loss.device_labels(context, labels));
    context.tape().backward(result.loss);
    EXPECT_NEAR(result.loss.to_host()[0], c["loss"].get<double>(), 1e-13);  // some dozen terms of up to 100
    const std::vector<double> dx = x.gradient().to_host();
    for (std::size_t i = 0; i < dx.size(); ++i) EXPECT_NEAR(dx[i], gradient[i], 1e-15) << i;
    EXPECT_THROW(loss.device_labels(context, std::vector{std::int32_t(rows)}), Error);
  }
}

TEST(TaskLoss, RefusesWhatMakesNoSense) {
  Context context(make_backend({.kind = DeviceKind::reference}));
  const auto make = [&](const TaskLossSpec& spec) { TaskLoss(context, spec); };
  EXPECT_THROW(make({.num_classes = 3, .label_smoothing = 1.5}), Error);
  EXPECT_THROW(make({.num_classes = 3, .label_smoothing = std::numeric_limits<double>::quiet_NaN()}), Error);
  EXPECT_THROW(make({.num_classes = 3, .class_weights = {1, 2}}), Error);
  EXPECT_THROW(make({.num_classes = 2, .class_weights = {1, -2}}), Error);
  EXPECT_THROW(make({.num_classes = 2, .targets = {1, 0, 1}}), Error);
  EXPECT_NO_THROW(make({.num_classes = 2, .label_smoothing = 1, .class_weights = {1, 0}}));
}

}  // namespace
}  // namespace graft
