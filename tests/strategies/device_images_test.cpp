// Batches that the device makes of decoded images equal those of the loader's threads to the bit, whatever of the
// images stays on the device and however late it is with its calls. Whole runs on such batches: replay_test.cpp.
#include "strategies/batches/device_images.h"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <numeric>

#include "models/network_io.h"
#include "strategies/analysis/memory_estimate.h"
#include "strategies/batches/split_batches.h"
#include "tests/data/data_testing.h"
#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

/// Noise of different sizes; number 4 shrinks further than a device can.
class DrawnImages final : public ImageSource {
 public:
  Image load(std::int64_t i, ImageInfo*) const override {
    ++loads;
    Image image = Image::blank(i == 4 ? 700 : 21 + i % 5, 18 + i % 7);
    Random random({.seed = 5, .index = std::uint64_t(i)});
    for (std::uint8_t& v : image.rgb) v = std::uint8_t(random.below(256));
    return image;
  }
  mutable std::atomic<int> loads = 0;
};

constexpr std::int64_t kImages = 23, kBatch = 5, kCrop = 16;
constexpr std::int64_t kCropBytes = kCrop * kCrop * 3;

class DeviceImages : public ::testing::Test {
 protected:
  DeviceImages() {
    std::vector<Sample> samples(kImages);
    for (std::size_t i = 0; i < samples.size(); ++i) samples[i].label = std::int32_t(i % 2);
    dataset = Dataset({"a", "b"}, samples, source);
  }

  LoaderSpec spec(const std::string& preset, std::int64_t cache_bytes = 0) const {
    return {.indices = dataset.indices(Split::train),
            .batch = kBatch,
            .shuffles = true,
            .transform = {.resize = 20, .crop = kCrop, .is_bgr = true},
            .augmentation = augmentation_preset(preset),
            .seed = 3,
            .threads = 2,
            .cache_bytes = cache_bytes};
  }

  std::shared_ptr<DrawnImages> source = std::make_shared<DrawnImages>();
  Dataset dataset;
};

/// All that a source gives in an epoch; pixels are read when every batch has been asked for.
struct Epoch {
  std::vector<std::vector<double>> pixels;
  std::vector<std::int32_t> labels;
  std::vector<std::int64_t> samples;
  friend bool operator==(const Epoch&, const Epoch&) = default;
};

Epoch read_epoch(BatchSource& source, std::int64_t number, std::int64_t first_batch = 0) {
  Epoch epoch;
  std::vector<DeviceBatch> batches;
  source.start(number, first_batch);
  for (DeviceBatch batch; source.next(batch); batch = {}) batches.push_back(batch);
  for (const DeviceBatch& b : batches) {
    EXPECT_EQ(b.part, 0);
    epoch.pixels.push_back(b.x.to_host());
    epoch.labels.insert(epoch.labels.end(), b.labels.begin(), b.labels.end());
    epoch.samples.insert(epoch.samples.end(), b.samples.begin(), b.samples.end());
  }
  return epoch;
}

/// Counts calls by name.
class CallCounter final : public DeviceObserver {
 public:
  void call(const DeviceCall& call, const std::function<void()>& run) override {
    ++calls[std::string(call.op)];
    run();
  }
  std::map<std::string, int> calls;
};

using Calls = std::map<std::string, int>;

TEST_F(DeviceImages, EqualTheLoadersBatches) {
  for (const DeviceKind kind : {DeviceKind::cpu, DeviceKind::reference}) {
    Context context(make_backend({kind}, {.threads = 2}));
    for (const std::string& preset : augmentation_names()) {
      ImageBatches expected(context, dataset, spec(preset));
      // None stays, some in two blocks, all.
      for (const std::int64_t resident : {std::int64_t{0}, 9 * kCropBytes + 7, std::int64_t{1} << 20})
        for (const std::int64_t on_host : {0, 5000}) {
          SCOPED_TRACE(preset + ", " + std::to_string(resident) + " bytes on " + to_string(Device{kind}));
          DeviceImageBatches images(context, dataset, spec(preset, on_host), {.resident_bytes = resident});
          for (const std::int64_t epoch : {std::int64_t{0}, std::int64_t{1}, std::int64_t{0}, kListingOrder})
            EXPECT_EQ(read_epoch(images, epoch), read_epoch(expected, epoch));
        }
    }
  }
}

TEST_F(DeviceImages, EqualTheLoadersBatchesIn16Bits) {
  Context context(make_backend({DeviceKind::reference}, {.precision = Precision::bf16}));
  ImageBatches expected(context, dataset, spec("strong"));
  DeviceImageBatches images(context, dataset, spec("strong"), {.resident_bytes = 20000});
  EXPECT_EQ(read_epoch(images, 1), read_epoch(expected, 1));
}

TEST_F(DeviceImages, AnEpochCanStartInTheMiddleAndBeLeft) {
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  ImageBatches expected(context, dataset, spec("standard"));
  DeviceImageBatches images(context, dataset, spec("standard"), {.resident_bytes = 20000});
  DeviceBatch batch;
  images.start(7, 0);
  ASSERT_TRUE(images.next(batch));  // and the rest, which is being read, is never asked for
  EXPECT_EQ(read_epoch(images, 7, 2), read_epoch(expected, 7, 2));
  EXPECT_EQ(read_epoch(images, 7), read_epoch(expected, 7));
  EXPECT_EQ(images.order(3), expected.order(3));
}

TEST_F(DeviceImages, WhatStaysIsReadAndSentOnce) {
  CallCounter counter;
  Context context(std::make_unique<ObservedBackend>(make_backend({DeviceKind::cpu}), counter));
  LoaderSpec listing = spec("light");
  listing.shuffles = false;
  DeviceImageBatches images(context, dataset, listing, {.resident_bytes = std::int64_t{1} << 20});
  source->loads = 0;
  DeviceBatch batch;
  images.start(0, 0);
  while (images.next(batch)) continue;
  EXPECT_EQ(counter.calls, (Calls{{"upload", 5}, {"images_to_input", 5}})) << "a batch goes in one piece";
  EXPECT_EQ(images.resident(), kImages);
  EXPECT_EQ(source->loads, kImages);
  counter.calls.clear();
  images.start(1, 0);
  while (images.next(batch)) continue;
  EXPECT_EQ(counter.calls, (Calls{{"images_to_input", 5}}));
  EXPECT_EQ(source->loads, kImages);
}

TEST_F(DeviceImages, WhatDoesNotStayIsSentEveryTimeAndKeptOnTheHost) {
  CallCounter counter;
  Context context(std::make_unique<ObservedBackend>(make_backend({DeviceKind::cpu}), counter));
  LoaderSpec listing = spec("none", std::int64_t{1} << 20);
  listing.shuffles = false;
  DeviceImageBatches images(context, dataset, listing, {.resident_bytes = 7 * kCropBytes});
  source->loads = 0;
  DeviceBatch batch;
  for (std::int64_t epoch : {0, 1}) {
    counter.calls.clear();
    images.start(epoch, 0);
    while (images.next(batch)) continue;
    // Of 5 batches one and two fifths stay; the second goes to two places.
    EXPECT_EQ(counter.calls, (Calls{{"upload", epoch == 0 ? 6 : 4}, {"images_to_input", 5}}));
    EXPECT_EQ(images.resident(), 7);
  }
  EXPECT_EQ(source->loads, kImages);
}

TEST_F(DeviceImages, AnImageThatShrinksTooFarIsFinishedByTheHost) {
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  DeviceImageBatches images(context, dataset, spec("standard"), {.resident_bytes = std::int64_t{1} << 20});
  read_epoch(images, 0);
  EXPECT_EQ(images.resident(), kImages - 1);
}

TEST_F(DeviceImages, WhereMemoryIsShortSomeIsLeftForWhatIsSent) {
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  std::int64_t all = 0;  // bytes of whole images
  for (std::int64_t i = 0; i < kImages; ++i) all += i == 4 ? 0 : dataset.load(i).bytes();
  ImageBatches expected(context, dataset, spec("standard"));
  const auto resident = [&](std::int64_t bytes, bool is_all) {
    DeviceImageBatches images(context, dataset, spec("standard"), {.resident_bytes = bytes, .is_all = is_all});
    EXPECT_EQ(read_epoch(images, 0), read_epoch(expected, 0));
    return images.resident();
  };
  EXPECT_EQ(resident(all, false), kImages - 1) << "one is finished by the host";
  // Two buffers of a batch, of 22 images some five, and a quarter more are half of all.
  EXPECT_NEAR(double(resident(all, true)), double(kImages - 1) * 0.45, 3);
  EXPECT_EQ(resident(2 * all, true), kImages - 1);
  EXPECT_EQ(resident(all / 3, true), 0);
}

/// A device that is as late with its calls as it may be, and with what is uploaded as early or as late.
class LateDevice final : public ObservedBackend, private DeviceObserver {
 public:
  explicit LateDevice(bool uploads_early)
      : ObservedBackend(make_backend({DeviceKind::cpu}), static_cast<DeviceObserver&>(*this)),
        uploads_early_(uploads_early) {}
  ~LateDevice() override { run_until(made_); }
  bool is_asynchronous() const override { return true; }
  bool prepares_images() const override { return true; }
  std::unique_ptr<Upload> make_upload(std::int64_t bytes) override {
    return std::make_unique<LateUpload>(*this, bytes);
  }

 private:
  class LateUpload final : public Upload {
   public:
    LateUpload(LateDevice& device, std::int64_t bytes) : device_(device), bytes_(std::size_t(bytes)) { follow_calls(); }
    ~LateUpload() override { copy_all(); }
    std::byte* memory() override {
      copy_all();
      return bytes_.data();
    }
    void send(void* to, std::int64_t offset, std::int64_t bytes) override {
      device_.run_until(follows_);
      sent_.push_back([=, this] { std::memcpy(to, bytes_.data() + offset, std::size_t(bytes)); });
      if (device_.uploads_early_) copy_all();
    }
    void arrive() override {
      device_.add([this] { copy_all(); });
    }
    void follow_calls() override { follows_ = device_.made_; }

   private:
    void copy_all() {
      for (const std::function<void()>& copy : sent_) copy();
      sent_.clear();
    }
    LateDevice& device_;
    std::vector<std::byte> bytes_;
    std::vector<std::function<void()>> sent_;
    std::int64_t follows_ = 0;
  };

  void call(const DeviceCall& call, const std::function<void()>& run) override {
    if (!call.uses_host && !call.waits) return add(run);
    run_until(made_);
    run();
  }
  void add(std::function<void()> run) {
    calls_.push_back(std::move(run));
    ++made_;
  }
  void run_until(std::int64_t number) {
    while (made_ - std::ssize(calls_) < number) {
      const std::function<void()> run = std::move(calls_.front());
      calls_.pop_front();
      run();
    }
  }

  bool uploads_early_;
  std::deque<std::function<void()>> calls_;  // not yet run
  std::int64_t made_ = 0;                    // ever
};

/// Values as they lie in memory.
std::vector<double> from_nhwc(const Tensor& x) {
  std::vector<float> values(std::size_t(x.shape().size()));
  x.backend().copy_out(values.data(), x.view().data, std::int64_t(values.size() * sizeof(float)));
  return {values.begin(), values.end()};
}

TEST_F(DeviceImages, ALateDeviceSeesTheSame) {
  Context plain(make_backend({DeviceKind::cpu}, {.threads = 2}));
  ImageBatches expected(plain, dataset, spec("standard"));
  for (const bool uploads_early : {true, false})
    for (const std::int64_t resident : {0, 9000, 1 << 20}) {
      SCOPED_TRACE((uploads_early ? "early, " : "late, ") + std::to_string(resident));
      Context late(std::make_unique<LateDevice>(uploads_early));
      DeviceImageBatches images(late, dataset, spec("standard"), {.resident_bytes = resident});
      for (const std::int64_t epoch : {0, 1}) EXPECT_EQ(read_epoch(images, epoch), read_epoch(expected, epoch));
    }
}

TEST_F(DeviceImages, ALateDevicePicksTheSameFeatures) {
  const std::int64_t images = dataset.size(), values = 30;  // of each
  std::vector<float> features(std::size_t(images * values));
  std::iota(features.begin(), features.end(), 1.0F);
  testing::TemporaryFolder folder;
  write_feature_file(folder / "features",
                     {.shape = {images, 5, 2, 3}, .value_bytes = 4, .bytes = std::as_bytes(std::span(features))});
  std::vector<std::int64_t> samples(static_cast<std::size_t>(images));
  std::iota(samples.begin(), samples.end(), 0);
  for (const bool uploads_early : {true, false})
    for (const std::int64_t device_bytes : {0, 1 << 20}) {
      SCOPED_TRACE((uploads_early ? "early, " : "late, ") + std::to_string(device_bytes));
      Context late(std::make_unique<LateDevice>(uploads_early));
      const auto network = testing::small_network(late, "resnet50");
      FeatureCache cache({.network = *network,
                          .dataset = dataset,
                          .parts = 1,
                          .images = images,
                          .device_bytes = device_bytes,
                          .folder = {}});
      cache.take(folder / "features", samples);
      cache.move_to_device();
      std::vector<Tensor> batches;
      for (std::int64_t b = 0; b < 5; ++b) {
        const std::int64_t chosen[] = {(3 * b + 1) % images, b % images, (3 * b + 1) % images};
        batches.push_back(cache.gather(chosen));
      }
      for (std::int64_t b = 0; b < 5; ++b) {
        const std::vector<double> found = from_nhwc(batches[std::size_t(b)]);
        ASSERT_EQ(std::ssize(found), 3 * values);
        for (std::int64_t i = 0; i < 3 * values; ++i) {
          const std::int64_t sample = (i / values == 1 ? b : 3 * b + 1) % images;
          EXPECT_EQ(found[std::size_t(i)], double(features[std::size_t(sample * values + i % values)]))
              << b << " " << i;
        }
      }
    }
}

TEST(ResidentImages, KeepWithinTheBudgetInFewBlocks) {
  const std::unique_ptr<Backend> device = make_backend({DeviceKind::cpu});
  ResidentImages images(*device, {.samples = 100, .budget_bytes = 1000, .expected_bytes = 600});
  const Size size{4, 5};  // 60 bytes
  for (int i = 0; i < 16; ++i) EXPECT_TRUE(images.add(2 * i, size)) << i;
  EXPECT_FALSE(images.add(40, size));
  EXPECT_TRUE(images.add(41, {2, 5})) << "a smaller one still fits";
  EXPECT_EQ(images.count(), 17);
  ASSERT_EQ(images.blocks().size(), 2u);
  EXPECT_EQ(images.blocks()[0].shape.size(), 600);
  EXPECT_EQ(images.blocks()[1].shape.size(), 400);
  const auto place = images.find(22);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->block, 1);
  EXPECT_EQ(place->first_byte, 60);
  EXPECT_EQ(place->size, size);
  EXPECT_FALSE(images.find(21));
}

TEST(DeviceImagesRun, SaysWhereItsImagesAre) {
  testing::TemporaryFolder folder;
  TrainSettings settings = testing::short_run(folder / "run");
  settings.epochs = 1, settings.device_image_cache_mb = 1;
  const testing::Ran ran = testing::run(settings);
  EXPECT_TRUE(testing::contains(ran.sink.notes, "cpu makes its batches of decoded images; up to 1.0 MiB of them stay"))
      << ran.sink.notes;
  settings.output = (folder / "plain").string(), settings.device_image_cache_mb = -1;
  EXPECT_FALSE(testing::contains(testing::run(settings).sink.notes, "makes its batches"));
}

/// A device whose memory is free to some extent.
class RoomyDevice final : public ObservedBackend, private DeviceObserver {
 public:
  explicit RoomyDevice(std::int64_t free)
      : ObservedBackend(make_backend({DeviceKind::cpu}), static_cast<DeviceObserver&>(*this)), free_(free) {}
  std::int64_t free_bytes() const override { return free_; }
  bool prepares_images() const override { return true; }

 private:
  std::int64_t free_;
};

TEST(MemoryForImages, IsWhatTheRunLeavesOrWhatTheSettingsSay) {
  ModelInfo info;
  info.architecture = "resnet50";
  info.num_classes = 2;
  info.input_size = info.resize = 32;
  TrainSettings settings;
  settings.batch = 4;
  const auto bytes = [&](std::int64_t free) {
    Context context(std::make_unique<RoomyDevice>(free));
    const auto network = make_network(context, info);
    return memory_for_images(*network, settings, 20);
  };
  constexpr std::int64_t kGiB = std::int64_t{1} << 30;
  // The network with Adam's moments takes some 0.4 GiB, cuDNN is left 1 GiB, and half a GiB is spared.
  const std::int64_t much = bytes(10 * kGiB);
  EXPECT_GT(much, 7 * kGiB);
  EXPECT_LT(much, 8.4 * kGiB);
  EXPECT_EQ(bytes(20 * kGiB), much + 10 * kGiB);
  EXPECT_EQ(bytes(kGiB), 0);
  settings.device_image_cache_mb = 3;
  EXPECT_EQ(bytes(kGiB), 3 << 20);
  settings.device_image_cache_mb = 0;
  EXPECT_EQ(bytes(10 * kGiB), 0);
  settings.device_image_cache_mb = -1;
  Context cpu(make_backend({DeviceKind::cpu}));
  EXPECT_EQ(memory_for_images(*make_network(cpu, info), settings, 20), 0) << "a CPU's loader makes its batches";
}

/// What a probe says of its features on a device with so much free memory.
std::string features_note(std::int64_t free, std::int64_t megabytes) {
  testing::TemporaryFolder folder;
  TrainSettings settings = testing::short_run(folder / "run");
  settings.device_image_cache_mb = megabytes;
  const Dataset dataset = Dataset::open({.path = testing::Workshop::get().images()});
  Context context(std::make_unique<RoomyDevice>(free));
  const auto network = load_backbone(context, testing::Workshop::get().model(), {.num_classes = 2});
  SplitBatches batches({*network, dataset, settings, {.resize = 32, .crop = 32}, folder.path()});
  FreezePlan plan = FreezePlan::frozen(network->parameters());
  plan.train_head(network->parameters());
  plan.apply(network->parameters());
  testing::RecordingSink sink;
  EXPECT_TRUE(batches.start_behind({frozen_prefix(*network, plan), "digest", nullptr}, sink));
  return sink.notes;
}

TEST(MemoryForFeatures, IsHalfOfWhatImagesLeaveAndNeverWhatTheRunNeeds) {
  constexpr std::int64_t kGiB = std::int64_t{1} << 30;
  EXPECT_TRUE(testing::contains(features_note(10 * kGiB, -1), "in memory of cpu"));
  EXPECT_TRUE(testing::contains(features_note(10 * kGiB, 100), "in memory of cpu"));
  EXPECT_FALSE(testing::contains(features_note(10 * kGiB, 0), "in memory of cpu"));
  EXPECT_FALSE(testing::contains(features_note(kGiB / 4, -1), "in memory of cpu"));
  EXPECT_FALSE(testing::contains(features_note(kGiB / 4, 100), "in memory of cpu")) << "whatever the settings say";
}

}  // namespace
}  // namespace graft
