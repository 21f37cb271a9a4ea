// What is kept of a frozen prefix is what the network gives, and whole runs from kept features equal runs from images:
// at every boundary, through memory and file, interrupted or not.
#include "strategies/batches/feature_cache.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <set>
#include <sstream>

#include "strategies/training/fit.h"
#include "tests/strategies/strategies_testing.h"
#include "tests/support/capturing_device.h"

namespace graft {
namespace {

using testing::contains;
using testing::differing_tensors;
using testing::RecordingSink;
using testing::short_run;
using testing::small_network;
using testing::TemporaryFolder;
using testing::Workshop;

Dataset workshop_images() { return Dataset::open({.path = Workshop::get().images()}); }

LoaderSpec loader_of(const Dataset& dataset, std::int64_t batch) {
  return {.indices = dataset.indices(Split::train),
          .batch = batch,
          .transform = {.resize = 32, .crop = 32},
          .augmentation = {},
          .threads = 2};
}

TEST(FeatureCache, KeepsWhatTheNetworkGivesAtEveryBoundary) {
  const Dataset dataset = workshop_images();
  TemporaryFolder folder;
  struct Boundaries {
    const char* architecture;
    std::vector<int> parts;
  };
  // All of DenseNet's; of VGG-19's the one with dropout before it.
  for (const Boundaries& b : {Boundaries{"resnet50", {1, 4, 5, 6}},
                              Boundaries{"densenet121", {1, 2, 3, 4, 5, 6, 7, 8, 9}}, Boundaries{"vgg19", {5, 6}}}) {
    Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
    const auto network = small_network(context, b.architecture);
    initialise_from_scratch(*network, 3);
    context.set_training(true);  // dropout and batch statistics would show
    const std::int64_t count = std::int64_t(dataset.indices(Split::train).size());
    ImageBatches images(context, dataset, loader_of(dataset, count));
    for (int parts : b.parts) {
      SCOPED_TRACE(std::string(b.architecture) + " before " + network->part_name(parts));
      RecordingSink sink;
      FeatureCache memory({.network = *network,
                           .dataset = dataset,
                           .parts = parts,
                           .images = count,
                           .memory_bytes = 1 << 30,
                           .folder = {}});
      FeatureCache file({.network = *network,
                         .dataset = dataset,
                         .parts = parts,
                         .images = count,
                         .memory_bytes = 0,
                         .folder = folder.path()});
      FeatureCache device(
          {.network = *network, .dataset = dataset, .parts = parts, .images = count, .device_bytes = 1 << 30});
      ASSERT_TRUE(memory.add(images, sink));
      ASSERT_TRUE(file.add(images, sink));
      ASSERT_TRUE(device.add(images, sink));
      EXPECT_TRUE(context.is_training());
      EXPECT_TRUE(memory.description().ends_with("in memory"));
      EXPECT_TRUE(contains(device.description(), "in memory of cpu"));
      EXPECT_TRUE(contains(file.description(), "in a file in " + folder.path().string()));
      EXPECT_TRUE(std::filesystem::is_empty(folder.path()));

      images.start(0, 0);
      DeviceBatch batch;
      ASSERT_TRUE(images.next(batch));
      const NoGrad no_grad(context);
      const EvaluationMode evaluation(context);
      const std::vector<double> expected = network->run_parts(batch.x, 0, parts).to_host();
      EXPECT_EQ(memory.gather(batch.samples).to_host(), expected);
      EXPECT_EQ(file.gather(batch.samples).to_host(), expected);
      EXPECT_EQ(device.gather(batch.samples).to_host(), expected);
      // Any samples in any order.
      const std::vector<std::int64_t> two = {batch.samples[5], batch.samples[2]};
      const std::vector<double> some = file.gather(two).to_host();
      EXPECT_EQ(device.gather(two).to_host(), some);
      const std::size_t row = some.size() / 2;
      EXPECT_TRUE(
          std::equal(some.begin(), some.begin() + std::ptrdiff_t(row), expected.begin() + std::ptrdiff_t(5 * row)));
      EXPECT_TRUE(
          std::equal(some.begin() + std::ptrdiff_t(row), some.end(), expected.begin() + std::ptrdiff_t(2 * row)));
      for (const FeatureCache* cache : {&memory, &device})
        EXPECT_THROW((void)cache->gather(std::vector<std::int64_t>{dataset.indices(Split::test)[0]}), Error);
    }
  }
}

TEST(FeatureCache, MovesToTheDeviceWhereItFits) {
  const Dataset dataset = workshop_images();
  TemporaryFolder folder;
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  const auto network = small_network(context, "resnet50");
  initialise_from_scratch(*network, 3);
  ImageBatches images(context, dataset, loader_of(dataset, 5));  // batches, the last of them smaller
  RecordingSink sink;
  FeatureCacheSpec spec{.network = *network,
                        .dataset = dataset,
                        .parts = 4,
                        .images = 13,
                        .stays_on_host = true,
                        .memory_bytes = 1 << 30,
                        .folder = folder.path()};
  FeatureCache small(spec);  // for which the device has no room
  ASSERT_TRUE(small.add(images, sink));
  const std::vector<std::int64_t> samples = images.order(kListingOrder);
  const std::vector<double> expected = small.gather(samples).to_host();
  spec.device_bytes = small.bytes() - 1;
  FeatureCache too_large(spec);
  ASSERT_TRUE(too_large.add(images, sink));
  too_large.move_to_device();
  EXPECT_TRUE(too_large.description().ends_with("in memory"));
  EXPECT_EQ(too_large.gather(samples).to_host(), expected);

  spec.device_bytes = small.bytes();
  const auto path = folder / "shared";
  for (const std::int64_t memory : {std::int64_t{1} << 30, std::int64_t{0}}) {  // from memory, from a file
    spec.memory_bytes = memory;
    FeatureCache cache(spec);
    ASSERT_TRUE(cache.add(images, sink));
    write_feature_file(path, cache.rows());
    EXPECT_FALSE(contains(cache.description(), "memory of cpu"));
    cache.move_to_device();
    EXPECT_TRUE(contains(cache.description(), "memory of cpu"));
    EXPECT_EQ(cache.gather(samples).to_host(), expected);
  }
  FeatureCache taken(spec);
  taken.take(path, samples);
  taken.move_to_device();
  std::filesystem::remove(path);
  EXPECT_TRUE(contains(taken.description(), "memory of cpu"));
  EXPECT_EQ(taken.gather(samples).to_host(), expected);
}

TEST(FeatureCache, ThreadsGatherForADeviceThatComputesMeanwhile) {
  const Dataset dataset = workshop_images();
  testing::CapturingDevice device;
  Context context(std::make_unique<ObservedBackend>(make_backend({DeviceKind::cpu}, {.threads = 2}), device));
  const auto network = small_network(context, "resnet50");
  initialise_from_scratch(*network, 3);
  ImageBatches images(context, dataset, loader_of(dataset, 13));
  RecordingSink sink;
  const std::vector<std::int64_t> samples = images.order(kListingOrder);
  std::vector<std::vector<double>> gathered;
  for (const std::int64_t worth : {std::int64_t{1}, std::int64_t{1} << 40}) {
    FeatureCache cache({.network = *network,
                        .dataset = dataset,
                        .parts = 4,
                        .images = 13,
                        .memory_bytes = 1 << 30,
                        .threads = 3,
                        .worth_threads_bytes = worth});
    ASSERT_TRUE(cache.add(images, sink));
    gathered.push_back(cache.gather(samples).to_host());
    EXPECT_THROW((void)cache.gather(dataset.indices(Split::test)), Error);
  }
  EXPECT_EQ(gathered[0], gathered[1]);
}

TEST(FeatureCache, WithoutRoomItSaysHowMuchIsMissing) {
  const Dataset dataset = workshop_images();
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  const auto network = small_network(context, "resnet50");
  ImageBatches images(context, dataset, loader_of(dataset, 13));
  RecordingSink sink;
  FeatureCache cache({.network = *network, .dataset = dataset, .parts = 4, .images = 13, .memory_bytes = 1 << 10});
  EXPECT_TRUE(contains(testing::error_of([&] { cache.add(images, sink); }),
                       "they take 0.2 MiB and 0.0 MiB of memory are allowed"));
}

/// One block more trains with every epoch, from the head down; then two epochs of the head alone, from the best
/// weights.
class Descent : public Strategy {
 public:
  EpochPlan plan(const EpochView& view) override {
    FreezePlan freeze = FreezePlan::frozen(view.parameters);
    freeze.train_head(view.parameters);
    const int blocks = int(view.blocks.size());
    if (view.epoch <= blocks)
      for (int block = blocks - int(view.epoch); block < blocks; ++block) freeze.train_block(view.parameters, block);
    return {.freeze = std::move(freeze), .may_stop_early = false, .starts_from_best = view.epoch == blocks + 2};
  }
};

struct FitRun {
  RecordingSink sink;
  bool was_complete = false;
};

/// Fit with the strategy above on the workshop's images, to `s.output`; continues where last.h5 is.
FitRun descend(
    const TrainSettings& s, DeviceKind device,
    const std::function<bool(const PassProgress&)>& stops = [](const PassProgress&) { return false; }) {
  FitRun result;
  Context context(make_backend({device}, {.threads = 2}));
  const Dataset dataset = workshop_images();
  const RunDirectory directory(s.output);
  directory.prepare(RunDirectory::Existing::resume);
  const bool resumes = directory.has("last.h5");
  std::unique_ptr<Network> network = resumes ? load_network(context, directory.last())
                                             : load_backbone(context, Workshop::get().model(), {.num_classes = 2});
  SplitBatches batches({*network, dataset, s, {.resize = 32, .crop = 32}, directory.path()});
  std::atomic<bool> stop = false;
  result.sink.on_advance = [&](const PassProgress& p) { stop = stop || stops(p); };
  Fit fit({*network, dataset, s, batches, directory, &stop}, result.sink, std::make_unique<Descent>());
  if (resumes) fit.resume(read_checkpoint(directory.last()));
  result.was_complete = fit.run();
  return result;
}

TrainSettings descent_settings(const std::filesystem::path& output, std::int64_t batch) {
  TrainSettings s = short_run(output);
  s.epochs = 12, s.batch = batch, s.lr = 1e-3;
  return s;
}

std::vector<std::string> lines_with(const std::string& text, std::string_view part) {
  std::vector<std::string> found;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (contains(line, part)) found.push_back(line);
  return found;
}

TEST(FeatureCache, RunsEqualThoseFromImagesAtEveryBoundary) {
  TemporaryFolder folder;
  TrainSettings s = descent_settings(folder / "memory", 13);  // every pass is one batch: rounding is the same too
  const FitRun memory = descend(s, DeviceKind::cpu);
  s.output = (folder / "file").string(), s.feature_cache_mb = 0;
  const FitRun file = descend(s, DeviceKind::cpu);
  s.output = (folder / "device").string(), s.device_image_cache_mb = 100;
  const FitRun device = descend(s, DeviceKind::cpu);
  s.output = (folder / "images").string(), s.device_image_cache_mb = -1, s.feature_cache = false;
  const FitRun images = descend(s, DeviceKind::cpu);
  ASSERT_TRUE(memory.was_complete && file.was_complete && device.was_complete && images.was_complete);

  const std::vector<std::string> kept = lines_with(memory.sink.notes, "computed once and kept");
  ASSERT_EQ(kept.size(), 11u) << memory.sink.notes;  // the head, eight boundaries below, the head twice more
  EXPECT_TRUE(contains(kept[0], "before the head")) << kept[0];
  EXPECT_TRUE(contains(kept[0], "1024 values for each of 19 images, 0.1 MiB in memory")) << kept[0];
  EXPECT_TRUE(contains(kept[1], "before classifier")) << kept[1];
  EXPECT_TRUE(contains(kept[8], "before denseblock1")) << kept[8];
  EXPECT_TRUE(contains(kept[10], "before the head")) << kept[10];
  EXPECT_EQ(lines_with(file.sink.notes, "in a file in " + (folder / "file").string()).size(), 11u);
  EXPECT_EQ(lines_with(images.sink.notes, "not kept: train.feature_cache is off").size(), 11u);

  EXPECT_EQ(lines_with(device.sink.notes, "in memory of cpu").size(), 11u);
  for (const char* run : {"memory", "file", "device"}) {
    EXPECT_EQ(read_text(folder / run / "steps.csv"), read_text(folder / "images" / "steps.csv")) << run;
    for (const char* model : {"last.h5", "best.h5"})
      EXPECT_EQ(differing_tensors(folder / run / model, folder / "images" / model), std::vector<std::string>{}) << run;
    for (const auto& entry : std::filesystem::directory_iterator(folder / run))
      EXPECT_TRUE(entry.path().extension() == ".csv" || entry.path().extension() == ".h5") << entry.path();
  }
  for (std::size_t e = 0; e < images.sink.epochs.size(); ++e)
    EXPECT_EQ(memory.sink.epochs[e].val_loss, images.sink.epochs[e].val_loss) << e;
}

TEST(FeatureCache, SmallBatchesChangeNothingInDoublePrecision) {
  TemporaryFolder folder;
  TrainSettings s = descent_settings(folder / "kept", 4);
  s.epochs = 3;
  descend(s, DeviceKind::reference);
  s.output = (folder / "images").string(), s.feature_cache = false;
  descend(s, DeviceKind::reference);
  EXPECT_EQ(read_text(folder / "kept" / "steps.csv"), read_text(folder / "images" / "steps.csv"));
  EXPECT_EQ(differing_tensors(folder / "kept" / "last.h5", folder / "images" / "last.h5"), std::vector<std::string>{});
}

TEST(FeatureCache, ResumesToTheSameBits) {
  TemporaryFolder folder;
  TrainSettings s = descent_settings(folder / "straight", 4);
  ASSERT_TRUE(descend(s, DeviceKind::cpu).was_complete);
  s.output = (folder / "broken").string();
  // In the middle of an epoch, while features are computed, and before the stage that starts from the best weights.
  const std::vector<std::function<bool(const PassProgress&)>> stops = {
      [](const PassProgress& p) { return p.pass == "train" && p.epoch == 3; },
      [](const PassProgress& p) { return p.pass == "features"; },
      [](const PassProgress& p) { return p.pass == "validate" && p.epoch == 10; },
      [](const PassProgress& p) { return p.pass == "train" && p.epoch == 11; }};
  for (const auto& stop : stops) EXPECT_FALSE(descend(s, DeviceKind::cpu, stop).was_complete);
  EXPECT_TRUE(descend(s, DeviceKind::cpu).was_complete);
  EXPECT_EQ(read_text(folder / "straight" / "steps.csv"), read_text(folder / "broken" / "steps.csv"));
  for (const char* model : {"last.h5", "best.h5"})
    EXPECT_EQ(differing_tensors(folder / "straight" / model, folder / "broken" / model), std::vector<std::string>{});
}

/// The lines about features of a run of `s`, one epoch of the head alone.
std::string notes_of(TrainSettings s) {
  s.epochs = 1;
  const FitRun run = descend(s, DeviceKind::cpu);
  EXPECT_TRUE(run.was_complete);
  return run.sink.notes;
}

TEST(FeatureCache, SaysWhyFeaturesAreNotKept) {
  TemporaryFolder folder;
  TrainSettings s = descent_settings(folder / "augmented", 4);
  s.augment = "light";
  EXPECT_TRUE(
      contains(notes_of(s), "the blocks before the head are frozen, but their output is not kept: augmentation"));
  s = descent_settings(folder / "short", 4);
  s.max_steps = 3;
  EXPECT_TRUE(contains(notes_of(s), "not kept: train.max_steps lets only 12 of 13 training images be used"));
}

TEST(FeatureCache, AFullDiskIsSaidAndTrainingGoesOnFromImages) {
  TemporaryFolder folder;
  TrainSettings s = descent_settings(folder / "run", 13);
  s.feature_cache_mb = 0;
  const Dataset dataset = workshop_images();
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  const auto network = load_backbone(context, Workshop::get().model(), {.num_classes = 2});
  SplitBatches batches({*network, dataset, s, {.resize = 32, .crop = 32}, folder.path()});
  FreezePlan plan = FreezePlan::frozen(network->parameters());
  plan.train_head(network->parameters());
  plan.apply(network->parameters());
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 1000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  RecordingSink sink;
  const bool goes_on = batches.start_behind({frozen_prefix(*network, plan), "digest", nullptr}, sink);
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_TRUE(goes_on);
  EXPECT_FALSE(batches.has_features());
  EXPECT_TRUE(contains(sink.notes, "not kept: cannot reserve")) << sink.notes;
  EXPECT_EQ(lines_with(sink.notes, "").size(), 1u);
  DeviceBatch batch;
  batches.training().start(0);
  ASSERT_TRUE(batches.training().next(batch));
  EXPECT_EQ(batch.part, 0);
}

TEST(FeatureCache, FeaturesOfOtherWeightsAreNotUsed) {
  TemporaryFolder folder;
  const TrainSettings s = descent_settings(folder / "run", 13);
  const Dataset dataset = workshop_images();
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  const auto network = load_backbone(context, Workshop::get().model(), {.num_classes = 2});
  SplitBatches batches({*network, dataset, s, {.resize = 32, .crop = 32}, folder.path()});
  ParameterSet& set = network->parameters();
  FreezePlan plan = FreezePlan::frozen(set);
  plan.train_head(set);
  plan.apply(set);
  const FrozenPrefix prefix = frozen_prefix(*network, plan);
  const auto start = [&] {
    RecordingSink sink;
    EXPECT_TRUE(batches.start_behind({prefix, FrozenProof::take(set).digest(), nullptr}, sink));
    return sink.notes;
  };
  EXPECT_TRUE(contains(start(), "computed once"));
  EXPECT_EQ(start(), "");  // they are at hand
  Parameter& bias = set.find("classifier.bias");
  bias.value.from_host(std::vector<double>(2, 0.5));  // not in the prefix
  EXPECT_EQ(start(), "");
  Parameter& frozen = set.find("features.norm5.bias");
  frozen.value.from_host(std::vector<double>(std::size_t(frozen.shape.size()), 0.25));
  batches.keep_features_of(FrozenProof::take(set).digest());
  EXPECT_FALSE(batches.has_features());
  EXPECT_TRUE(contains(start(), "computed once"));
  FreezePlan all = FreezePlan::trainable(set);
  all.apply(set);
  RecordingSink sink;
  EXPECT_TRUE(batches.start_behind({frozen_prefix(*network, all), FrozenProof::take(set).digest(), nullptr}, sink));
  EXPECT_EQ(sink.notes, "");
  EXPECT_FALSE(batches.has_features());
}

std::vector<std::filesystem::path> files_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path());
  return files;
}

TEST(SharedFeatures, ServeOtherRunsOfTheSameImagesAndWeights) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "plain");
  testing::run(s);
  s.output = (folder / "first").string(), s.feature_cache_dir = (folder / "shared").string();
  EXPECT_TRUE(contains(testing::run(s).sink.notes, "computed once and kept"));
  ASSERT_EQ(files_in(folder / "shared").size(), 1u);
  s.output = (folder / "second").string();
  EXPECT_TRUE(contains(testing::run(s).sink.notes, "their output was computed by an earlier run, 1024 values"));
  for (const char* run : {"first", "second"}) {
    EXPECT_EQ(differing_tensors(folder / "plain" / "last.h5", folder / run / "last.h5"), std::vector<std::string>{});
    EXPECT_EQ(read_text(folder / "plain" / "predictions.csv"), read_text(folder / run / "predictions.csv"));
  }

  // LP-FT's first stage, and another rate; then another batch size, which may round otherwise.
  TrainSettings probe_first = s;
  probe_first.strategy = "lp-ft", probe_first.output = (folder / "lp-ft").string(), probe_first.lr = 1e-4;
  EXPECT_TRUE(contains(testing::run(probe_first).sink.notes, "computed by an earlier run"));
  EXPECT_EQ(files_in(folder / "shared").size(), 1u);
  s.output = (folder / "other batch").string(), s.batch = 3;
  EXPECT_TRUE(contains(testing::run(s).sink.notes, "computed once and kept"));
  EXPECT_EQ(files_in(folder / "shared").size(), 2u);
}

TEST(SharedFeatures, ADamagedFileIsReplaced) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "first");
  s.feature_cache_dir = (folder / "shared").string();
  testing::run(s);
  const std::filesystem::path file = files_in(folder / "shared").at(0);
  const std::vector<std::uint8_t> good = read_file(file);
  std::vector<std::uint8_t> bad = good;
  bad[1000] ^= 1;
  write_atomically(file, bad);
  s.output = (folder / "second").string();
  const std::string notes = testing::run(s).sink.notes;
  EXPECT_TRUE(contains(notes, "features are computed anew: " + file.string() + ": its checksum is wrong")) << notes;
  EXPECT_EQ(read_file(file), good);
  for (const auto& [size, reason] : {std::pair<std::size_t, const char*>{10, "too short"}, {100, "its size is not"}}) {
    const std::vector<std::uint8_t> cut(good.begin(), good.begin() + std::ptrdiff_t(size));
    EXPECT_TRUE(contains(testing::error_of([&] { parse_feature_file(cut, "cut.features"); }), reason));
  }
}

TEST(SharedFeatures, TheKeyFollowsWhatValuesDependOn) {
  const Dataset dataset = workshop_images();
  Context context(make_backend({DeviceKind::cpu}, {.threads = 1}));
  const auto network = small_network(context, "resnet50");
  const Transform transform{.resize = 32, .crop = 32};
  Transform other = transform;
  other.std[1] += 1e-6F;
  const std::vector<std::int64_t> samples = dataset.indices(Split::train), reversed(samples.rbegin(), samples.rend());
  const auto key = [&](const Transform& t, const std::vector<std::int64_t>& of, std::int64_t batch, int parts,
                       const char* digest) {
    return feature_key({.network = *network,
                        .dataset = dataset,
                        .transform = t,
                        .samples = of,
                        .batch = batch,
                        .parts = parts,
                        .digest = digest});
  };
  const std::set<std::string> keys = {key(transform, samples, 4, 2, "a"),  key(other, samples, 4, 2, "a"),
                                      key(transform, reversed, 4, 2, "a"), key(transform, samples, 5, 2, "a"),
                                      key(transform, samples, 4, 3, "a"),  key(transform, samples, 4, 2, "b")};
  EXPECT_EQ(keys.size(), 6u);
  EXPECT_TRUE(keys.contains(key(transform, samples, 4, 2, "a")));
}

}  // namespace
}  // namespace graft
