// Whole training steps of the three networks, watched call by call: forward, loss, penalty, backward, clipping, update.
// No value is read before it was written, none after its memory was released; the host never waits; and each operation
// costs the device calls that it should, so that an additional pass is noticed. The devices compute nothing here: what
// they are asked to do is what is tested.
#include "tests/support/step_recorder.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/dry_backend.h"
#include "strategies/training/fit.h"
#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

constexpr std::int64_t kBatchSize = 2;

/// Everything that a step may have: a penalty towards anchors, batch statistics, clipping.
TrainSettings full_step(const std::string& precision = "f32") {
  TrainSettings s;
  s.strategy = "l2-sp";
  s.strategy_settings["batch_norm"] = SettingValue(std::string("batch"));
  s.clip_norm = 1;
  s.precision = precision;
  s.batch = kBatchSize;
  s.threads = s.loader_threads = 1;
  s.image_cache_mb = 0;
  return s;
}

/// The second of two steps: the first has warmed everything up. The observer may be a StepRecorder.
void record(DeviceObserver& recorder, DeviceKind kind, const std::string& architecture, const TrainSettings& settings) {
  const BackendOptions options{.threads = 2,
                               .precision = precision_on(settings, {kind}),
                               .plans = {.norm_fusion = parse_own_kernels(settings.fused_norms)}};
  Context context(std::make_unique<ObservedBackend>(std::make_unique<DryBackend>(Device{kind}, options), recorder));
  ModelInfo info;
  info.architecture = architecture;
  info.num_classes = 2;
  info.input_size = info.resize = 64;
  const auto network = make_network(context, info);
  std::vector<Sample> samples(kBatchSize);
  samples[1].label = 1;
  const Dataset dataset({"a", "b"}, samples, std::make_shared<testing::BlankImages>());
  SplitBatches batches({*network, dataset, settings, transform_of(info), {}});
  const RunDirectory nowhere{{}};
  testing::RecordingSink sink;
  const auto starting_network = [&] { return make_network(context, info); };
  Fit fit({*network, dataset, settings, batches, nowhere, nullptr, starting_network}, sink);
  const auto lr = [&](std::int64_t) {
    if (auto* steps = dynamic_cast<StepRecorder*>(&recorder))
      steps->forget(network->parameters().gradients().view());  // of the step before
    return 1e-3;
  };
  int updates = 0;
  const auto take_loss = [&](std::int64_t, double loss) { return updates += std::isfinite(loss), true; };
  fit.sweep({.steps = 2, .lr = lr, .take_loss = take_loss});
  ASSERT_EQ(updates, 2);
}

using Calls = std::map<std::string, int>;

/// What every step has. Images, labels and numbers went in before it, what it reports is read after it.
const Calls kEveryStep{{"report_batch", 1},
                       {"measure_gradients", 1},
                       {"update", 1},
                       {"softmax_cross_entropy", 1},
                       {"softmax_cross_entropy_grad", 1}};

/// The loss's own gradient is copied from those numbers.
constexpr int kLossGradient = 1;

struct Expectation {
  const char* architecture;
  Calls calls;  // on a device whose activations are NHWC, beside kEveryStep
};

/// ResNet-50: 53 convolutions, each with its norm; the first convolution's input needs no gradient.
const Expectation kResNet50{"resnet50",
                            {{"conv", 53},
                             {"conv_weight_grad", 53},
                             {"conv_data_grad", 52},
                             {"batch_statistics_and_running", 53},
                             {"normalize", 53},                  // with the residual and ReLU
                             {"normalize_parameter_grads", 53},  // and the sums that the next needs
                             {"normalize_grad", 53},
                             {"max_pool", 1},
                             {"max_pool_grad", 1},
                             {"adaptive_avg_pool", 1},
                             {"adaptive_avg_pool_grad", 1},
                             {"linear", 1},
                             {"linear_data_grad", 1},
                             {"linear_weight_grad", 1},
                             {"channel_sum", 1}}};

/// DenseNet-121: 58 layers of two norms and two convolutions, 3 transitions, a first and a last norm. A block's
/// channels come in slices, one per layer and one that enters: 62. Each slice's statistics are taken once, however many
/// norms read them, and corrected for once.
constexpr int kLayers = 58, kSlices = kLayers + 4, kSharing = kLayers + 3 + 1, kOwnStatistics = kLayers + 1;
constexpr int kNorms = kSharing + kOwnStatistics;
const Expectation kDenseNet121{"densenet121",
                               {{"conv", 1 + 2 * kLayers + 3},
                                {"conv_weight_grad", 1 + 2 * kLayers + 3},
                                {"conv_data_grad", 2 * kLayers + 3},
                                {"batch_statistics_and_running", kOwnStatistics},
                                {"batch_statistics", kSlices},
                                {"normalize_grad_correction", kSlices},
                                {"update_running", kSharing},
                                {"normalize", kNorms},
                                {"normalize_parameter_grads", kNorms},  // their sums to the statistics' gradient too
                                {"normalize_grad", kNorms},
                                {"copy", 2 * kSlices},  // slices into the buffer and out of its gradient
                                {"max_pool", 1},
                                {"max_pool_grad", 1},
                                {"avg_pool", 3},
                                {"avg_pool_grad", 3},
                                {"adaptive_avg_pool", 1},
                                {"adaptive_avg_pool_grad", 1},
                                {"linear", 1},
                                {"linear_data_grad", 1},
                                {"linear_weight_grad", 1},
                                {"channel_sum", 1}}};

/// VGG-19: 16 convolutions with bias and ReLU, 3 linear layers, two of them with ReLU and behind dropout.
const Expectation kVgg19{"vgg19",
                         {{"conv", 16},
                          {"conv_weight_grad", 16},
                          {"conv_data_grad", 15},
                          {"channel_sum", 3},
                          {"relu_grad_and_sum", 16},
                          {"map relu", 2},
                          {"map relu grad", 2},
                          {"map dropout", 4},
                          {"max_pool", 5},
                          {"max_pool_grad", 5},
                          {"adaptive_avg_pool", 1},
                          {"adaptive_avg_pool_grad", 1},
                          {"linear", 3},
                          {"linear_data_grad", 3},
                          {"linear_weight_grad", 3}}};

/// The network's calls and what every step has besides.
Calls of_whole_step(const Expectation& network) {
  Calls calls = network.calls;
  calls.insert(kEveryStep.begin(), kEveryStep.end());
  calls["copy"] += kLossGradient;
  return calls;
}

class StepRecording : public ::testing::TestWithParam<Expectation> {};

INSTANTIATE_TEST_SUITE_P(Networks, StepRecording, ::testing::Values(kResNet50, kDenseNet121, kVgg19),
                         [](const auto& network) { return std::string(network.param.architecture); });

TEST_P(StepRecording, MemoryIsWrittenBeforeItIsReadAndNotUsedAfterwards) {
  for (const DeviceKind kind : {DeviceKind::cuda, DeviceKind::cpu}) {
    for (const char* precision : {"f32", "bf16", "f16"}) {
      if (kind == DeviceKind::cpu && precision == std::string_view("f16")) continue;  // which it does not have
      for (const char* recompute : {"none", "norms"}) {
        StepRecorder recorder;
        TrainSettings settings = full_step(precision);
        settings.recompute = recompute;
        record(recorder, kind, GetParam().architecture, settings);
        EXPECT_EQ(recorder.faults(), std::vector<std::string>{})
            << to_string(Device{kind}) << ", " << precision << ", recompute " << recompute;
        EXPECT_GT(recorder.calls().size(), 10u);
        EXPECT_LE(recorder.survivors(), 1);  // probabilities, until they are counted
      }
    }
  }
}

TEST(FusedNormsRecording, ALayerOfDenseNetIsThreeCallsInThePlaceOfSeven) {
  StepRecorder fused;
  TrainSettings settings = full_step("bf16");
  settings.fused_norms = "on";
  record(fused, DeviceKind::cuda, "densenet121", settings);
  EXPECT_EQ(fused.faults(), std::vector<std::string>{});
  EXPECT_EQ(fused.waits(), std::vector<std::string>{});
  Calls expected = of_whole_step(kDenseNet121);
  for (const char* op : {"conv", "conv_weight_grad", "conv_data_grad", "normalize", "normalize_parameter_grads",
                         "normalize_grad", "batch_statistics_and_running"})
    expected[op] -= kLayers;
  for (const char* op : {"norm_conv", "norm_conv_weight_grad", "norm_conv_data_grad"}) expected[op] = kLayers;
  EXPECT_EQ(difference(fused.calls(), expected), "");
}

TEST_P(StepRecording, TheHostNeverWaits) {
  for (const char* precision : {"f32", "bf16", "f16"}) {
    StepRecorder recorder;
    record(recorder, DeviceKind::cuda, GetParam().architecture, full_step(precision));
    EXPECT_EQ(recorder.waits(), std::vector<std::string>{}) << precision;
  }
}

/// Counts the calls that make a step's batch and bring its numbers to the device.
class DataRecorder final : public DeviceObserver {
 public:
  void call(const DeviceCall& call, const std::function<void()>& run) override {
    if (is_in_data_) ++calls[std::string(call.op)], has_waited |= call.waits;
    run();
  }
  void push_range(std::string_view name) override {
    if (name == "step") calls.clear();
    is_in_data_ |= name == "data";
    ranges_.emplace_back(name);
  }
  void pop_range() override {
    if (ranges_.back() == "data") is_in_data_ = false;
    ranges_.pop_back();
  }

  Calls calls;  // of the last step
  bool has_waited = false;

 private:
  std::vector<std::string> ranges_;
  bool is_in_data_ = false;
};

TEST(DataRecording, ABatchOfImagesIsOneCallBesideWhatMustBeSent) {
  TrainSettings settings = full_step();
  DataRecorder sends, keeps;
  settings.device_image_cache_mb = 0;
  record(sends, DeviceKind::cuda, "resnet50", settings);
  settings.device_image_cache_mb = 1;
  record(keeps, DeviceKind::cuda, "resnet50", settings);
  // The step's numbers and the labels are copied.
  EXPECT_EQ(difference(sends.calls, {{"upload", 1}, {"images_to_input", 1}, {"copy_in", 2}}), "");
  EXPECT_EQ(difference(keeps.calls, {{"images_to_input", 1}, {"copy_in", 2}}), "");
  EXPECT_FALSE(sends.has_waited || keeps.has_waited);
}

TEST_P(StepRecording, EachOperationCostsTheCallsThatItShould) {
  const Calls expected = of_whole_step(GetParam());
  for (const char* precision : {"f32", "bf16", "f16"}) {
    StepRecorder recorder;
    record(recorder, DeviceKind::cuda, GetParam().architecture, full_step(precision));
    Calls scaled = expected;
    if (precision == std::string_view("f16"))
      ++scaled["copy"], ++scaled["map scale by"];  // the loss, by the device's number
    EXPECT_EQ(difference(recorder.calls(), scaled), "") << precision;
  }
}

TEST_P(StepRecording, RecomputationCostsOnePassPerNorm) {
  StepRecorder kept, made_again;
  TrainSettings settings = full_step();
  record(kept, DeviceKind::cuda, GetParam().architecture, settings);
  settings.recompute = "norms";
  record(made_again, DeviceKind::cuda, GetParam().architecture, settings);
  const std::string name = GetParam().architecture;
  Calls expected = kept.calls();
  // All but those that add a residual, and those whose output nobody saves: projections', and before poolings, which
  // are five in DenseNet. The derivative itself has ReLU's bits.
  if (name == "resnet50") expected["normalize"] += 53 - 16 - 4 - 1;
  if (name == "densenet121") expected["normalize"] += kNorms - 5;
  EXPECT_EQ(difference(made_again.calls(), expected), "");
}

// The recorder sees what it is there for.

class StepRecorderFaults : public ::testing::Test {
 protected:
  /// A step of these operations; returns the faults.
  const std::vector<std::string>& step(const std::function<void()>& operations) {
    context.backend().begin_step(0);
    operations();
    context.backend().end_step();
    return recorder.faults();
  }
  static std::vector<std::string> only(const char* text) { return {text}; }

  StepRecorder recorder;
  Context context{std::make_unique<ObservedBackend>(make_backend({DeviceKind::reference}), recorder)};
  Backend& device = context.backend();
  const Shape shape{2, 4, 3, 3};
};

TEST_F(StepRecorderFaults, ReadingWhatWasNeverWritten) {
  EXPECT_EQ(step([&] { relu(empty(context, shape)); }), only("map reads what was never written"));
}

TEST_F(StepRecorderFaults, ReadingASliceOfWhichAPartWasWritten) {
  const Tensor buffer = empty(context, shape);
  EXPECT_EQ(step([&] {
              append(buffer, 0, zeros(context, {2, 2, 3, 3}));
              relu(buffer.channels(0, 2));
              relu(buffer.channels(0, 3));
            }),
            only("map reads what was never written"));
}

TEST_F(StepRecorderFaults, AddingToAGradientThatIsNotOfThisStep) {
  Tensor gradient = zeros(context, shape);
  recorder.forget(gradient.view());
  EXPECT_EQ(step([&] { device.copy(gradient.view(), Write::add, zeros(context, shape).view()); }),
            only("copy reads what was never written"));
}

TEST_F(StepRecorderFaults, ReadingAndWritingReleasedMemory) {
  std::optional<Tensor> x = zeros(context, shape);
  const View left = x->view();
  x.reset();
  const Tensor y = zeros(context, {1, 1, 1, 1});
  (void)y;
  step([&] { device.synchronize(); });
  // The reference's memory is really gone: the calls are shown, not run.
  const auto runs_nothing = [] {};
  recorder.call({.op = "read", .detail = {}, .writes = {}, .reads = {region_of(left)}}, runs_nothing);
  recorder.call({.op = "write", .detail = {}, .writes = {region_of(left)}, .reads = {}}, runs_nothing);
  if (y.view().data == left.data) GTEST_SKIP() << "the allocator handed the memory out again";
  EXPECT_EQ(recorder.faults(),
            (std::vector<std::string>{"read reads released memory", "write writes released memory"}));
}

TEST_F(StepRecorderFaults, GoingBeyondTheBlock) {
  const Tensor x = zeros(context, shape);
  View longer = x.view();
  longer.shape.n = 3;
  recorder.call({.op = "read", .detail = {}, .writes = {}, .reads = {region_of(longer)}}, [] {});
  EXPECT_EQ(recorder.faults(), only("read reads beyond its block"));
}

TEST_F(StepRecorderFaults, ReleasingWhatACallUses) {
  std::optional<Tensor> x = zeros(context, shape);
  recorder.call({.op = "copy", .detail = {}, .writes = {}, .reads = {region_of(x->view())}}, [&] { x.reset(); });
  EXPECT_EQ(recorder.faults(), only("copy uses memory that is released meanwhile"));
}

TEST_F(StepRecorderFaults, WaitingForTheDevice) {
  const Tensor x = zeros(context, {1, 1, 1, 1});
  step([&] {
    const Scope scope(context, "layer");
    x.to_host();
  });
  EXPECT_EQ(recorder.waits(), only("copy_out (in layer)"));
  x.to_host();  // outside the step
  EXPECT_EQ(recorder.waits().size(), 1u);
}

TEST_F(StepRecorderFaults, TakingStatisticsTwice) {
  const Tensor x = zeros(context, shape);
  const auto statistics = [&] { batch_statistics(x, empty(context, {2, 4, 1, 1}), 1e-5); };
  step([&] { statistics(); });
  const Calls once = recorder.calls();
  step([&] { statistics(), statistics(); });
  EXPECT_EQ(difference(recorder.calls(), once), "batch_statistics: 2 calls, not 1\n");
}

TEST_F(StepRecorderFaults, KeepingABlockBeyondTheStep) {
  std::vector<Tensor> kept;
  step([&] { kept.push_back(zeros(context, shape)), zeros(context, shape); });
  EXPECT_EQ(recorder.survivors(), 1);
}

}  // namespace
}  // namespace graft
