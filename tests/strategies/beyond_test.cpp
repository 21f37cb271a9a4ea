// Runs of delta, bss, stoch-norm and lora: their special cases, and that accumulation means the same as a bigger
// batch. Their numbers are held against PyTorch in reference_test.cpp, resuming in train_test.cpp.
#include <gtest/gtest.h>

#include <cmath>

#include "data/csv.h"
#include "models/adapters.h"
#include "strategies/strategy.h"
#include "strategies/training/evaluate.h"
#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

using testing::contains;
using testing::differing_tensors;
using testing::error_of;
using testing::Ran;
using testing::run;
using testing::short_run;
using testing::TemporaryFolder;
using testing::Workshop;

constexpr std::int64_t kFew = 3;  // steps of most runs here

TrainSettings few_steps(const std::filesystem::path& output, const std::string& strategy) {
  TrainSettings s = short_run(output, strategy);
  s.lr = 1e-3, s.epochs = 1, s.max_steps = kFew;
  return s;
}

std::vector<double> step_column(const std::filesystem::path& run, std::string_view name) {
  return testing::column(testing::csv(run / "steps.csv"), name);
}

void expect_near(const std::vector<double>& a, const std::vector<double>& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], tolerance * std::abs(b[i])) << i;
}

TEST(Delta, WithoutStrengthIsFullFineTuning) {
  TemporaryFolder folder;
  TrainSettings s = few_steps(folder / "full", "full");
  s.optimizer = "sgd", s.lr = 1e-5, s.max_steps = 2;
  run(s, DeviceKind::reference);
  s.strategy = "delta", s.output = (folder / "zero").string(), s.strategy_settings["alpha"] = 0.0;
  run(s, DeviceKind::reference);
  // A network that runs block by block adds its gradients in another order.
  expect_near(step_column(folder / "zero", "loss"), step_column(folder / "full", "loss"), 1e-8);
  EXPECT_EQ(step_column(folder / "zero", "penalty"), (std::vector<double>{0, 0}));
  s.output = (folder / "strong").string(), s.strategy_settings["alpha"] = 1.0;
  run(s, DeviceKind::reference);
  EXPECT_EQ(step_column(folder / "zero", "loss")[0], step_column(folder / "strong", "loss")[0]);
  for (double penalty : step_column(folder / "strong", "penalty")) EXPECT_GT(penalty, 0);
}

TEST(Delta, AccumulationEqualsABiggerBatch) {
  for (const char* reduction : {"sum", "mean"}) {
    TemporaryFolder folder;
    TrainSettings s = few_steps(folder / "big", "delta");
    // Fixed statistics, so that images do not see each other; unequal classes with weights.
    s.strategy_settings = {{"batch_norm", std::string("running")}, {"reduction", std::string(reduction)}};
    s.optimizer = "sgd", s.class_weights = "balanced", s.batch = 4, s.max_steps = 2;
    run(s, DeviceKind::reference);
    s.output = (folder / "small").string(), s.batch = 2, s.accumulate = 2;
    run(s, DeviceKind::reference);
    for (const char* name : {"loss", "penalty"})
      expect_near(step_column(folder / "small", name), step_column(folder / "big", name), 1e-10);
    EXPECT_GT(step_column(folder / "big", "penalty")[1], 0);
  }
}

TEST(Delta, ABlockThatDoesNotExistStopsBeforeAnythingIsWritten) {
  TemporaryFolder folder;
  TrainSettings s = few_steps(folder / "run", "delta");
  s.strategy_settings["blocks"] = std::string("stem, denseblok2");
  const std::string message = error_of([&] { run(s); });
  EXPECT_TRUE(contains(message, "'denseblok2' is unknown, did you mean 'denseblock2'?")) << message;
  s.strategy_settings["blocks"] = std::string("stem,");
  EXPECT_TRUE(contains(error_of([&] { run(s); }), "a name is missing"));
  EXPECT_FALSE(std::filesystem::exists(folder / "run"));
}

TEST(Bss, IsASettingOfEveryStrategyAndIsLeftOutWhereFeaturesAreFixed) {
  TemporaryFolder folder;
  TrainSettings s = few_steps(folder / "bss", "bss");
  EXPECT_EQ(s.bss, 0);  // the default comes with the name, where settings are parsed
  choose_strategy(s, "bss");
  EXPECT_EQ(s.bss, 1e-3);
  run(s);
  s = few_steps(folder / "full", "full");
  s.bss = 1e-3;
  run(s);
  EXPECT_EQ(differing_tensors(folder / "bss" / "last.h5", folder / "full" / "last.h5"), std::vector<std::string>{});
  for (double penalty : step_column(folder / "bss", "penalty")) EXPECT_GT(penalty, 0);
  s = few_steps(folder / "probe", "linear-probe");
  s.bss = 1e-3;
  const Ran ran = run(s);
  EXPECT_TRUE(contains(ran.sink.notes, "train.bss: the features cannot change")) << ran.sink.notes;
  EXPECT_EQ(step_column(folder / "probe", "penalty"), (std::vector<double>{0, 0, 0}));
}

TEST(Bss, ARunThatDivergesNamesItsStep) {
  TemporaryFolder folder;
  TrainSettings s = few_steps(folder / "run", "bss");
  s.bss = 1e-3, s.optimizer = "sgd", s.lr = 1e30;
  const std::string message = error_of([&] { run(s); });
  EXPECT_TRUE(contains(message, "at step 2") && contains(message, "lower train.lr")) << message;
}

TEST(StochNorm, WithCertaintyIsFullFineTuningAndOtherwiseDrawsByTheSeed) {
  TemporaryFolder folder;
  TrainSettings s = few_steps(folder / "full", "full");
  s.shuffle = false;
  run(s);
  s.strategy = "stoch-norm", s.output = (folder / "one").string(), s.strategy_settings["p"] = 1.0;
  run(s);
  EXPECT_EQ(differing_tensors(folder / "full" / "last.h5", folder / "one" / "last.h5"), std::vector<std::string>{});
  s.strategy_settings.clear();
  const Ran half = (s.output = (folder / "half").string(), run(s));
  EXPECT_TRUE(contains(half.sink.notes, "batch 0.5, updated")) << half.sink.notes;
  const Ran again = (s.output = (folder / "again").string(), s.threads = 1, run(s));
  EXPECT_NE(step_column(folder / "half", "loss")[0], step_column(folder / "full", "loss")[0]);
  // Vendors' sums differ by threads.
  expect_near(step_column(folder / "again", "loss"), step_column(folder / "half", "loss"), 1e-4);
}

TEST(StochNorm, NeedsBatchNorm) {
  TrainSettings s;
  s.strategy = "stoch-norm";
  ParameterSet none;
  const std::vector<std::string> blocks{"conv1_x", "classifier"};
  EXPECT_TRUE(contains(error_of([&] { make_strategy(s)->plan({0, 1, none, blocks}); }), "has no batch norm"));
}

TEST(Lora, StartsFromThePretrainedNetworkAndChangesConvolutionsAndHeadAlone) {
  TemporaryFolder folder;
  TrainSettings s = few_steps(folder / "run", "lora");
  s.max_steps = 0;
  run(s);
  const std::vector<std::string> head{"classifier.weight", "classifier.bias"};
  EXPECT_EQ(differing_tensors(Workshop::get().model(), folder / "run" / "last.h5"), head);
  s.max_steps = 2, s.overwrite = true, s.strategy_settings["layers"] = std::string("*denseblock4*conv2");
  s.optimizer = "sgd", s.weight_decay = 0.1;  // nothing frozen may feel decay or momentum
  const Ran ran = run(s);
  const std::vector<std::string> moved = differing_tensors(Workshop::get().model(), folder / "run" / "last.h5");
  EXPECT_EQ(moved.size(), 16u + 2u);
  for (const std::string& name : moved)
    EXPECT_TRUE(contains(name, "denseblock4") || contains(name, "classifier")) << name;
  // All parameters but the head's, and all statistics: the weights under the adapters are frozen and compared too.
  EXPECT_TRUE(contains(ran.sink.notes, "483 of 483 unchanged, bit for bit")) << ran.sink.notes;
  const Checkpoint checkpoint = read_checkpoint(folder / "run" / "last.h5");
  EXPECT_TRUE(checkpoint.state.arrays.contains("features.denseblock4.denselayer16.conv2.weight.lora_up"));
}

TEST(Lora, ContinuesFromNoOtherWeights) {
  TemporaryFolder folder;
  TrainSettings s = few_steps(folder / "other", "full");
  s.max_steps = 0;
  run(s);
  s = few_steps(folder / "run", "lora");
  s.max_steps = 1;
  run(s);
  s.max_steps = 2, s.resume = true, s.weights = (folder / "other" / "last.h5").string();
  const std::string message = error_of([&] { run(s); });
  EXPECT_TRUE(contains(message, "needs the weights that the run started from")) << message;
}

// Moments and anchors are restored when training goes on: a call that trains nothing must not lose them.
TEST(Resume, WithoutStepsKeepsWhatTheCheckpointHolds) {
  TemporaryFolder folder;
  TrainSettings s = few_steps(folder / "whole", "l2-sp");
  s.max_steps = 2;
  run(s);
  s.output = (folder / "run").string(), s.max_steps = 1;
  run(s);
  s.resume = true;
  for (const int steps : {0, 2}) s.max_steps = steps, run(s);
  EXPECT_EQ(differing_tensors(folder / "whole" / "last.h5", folder / "run" / "last.h5"), std::vector<std::string>{});
}

TEST(Lora, TheBestModelIsAnOrdinaryOneAndGivesTheTestedAnswers) {
  TemporaryFolder folder;
  TrainSettings s = few_steps(folder / "run", "lora");
  s.lr = 0.01;
  const Ran ran = run(s);
  EXPECT_EQ(read_model_file(folder / "run" / "best.h5").weights.tensors().size(), 606u);
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  testing::RecordingSink sink;
  const EvaluationResult again =
      evaluate(context, {.model = (folder / "run").string(), .data = s.data, .batch = 4, .threads = 2}, sink);
  EXPECT_EQ(again.loss, ran.result.test.loss);
  EXPECT_EQ(again.confusion, ran.result.test.confusion);
}

TEST(Lora, AdaptersAreWhatTheirSumSays) {
  Context context(make_backend({DeviceKind::reference}));
  const auto network = load_network(context, Workshop::get().model());
  auto& parameters = network->parameters().parameters();
  const Tensor x = zeros(context, {2, 3, 32, 32});
  const NoGrad no_grad(context);
  context.set_training(false);
  const std::vector<double> before = network->forward(x).to_host();
  add_adapters(*network, {.weights = {0}, .rank = 2, .scale = 0.5, .seed = 3});
  EXPECT_EQ(network->forward(x).to_host(), before);
  EXPECT_TRUE(network->is_head(network->parameters().find("classifier.bias")));
  EXPECT_EQ(head_parameters(network->parameters()), (std::vector<std::int64_t>{362, 363}));

  Parameter& up = network->parameters().find("features.conv0.weight.lora_up");
  const Parameter& down = network->parameters().find("features.conv0.weight.lora_down");
  EXPECT_EQ(up.shape, (Shape{64, 2, 1, 1}));
  EXPECT_EQ(down.shape, (Shape{2, 3, 7, 7}));
  std::vector<double> values(128);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(double(i));
  up.value.from_host(values);
  const std::vector<double> weight = parameters[0].value.to_host(), a = down.value.to_host();
  const WeightTable table = weights_of(*network);
  EXPECT_EQ(table.tensors().size(), 606u);
  const std::vector<double>& sum = table.at("features.conv0.weight").exact;
  for (std::int64_t k : {0, 31, 63})
    for (std::int64_t j : {0, 10, 146})
      EXPECT_NEAR(sum[std::size_t(k * 147 + j)],
                  weight[std::size_t(k * 147 + j)] + 0.5 * (values[std::size_t(2 * k)] * a[std::size_t(j)] +
                                                            values[std::size_t(2 * k + 1)] * a[std::size_t(147 + j)]),
                  1e-14);
  double largest = 0;
  for (double v : a) largest = std::max(largest, std::abs(v));
  EXPECT_GT(largest, 0.9 / std::sqrt(147.0));
  EXPECT_LE(largest, 1 / std::sqrt(147.0));

  const WeightSnapshot snapshot = snapshot_of(*network, nullptr);
  ++up.version;  // it could have changed
  const WeightSnapshot next = snapshot_of(*network, &snapshot);
  EXPECT_NE(&next.weights.at("features.conv0.weight"), &snapshot.weights.at("features.conv0.weight"));
  EXPECT_EQ(&next.weights.at("classifier.weight"), &snapshot.weights.at("classifier.weight"));
  EXPECT_EQ(next.weights.at("features.conv0.weight").exact, sum);
  restore(*network, next);  // nothing changed, yet a sum replaces weight and adapter
  EXPECT_EQ(up.value.to_host(), std::vector<double>(128, 0.0));
  EXPECT_EQ(parameters[0].value.to_host(), sum);

  up.value.from_host(values), ++up.version;
  load_weights(*network, table);
  EXPECT_EQ(up.value.to_host(), std::vector<double>(128, 0.0));
  EXPECT_EQ(weights_of(*network).at("features.conv0.weight").exact, sum);
}

TEST(Lora, APatternThatFitsNothingStopsBeforeAnythingIsWritten) {
  TemporaryFolder folder;
  TrainSettings s = few_steps(folder / "run", "lora");
  s.strategy_settings["layers"] = std::string("layer4.*");  // a name of ResNet-50
  EXPECT_TRUE(contains(error_of([&] { run(s); }), "no convolution is named 'layer4.*'"));
  EXPECT_FALSE(std::filesystem::exists(folder / "run"));
}

}  // namespace
}  // namespace graft
