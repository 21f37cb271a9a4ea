// Training that fails leaves the best weights so far, and continues as if it had not.
#include <gtest/gtest.h>

#include "models/network_io.h"
#include "strategies/training/checkpoint.h"
#include "strategies/training/fit.h"
#include "tests/strategies/strategies_testing.h"
#include "tests/support/capturing_device.h"

namespace graft {
namespace {

using testing::contains;
using testing::differing_tensors;
using testing::TemporaryFolder;
using testing::Workshop;

/// Two epochs at a rate that changes nothing that shows, then some from the best weights.
class Late : public Strategy {
 public:
  EpochPlan plan(const EpochView& view) override {
    return {.freeze = FreezePlan::trainable(view.parameters),
            .lr_factor = view.epoch < 2 ? 1e-9 : 1,
            .starts_from_best = view.epoch == 2};
  }
};

using Hook = std::function<void(const PassProgress&)>;

/// The CPU, and with `works_by_itself` one that training does not wait for: files are then written beside it.
std::unique_ptr<Backend> device(bool works_by_itself, testing::CapturingDevice& observer) {
  std::unique_ptr<Backend> cpu = make_backend({DeviceKind::cpu}, {.threads = 2});
  if (!works_by_itself) return cpu;
  return std::make_unique<ObservedBackend>(std::move(cpu), observer);
}

class Failure : public ::testing::TestWithParam<bool> {
 protected:
  std::vector<std::int64_t> fit(const std::filesystem::path& output, std::int64_t epochs, const Hook& hook = {}) const;
};

/// Continues where last.h5 is. Gives the epochs that were the best.
std::vector<std::int64_t> Failure::fit(const std::filesystem::path& output, std::int64_t epochs,
                                       const Hook& hook) const {
  TrainSettings s = testing::short_run(output);
  s.epochs = epochs, s.lr = 1e-3, s.batch = 4, s.schedule = "constant", s.feature_cache = false;
  testing::CapturingDevice observer;
  Context context(device(GetParam(), observer));
  const Dataset dataset = Dataset::open({.path = Workshop::get().images(), .threads = 2});
  const RunDirectory directory(s.output);
  directory.prepare(RunDirectory::Existing::resume);
  const bool resumes = directory.has("last.h5");
  const std::unique_ptr<Network> network = resumes
                                               ? load_network(context, directory.last())
                                               : load_backbone(context, Workshop::get().model(), {.num_classes = 2});
  SplitBatches batches({*network, dataset, s, {.resize = 32, .crop = 32}, directory.path()});
  testing::RecordingSink sink;
  if (hook) sink.on_advance = hook;
  Fit fit({*network, dataset, s, batches, directory, nullptr}, sink, std::make_unique<Late>());
  if (resumes) fit.resume(read_checkpoint(directory.last()));
  fit.run();
  fit.finish_saving();
  std::vector<std::int64_t> best;
  for (const EpochReport& epoch : sink.epochs)
    if (epoch.is_best) best.push_back(epoch.epoch);
  return best;
}

void fail_in_epoch_4(const PassProgress& p) {
  if (p.pass == "train" && p.epoch == 4) throw Error("the lights went out");
}

void expect_same(const std::filesystem::path& one, const std::filesystem::path& other) {
  for (const char* file : {"last.h5", "best.h5"})
    EXPECT_EQ(differing_tensors(one / file, other / file), std::vector<std::string>{}) << file;
  EXPECT_EQ(read_text(one / "steps.csv"), read_text(other / "steps.csv"));
}

TEST_P(Failure, LeavesTheBestWeightsAndContinuesWithThoseOfTheCheckpoint) {
  TemporaryFolder folder;
  const auto in = [&](const char* name) { return std::filesystem::path(folder / name); };
  ASSERT_EQ(fit(in("one"), 1), std::vector<std::int64_t>{1});
  ASSERT_EQ(fit(in("three"), 3), (std::vector<std::int64_t>{1, 3}));
  fit(in("straight"), 4);

  for (const char* failed : {"failed", "shorter"}) {
    EXPECT_TRUE(contains(testing::error_of([&] { fit(in(failed), 4, fail_in_epoch_4); }), "lights"));
    EXPECT_EQ(read_checkpoint(in(failed) / "last.h5").state.arrays.at("epoch"),
              NumberArray(std::vector<std::int64_t>{1}));
    EXPECT_EQ(differing_tensors(in(failed) / "best.h5", in("three") / "best.h5"), std::vector<std::string>{});
    EXPECT_NE(differing_tensors(in(failed) / "best.h5", in("one") / "best.h5").size(), 0u);
  }
  fit(in("failed"), 4);
  expect_same(in("straight"), in("failed"));
  fit(in("shorter"), 1);  // nothing is left to train: the best are those of epoch 1 again
  expect_same(in("one"), in("shorter"));
  for (const auto& entry : std::filesystem::directory_iterator(in("failed")))
    EXPECT_FALSE(entry.path().filename().string().starts_with("best.epoch-")) << entry.path();
}

TEST_P(Failure, BeforeTheFirstCheckpointLeavesNoWeights) {
  TemporaryFolder folder;
  EXPECT_TRUE(contains(
      testing::error_of([&] { fit(folder / "run", 2, [](const PassProgress&) { throw Error("too early"); }); }),
      "too early"));
  EXPECT_FALSE(std::filesystem::exists(folder / "run" / "best.h5"));
  EXPECT_FALSE(std::filesystem::exists(folder / "run" / "last.h5"));
}

TEST_P(Failure, OfWritingEndsTheRun) {
  TemporaryFolder folder;
  const std::filesystem::path output = folder / "run";
  const auto block = [&](const PassProgress&) { std::filesystem::create_directories(output / "last.h5" / "full"); };
  EXPECT_TRUE(contains(testing::error_of([&] { fit(output, 2, block); }), "last.h5"));
  EXPECT_FALSE(std::filesystem::exists(output / "best.h5"));
}

INSTANTIATE_TEST_SUITE_P(Device, Failure, ::testing::Bool(), [](const auto& works_by_itself) {
  return works_by_itself.param ? "WorksByItself" : "IsWaitedFor";
});

}  // namespace
}  // namespace graft
