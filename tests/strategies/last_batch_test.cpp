// A device that chooses plans for every size, as a GPU does, gets the last images of an evaluation in a batch as large
// as the others.
#include <gtest/gtest.h>

#include <set>

#include "kernels/observed_backend.h"
#include "models/network_io.h"
#include "strategies/batches/device_images.h"
#include "strategies/training/evaluate.h"
#include "strategies/training/evaluation.h"
#include "strategies/training/predict.h"
#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

using testing::TemporaryFolder;
using testing::Workshop;

constexpr std::int64_t kStepBatch = 7;  // divides no split's number of images

class Sizes : public DeviceObserver {
 public:
  void call(const DeviceCall& call, const std::function<void()>& run) override {
    // "7x7 3->64 /2 [4,64,16,16]"
    if (call.op == "conv") seen.insert(std::stoll(call.detail.substr(call.detail.rfind('[') + 1)));
    run();
  }
  bool end_step(Backend& device) override {
    const bool followed = device.end_step();
    unplanned += !followed;
    return followed;
  }
  std::set<std::int64_t> seen;
  int unplanned = 0;  // steps that did not keep to a plan of their memory
};

/// The CPU, which calls itself a GPU if asked.
class Disguised : public ObservedBackend {
 public:
  Disguised(bool as_gpu, DeviceObserver& observer)
      : ObservedBackend(make_backend({DeviceKind::cpu}, {.threads = 2}), observer), as_gpu_(as_gpu) {}
  Device device() const override { return as_gpu_ ? Device{DeviceKind::cuda} : ObservedBackend::device(); }

 private:
  bool as_gpu_;
};

/// What `work` gives on such a device and on one that does not; checks the sizes of all batches.
template <class Work>
auto on_both(const Work& work) {
  const auto on = [&](bool gpu) {
    Sizes sizes;
    Context context(std::make_unique<Disguised>(gpu, sizes));
    auto result = work(context);
    if (gpu)
      EXPECT_EQ(sizes.seen, std::set{kStepBatch});
    else
      EXPECT_GT(sizes.seen.size(), 1u) << "no last batch was smaller";
    return result;
  };
  return std::pair(on(true), on(false));
}

TEST(LastBatch, OfAnEvaluationIsFilledUp) {
  const auto [filled, plain] = on_both([](Context& context) {
    testing::RecordingSink sink;
    return evaluate(context,
                    {.model = Workshop::get().model().string(),
                     .data = Workshop::get().images().string(),
                     .split = "all",
                     .batch = kStepBatch,
                     .threads = 2},
                    sink);
  });
  EXPECT_EQ(filled.n, plain.n);
  EXPECT_NEAR(filled.loss, plain.loss, 1e-6 * plain.loss);  // batches may round otherwise
  EXPECT_EQ(filled.confusion, plain.confusion);
}

TEST(LastBatch, FollowsThePlanOfTheOthersMemory) {
  Sizes sizes;
  Context context(std::make_unique<Disguised>(true, sizes));
  const auto network = load_network(context, Workshop::get().model());
  const Dataset dataset = Dataset::open({.path = Workshop::get().images(), .threads = 2});
  const auto batches = image_batches(context, dataset,
                                     {.indices = dataset.indices(Split::train),
                                      .batch = kStepBatch,
                                      .transform = {.resize = 32, .crop = 32},
                                      .augmentation = {},
                                      .threads = 2});
  testing::RecordingSink sink;
  const PredictionPass pass{.count = std::ssize(dataset.indices(Split::train))};
  predict_batches(*network, *batches, pass, sink);
  EXPECT_GT(sizes.unplanned, 0) << "the first batch has no plan to keep to";
  sizes.unplanned = 0;
  predict_batches(*network, *batches, pass, sink);
  EXPECT_EQ(sizes.unplanned, 0);
  EXPECT_EQ(sizes.seen, std::set{kStepBatch});
}

TEST(LastBatch, OfAPredictionIsFilledUp) {
  const auto [filled, plain] = on_both([](Context& context) {
    testing::RecordingSink sink;
    return predict(context,
                   {.model = Workshop::get().model().string(),
                    .images = {Workshop::get().images().string()},
                    .batch = kStepBatch,
                    .threads = 2},
                   sink);
  });
  ASSERT_EQ(filled.images.size(), plain.images.size());
  for (std::size_t i = 0; i < plain.images.size(); ++i) {
    EXPECT_EQ(filled.images[i].path, plain.images[i].path);
    ASSERT_EQ(filled.images[i].probabilities.size(), plain.images[i].probabilities.size());
    for (std::size_t c = 0; c < plain.images[i].probabilities.size(); ++c)
      EXPECT_NEAR(filled.images[i].probabilities[c], plain.images[i].probabilities[c], 1e-5);
  }
}

/// Features of the training and the validation images, and the test.
TEST(LastBatch, OfKeptFeaturesIsFilledUp) {
  TemporaryFolder folder;
  int number = 0;
  const auto [filled, plain] = on_both([&](Context& context) {
    TrainSettings s = testing::short_run(folder / std::to_string(number++));
    s.batch = kStepBatch;
    testing::RecordingSink sink;
    RunResult result = train(context, s, {.config_toml = "", .command_line = "graft train"}, sink);
    EXPECT_TRUE(testing::contains(sink.notes, "computed once and kept")) << sink.notes;
    return result;
  });
  EXPECT_EQ(filled.test.n, plain.test.n);
  EXPECT_NEAR(filled.test.loss, plain.test.loss, 1e-4 * plain.test.loss);
  EXPECT_EQ(filled.best_epoch, plain.best_epoch);
}

}  // namespace
}  // namespace graft
