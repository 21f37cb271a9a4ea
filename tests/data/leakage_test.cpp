// What counts as a copy, which copies leak, and that graft's own splits keep copies together.
#include "data/leakage.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>

#include "data/augment.h"
#include "data/resize.h"
#include "kernels/philox.h"
#include "tests/data/data_testing.h"

namespace graft {
namespace {

using testing::error_of;
using testing::TemporaryFolder;
using testing::transposed;

/// Blobs of many sizes at random places: no two seeds are alike.
Image blobs(std::uint64_t seed, std::int64_t side = 160) {
  Random random({.seed = seed, .stream = RandomStream::drawing, .epoch = 9, .index = 0});
  Image image = Image::blank(side, side, 120);
  for (int blob = 0; blob < 400; ++blob) {
    const double x = random.uniform(0, double(side)), y = random.uniform(0, double(side));
    const double radius = random.uniform(1.5, 6) * double(side) / 160, change = random.uniform(-60, 60);
    for (std::int64_t v = std::max<std::int64_t>(0, std::int64_t(y - radius)); v < std::min<double>(side, y + radius);
         ++v) {
      for (std::int64_t u = std::max<std::int64_t>(0, std::int64_t(x - radius)); u < std::min<double>(side, x + radius);
           ++u) {
        if (std::hypot(double(u) - x, double(v) - y) > radius) continue;
        for (int c = 0; c < 3; ++c) {
          std::uint8_t& value = image.row(v)[3 * u + c];
          value = static_cast<std::uint8_t>(std::clamp(value + change * (0.8 + 0.2 * c), 0.0, 255.0));
        }
      }
    }
  }
  return image;
}

/// The middle after turning, without the corners that turning leaves black.
Image turned(const Image& image, double degrees) {
  const Image whole = rotate(image, degrees);
  const double angle = degrees * std::numbers::pi / 180;
  const auto side =
      static_cast<std::int64_t>(double(image.width) / (std::abs(std::cos(angle)) + std::abs(std::sin(angle))));
  return resize(center_crop(whole, side), {.height = image.height, .width = image.width});
}

double similarity(const Image& a, const Image& b) { return likeness(RingSpectrum(a), RingSpectrum(b)).similarity; }

TEST(Likeness, SurvivesWhatCopiesUndergo) {
  const Image image = blobs(1);
  EXPECT_NEAR(similarity(image, image), 1, 1e-5);
  Image brighter = image;
  adjust_brightness(brighter, 1.25F);
  EXPECT_GT(similarity(image, brighter), 0.97);
  Image grey = image;
  adjust_saturation(grey, 0);
  EXPECT_GT(similarity(image, grey), 0.97);
  EXPECT_GT(similarity(image, resize(image, {.height = 80, .width = 80})), 0.93);
  EXPECT_GT(similarity(image, resize(image, {.height = 150, .width = 240})), 0.93);  // another aspect
  for (const int turn : {0, 1, 2, 3}) {
    for (const bool is_mirrored : {false, true}) {
      Image other = image;
      if (is_mirrored) flip_horizontally(other);
      for (int t = 0; t < turn; ++t) {
        other = transposed(other);
        flip_horizontally(other);
      }
      const Likeness found = likeness(RingSpectrum(image), RingSpectrum(other));
      EXPECT_GT(found.similarity, 0.97) << turn << is_mirrored;
      EXPECT_EQ(found.is_mirrored, is_mirrored);
      EXPECT_DOUBLE_EQ(found.zoom, 1);
    }
  }
  for (const double degrees : {-25.0, -12.0, 7.0, 25.0}) {
    EXPECT_GT(similarity(image, turned(image, degrees)), kNearDuplicate) << degrees;
    Image other = turned(image, degrees);
    flip_vertically(other);
    EXPECT_GT(similarity(turned(image, -10), other), kNearDuplicate) << degrees;
  }
}

TEST(Likeness, TellsDifferentImagesApart) {
  std::vector<RingSpectrum> spectra;
  for (std::uint64_t seed = 0; seed < 40; ++seed) spectra.emplace_back(blobs(seed));
  for (std::size_t i = 0; i < spectra.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) EXPECT_LT(likeness(spectra[i], spectra[j]).similarity, 0.7) << i << ' ' << j;
  }
  // Nothing is like an image that is even or tiny.
  const RingSpectrum even(Image::blank(60, 60, 90)), tiny(blobs(1, 12));
  EXPECT_TRUE(even.is_empty());
  EXPECT_TRUE(tiny.is_empty());
  EXPECT_EQ(likeness(even, even).similarity, -1);
}

TEST(PixelDigest, DependsOnEveryByteAndOnTheSize) {
  Image image = blobs(3, 21);
  const PixelDigest first = pixel_digest(image);
  EXPECT_EQ(first, pixel_digest(Image(image)));
  for (std::size_t i = 0; i < image.rgb.size(); i += 37) {
    image.rgb[i] ^= 1;
    EXPECT_NE(first, pixel_digest(image)) << i;
    image.rgb[i] ^= 1;
  }
  image.rgb.back() ^= 0x80;
  EXPECT_NE(first, pixel_digest(image));
  EXPECT_NE(pixel_digest(Image::blank(4, 9)), pixel_digest(Image::blank(9, 4)));
}

TEST(NearDuplicates, TheIndexFindsWhatComparingAllPairsFinds) {
  // 320 images, more than are compared pair by pair; 60 of them are copies of others.
  std::vector<RingSpectrum> spectra;
  for (std::uint64_t seed = 0; seed < 260; ++seed) spectra.emplace_back(blobs(seed, 96));
  for (std::uint64_t seed = 0; seed < 60; ++seed) spectra.emplace_back(turned(blobs(seed * 4, 96), double(seed) - 30));
  std::int64_t expected = 0, missed = 0;
  const std::vector<NearPair> pairs = near_duplicates(spectra, 2);
  for (std::size_t i = 0; i < spectra.size(); ++i) {
    for (std::size_t j = i + 1; j < spectra.size(); ++j) {
      const double value = likeness(spectra[i], spectra[j]).similarity;
      const auto found = std::ranges::find_if(
          pairs, [&](const NearPair& p) { return p.a == std::int64_t(i) && p.b == std::int64_t(j); });
      if (value <= kNearDuplicate) {
        EXPECT_EQ(found, pairs.end()) << i << ' ' << j;
        continue;
      }
      ++expected;
      if (found == pairs.end()) {
        ++missed;
      } else {
        EXPECT_NEAR(found->similarity, value, 1e-5);
        EXPECT_LE(found->distance, 15);
      }
    }
  }
  EXPECT_GE(expected, 50);
  EXPECT_LE(missed, expected / 10);
  EXPECT_EQ(pairs, near_duplicates(spectra, 1));
}

/// A folder with images of two classes in two splits; `name` -> image.
void write(const TemporaryFolder& folder, const std::map<std::string, Image>& images) {
  for (const auto& [name, image] : images) write_atomically(folder / name, encode_png(image));
}

Dataset open(const std::filesystem::path& path) { return Dataset::open({.path = path, .val_fraction = 0}); }

TEST(Leaks, CopiesInAnotherSplitAreFound) {
  const TemporaryFolder folder;
  write(folder, {{"train/a/1.png", blobs(1)},
                 {"train/a/1b.png", blobs(1)},
                 {"train/a/2.png", blobs(2)},
                 {"train/b/3.png", blobs(3)},
                 {"val/a/1.png", blobs(1)},
                 {"test/a/4.png", blobs(4)},
                 {"test/a/twice.png", turned(blobs(1), 20)},
                 {"test/b/5.png", blobs(5)},
                 {"test/b/3.png", blobs(3)}});
  const LeakageReport report = find_leaks(open(folder.path()), 2);
  EXPECT_EQ(report.images, 9);
  EXPECT_EQ(report.held_out_images, 5);
  EXPECT_EQ(report.count(LeakKind::duplicates), (LeakCount{.pairs = 3, .images = 2}));
  ASSERT_EQ(report.duplicates.size(), 3U);
  EXPECT_EQ(report.duplicates[0].a, "train/a/1.png");
  EXPECT_EQ(report.duplicates[0].b, "val/a/1.png");
  EXPECT_EQ(report.duplicates[2].split_b, Split::test);
  // The turned copy leaks from both training images and the validation image.
  EXPECT_EQ(report.count(LeakKind::near_duplicates), (LeakCount{.pairs = 3, .images = 1}));
  ASSERT_EQ(report.near_duplicates.size(), 3U);
  EXPECT_EQ(report.near_duplicates[0].b, "test/a/twice.png");
  EXPECT_GT(report.near_duplicates[0].similarity, kNearDuplicate);
  EXPECT_FALSE(report.has(LeakKind::groups));
  EXPECT_FALSE(report.is_clean());

  const LeakageReport back = leakage_from_json(to_json(report));
  EXPECT_EQ(back, report);
  const std::string text = leaks_text(report, {LeakKind::duplicates}, 2);
  EXPECT_NE(text.find("near-duplicates: 3 pairs"), std::string::npos) << text;
  EXPECT_NE(text.find("1 of 5 held-out images"), std::string::npos) << text;
  EXPECT_NE(text.find("and 1 more"), std::string::npos) << text;
  EXPECT_EQ(text.find("\nduplicates"), std::string::npos) << text;
  const std::string csv = leaks_csv(report);
  EXPECT_EQ(std::ranges::count(csv, '\n'), 7);
  EXPECT_NE(csv.find("near-duplicates,train/a/1.png,train,test/a/twice.png,test,"), std::string::npos) << csv;
}

TEST(Leaks, GroupsInTwoSplitsAreFound) {
  const TemporaryFolder folder;
  std::string csv = "path,label,split,patient\n";
  const auto add = [&](int number, const char* rest) {
    const std::string name = std::to_string(number) + ".png";
    write(folder, {{name, blobs(std::uint64_t(number))}});
    csv += name + "," + rest + "\n";
  };
  add(1, "x,train,p"), add(2, "y,train,q"), add(3, "y,test,p"), add(4, "x,test,r"), add(5, "x,val,p"),
      add(6, "x,test,");
  add(7, "x,train,");
  const LeakageReport report = find_leaks(open(folder.write("list.csv", csv)), 1);
  EXPECT_EQ(report.groups, (std::vector<std::string>{"p"}));
  EXPECT_EQ(report.count(LeakKind::groups), (LeakCount{.pairs = 1, .images = 2}));
  EXPECT_TRUE(report.duplicates.empty());
  EXPECT_TRUE(report.near_duplicates.empty());
  EXPECT_EQ(leakage_from_json(to_json(report)), report);
}

TEST(Leaks, OwnSplitsKeepCopiesTogether) {
  const TemporaryFolder folder;
  for (std::uint64_t i = 0; i < 24; ++i) {
    // In either class every image has an equal copy, and every other one a turned copy.
    const std::string name = std::string(i % 2 == 0 ? "a/" : "b/") + std::to_string(i);
    write(folder, {{name + ".png", blobs(i, 64)}, {name + "-copy.png", blobs(i, 64)}});
    if (i % 4 < 2) write(folder, {{name + "-turned.png", turned(blobs(i, 64), 15)}});
  }
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const Dataset data = Dataset::open({.path = folder.path(), .seed = seed, .threads = 2});
    EXPECT_GE(data.indices(Split::val).size(), 6U);
    EXPECT_GE(data.indices(Split::test).size(), 6U);
    const LeakageReport report = find_leaks(data, 1);
    EXPECT_TRUE(report.is_clean()) << leaks_text(report, {}, 9);
  }
}

TEST(Leaks, DamagedImagesAreCopiesOfNone) {
  const TemporaryFolder folder;
  write(folder, {{"train/a/1.png", blobs(1)}, {"train/b/2.png", blobs(2)}, {"test/a/1.png", blobs(1)}});
  folder.write("train/a/0.png", "no image");
  folder.write("test/b/0.png", "no image");
  const Dataset data =
      Dataset::open({.path = folder.path(), .val_fraction = 0, .skip_bad = true, .finds_copies = true});
  ASSERT_NE(data.copies(), nullptr);
  const LeakageReport report = find_leaks(data, 1);
  ASSERT_EQ(report.duplicates.size(), 1U);
  EXPECT_EQ(report.duplicates[0].a, "train/a/1.png");  // numbers moved when the damaged ones were dropped
  EXPECT_EQ(report.duplicates[0].b, "test/a/1.png");
}

TEST(Leaks, KindsByName) {
  EXPECT_EQ(parse_leak_kinds("", "x"), std::vector<LeakKind>{});
  EXPECT_EQ(parse_leak_kinds("groups, duplicates,groups", "x"),
            (std::vector<LeakKind>{LeakKind::duplicates, LeakKind::groups}));
  EXPECT_EQ(parse_leak_kinds("all", "x").size(), 3U);
  const std::string text = error_of([] { parse_leak_kinds("duplicate", "train.allow_leaks"); });
  EXPECT_NE(text.find("train.allow_leaks: unknown kind of leak 'duplicate'"), std::string::npos) << text;
  EXPECT_NE(error_of([] { leakage_from_json("{}"); }).find("not a report"), std::string::npos);
}

TEST(Leaks, RealSets) {
  const auto root = testing::real_data();
  if (!std::filesystem::exists(root / "xray_nih")) GTEST_SKIP() << "no real data at " << root;
  const auto pairs = [&](const char* name) {
    const LeakageReport report = find_leaks(open(root / name / "manifest.csv"), 2);
    EXPECT_EQ(report.count(LeakKind::groups).pairs, 0) << name;
    return report.count(LeakKind::near_duplicates).pairs + report.count(LeakKind::duplicates).pairs;
  };
  EXPECT_GT(pairs("histology_lc25000"), 40);  // turned and mirrored copies on both sides, by construction
  EXPECT_EQ(pairs("xray_nih"), 0);            // patients are disjoint, however alike their images are
  EXPECT_EQ(pairs("endoscopy_kvasir_patches"), 0);
  EXPECT_LE(pairs("mri_brain"), 4);         // neighbouring slices of a head
  EXPECT_LE(pairs("dermoscopy_isic9"), 2);  // a lesion photographed twice
}

}  // namespace
}  // namespace graft
