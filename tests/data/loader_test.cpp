#include "data/loader.h"

#include <algorithm>
#include <set>

#include "data/resize.h"
#include "data_testing.h"

namespace graft {
namespace {

using testing::digest;
using testing::error_of;
using testing::expect_names;
using testing::TemporaryFolder;

/// 23 images of different sizes, in two classes, all for training.
class LoaderTest : public ::testing::Test {
 protected:
  LoaderTest() {
    for (int i = 0; i < 23; ++i) {
      folder_.write_image(std::string("train/") + (i % 3 == 0 ? "a/" : "b/") + std::to_string(i) + ".png", i + 1,
                          12 + i % 5, 15 + i % 4);
    }
    data_ = Dataset::open({.path = folder_.path(), .val_fraction = 0.0});
  }

  LoaderSpec spec(int threads = 1) const {
    return {.indices = data_.indices(Split::train),
            .batch = 5,
            .transform = {.resize = 10, .crop = 8},
            .seed = 3,
            .threads = threads};
  }

  /// One digest over everything a loader says in an epoch.
  static std::vector<std::string> epoch(Loader& loader, std::int64_t number, std::int64_t first_batch = 0,
                                        const BatchShare& share = {}) {
    std::vector<std::string> result;
    Batch batch;
    loader.start(number, first_batch, share);
    while (loader.next(batch)) {
      std::string text = digest(batch.pixels);
      for (const auto label : batch.labels) text += "," + std::to_string(label);
      for (const auto index : batch.indices) text += ";" + std::to_string(index);
      result.push_back(text);
    }
    return result;
  }

  TemporaryFolder folder_;
  Dataset data_;
};

TEST_F(LoaderTest, SharesOfTheBatchesAreTheWhole) {
  LoaderSpec shuffled = spec(2);
  shuffled.shuffles = true, shuffled.batch = 2;
  Loader loader(data_, shuffled);
  for (const std::int64_t first : {0, 4}) {
    const std::vector<std::string> whole = epoch(loader, 3, first);
    for (const auto& [ranks, window] : {std::pair(2, 4), std::pair(3, 4), std::pair(5, 5), std::pair(2, 12)}) {
      std::vector<std::vector<std::string>> shares;
      for (int rank = 0; rank < ranks; ++rank)
        shares.push_back(epoch(loader, 3, first, {.rank = rank, .ranks = ranks, .window = window}));
      std::vector<std::string> together;
      std::vector<std::size_t> next(shares.size());
      for (std::int64_t b = first; b < 12; ++b) {
        int owners = 0;
        for (int rank = 0; rank < ranks; ++rank)
          if (BatchShare{rank, ranks, window}.has(b)) {
            ++owners;
            const auto r = std::size_t(rank);
            ASSERT_LT(next[r], shares[r].size());
            together.push_back(shares[r][next[r]++]);
          }
        EXPECT_EQ(owners, 1) << b;
      }
      EXPECT_EQ(together, whole) << ranks << " ranks, windows of " << window;
    }
  }
}

TEST_F(LoaderTest, BatchesHoldThePreparedImagesInListingOrder) {
  Loader loader(data_, spec());
  Batch batch;
  std::int64_t seen = 0;
  for (loader.start(0); loader.next(batch);) {
    EXPECT_EQ(batch.n(), seen == 20 ? 3 : 5);
    EXPECT_EQ(batch.height, 8);
    EXPECT_EQ(batch.width, 8);
    ASSERT_EQ(batch.pixels.size(), static_cast<std::size_t>(batch.n() * 8 * 8 * 3));
    for (std::size_t i = 0; i < batch.labels.size(); ++i, ++seen) {
      EXPECT_EQ(batch.indices[i], seen);
      EXPECT_EQ(batch.labels[i], data_.samples()[static_cast<std::size_t>(seen)].label);
      const auto expected = prepare(data_.load(seen), spec().transform);
      EXPECT_TRUE(
          std::equal(expected.begin(), expected.end(), batch.pixels.begin() + static_cast<std::ptrdiff_t>(i) * 192));
    }
  }
  EXPECT_EQ(seen, 23);
  EXPECT_FALSE(loader.next(batch));
}

TEST_F(LoaderTest, ThreadsCacheAndReadAheadChangeNothing) {
  for (const char* preset : {"none", "strong"}) {
    LoaderSpec plain = spec();
    plain.shuffles = true;
    plain.augmentation = augmentation_preset(preset);
    plain.cache_bytes = 0;
    plain.batches_ahead = 0;
    Loader reference(data_, plain);
    const auto first = epoch(reference, 0), second = epoch(reference, 1);
    EXPECT_NE(first, second);
    for (const int threads : {1, 2, 7}) {
      for (const std::int64_t cache : {0, 3000, 1 << 20}) {  // none, some, all
        LoaderSpec other = plain;
        other.threads = threads;
        other.cache_bytes = cache;
        other.batches_ahead = threads % 4;
        Loader loader(data_, other);
        EXPECT_EQ(epoch(loader, 0), first);
        EXPECT_EQ(epoch(loader, 1), second);
        EXPECT_EQ(epoch(loader, 0), first) << "from the cache";
      }
    }
  }
}

TEST_F(LoaderTest, EveryEpochShowsEverySampleOnce) {
  LoaderSpec shuffled = spec(2);
  shuffled.shuffles = true;
  const Loader loader(data_, shuffled);
  EXPECT_EQ(loader.order(4), loader.order(4));
  EXPECT_NE(loader.order(4), loader.order(5));
  for (std::int64_t number = 0; number < 4; ++number) {
    auto order = loader.order(number);
    std::sort(order.begin(), order.end());
    EXPECT_EQ(order, shuffled.indices);
  }
  EXPECT_EQ(loader.order(kListingOrder), shuffled.indices);
}

TEST_F(LoaderTest, AnEpochCanStartInTheMiddleAndBeLeft) {
  LoaderSpec shuffled = spec(3);
  shuffled.shuffles = true;
  shuffled.augmentation = augmentation_preset("standard");
  Loader loader(data_, shuffled);
  const auto whole = epoch(loader, 2);
  Batch batch;
  loader.start(9);
  ASSERT_TRUE(loader.next(batch));  // and the rest is never asked for
  EXPECT_EQ(epoch(loader, 2, 3), std::vector<std::string>(whole.begin() + 3, whole.end()));
  EXPECT_TRUE(epoch(loader, 2, 5).empty());
  loader.start(0);  // destroyed while working
}

TEST_F(LoaderTest, AnUnreadableImageReachesTheCaller) {
  const std::string bad = data_.samples()[13].path;
  folder_.write(bad, "no image any more");
  Loader loader(data_, spec(2));
  Batch batch;
  loader.start(0);
  EXPECT_TRUE(loader.next(batch));
  EXPECT_TRUE(loader.next(batch));
  const auto third = [&] { loader.next(batch); };
  expect_names(error_of(third), {bad});
  expect_names(error_of(third), {bad});
}

TEST_F(LoaderTest, RefusesWhatItCannotDo) {
  const auto refusal = [&](auto change) {
    LoaderSpec broken = spec();
    change(broken);
    return error_of([&] { Loader(data_, broken); });
  };
  expect_names(refusal([](LoaderSpec& s) { s.indices.clear(); }), {"empty"});
  expect_names(refusal([](LoaderSpec& s) { s.indices.push_back(99); }), {"99"});
  refusal([](LoaderSpec& s) { s.batch = 0; });
  refusal([](LoaderSpec& s) { s.threads = 0; });
  refusal([](LoaderSpec& s) { s.transform.crop = 0; });
  refusal([](LoaderSpec& s) { s.transform.std[1] = 0.0F; });
  refusal([](LoaderSpec& s) { s.augmentation.contrast = -1.0; });
}

}  // namespace
}  // namespace graft
