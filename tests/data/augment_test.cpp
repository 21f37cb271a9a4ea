#include "data/augment.h"

#include <set>

#include "data/resize.h"
#include "data_testing.h"

namespace graft {
namespace {

using testing::digest;
using testing::error_of;
using testing::expect_names;
using testing::reference;
using testing::reference_picture;

TEST(Augment, RotationEqualsPillowsBytes) {
  for (const auto& expected : reference()["rotate"]) {
    EXPECT_EQ(digest(rotate(reference_picture(), expected["degrees"])), expected["sha256"]) << expected.dump();
  }
}

TEST(Augment, ColourEqualsPillowsBytes) {
  const auto compare = [](const char* kind, void (*adjust)(Image&, float)) {
    ASSERT_FALSE(reference()[kind].empty());
    for (const auto& expected : reference()[kind]) {
      Image image = reference_picture();
      adjust(image, expected["factor"]);
      EXPECT_EQ(digest(image), expected["sha256"]) << kind << " " << expected.dump();
    }
  };
  compare("brightness", adjust_brightness);
  compare("contrast", adjust_contrast);
  compare("saturation", adjust_saturation);
}

TEST(Augment, FlipsMovePixelsAndUndoThemselves) {
  const Image image = reference_picture();
  Image flipped = image;
  flip_horizontally(flipped);
  EXPECT_TRUE(std::equal(image.row(5), image.row(5) + 3, flipped.row(5) + 3 * (image.width - 1)));
  EXPECT_NE(flipped, image);
  flip_horizontally(flipped);
  EXPECT_EQ(flipped, image);
  flip_vertically(flipped);
  EXPECT_TRUE(std::equal(image.row(0), image.row(0) + 3 * image.width, flipped.row(image.height - 1)));
  flip_vertically(flipped);
  EXPECT_EQ(flipped, image);
}

TEST(Augment, NoneIsResizeAndCentreCrop) {
  EXPECT_TRUE(augmentation_preset("none").is_none());
  EXPECT_EQ(augment(reference_picture(), {}, {.resize = 30, .crop = 24}, {.seed = 1}),
            resize_and_crop(reference_picture(), 30, 24));
}

TEST(Augment, IsAFunctionOfItsPlace) {
  const AugmentSize size{.resize = 40, .crop = 32};
  for (const char* name : {"light", "standard", "strong"}) {
    const Augmentation preset = augmentation_preset(name);
    std::set<std::string> seen;
    for (std::uint64_t i = 0; i < 6; ++i) {
      for (std::uint32_t epoch = 0; epoch < 3; ++epoch) {
        const RandomPlace place{.seed = 4, .stream = RandomStream::augment, .epoch = epoch, .index = i};
        const Image image = augment(reference_picture(), preset, size, place);
        EXPECT_EQ(image, augment(reference_picture(), preset, size, place));
        EXPECT_EQ(image.height, 32);
        EXPECT_EQ(image.width, 32);
        seen.insert(digest(image));
      }
    }
    EXPECT_GT(seen.size(), 15U) << name << " repeats itself";
  }
}

TEST(Augment, HalfOfTheImagesAreFlipped) {
  const Image plain = resize_and_crop(reference_picture(), 20, 16);
  int flips = 0;
  for (std::uint64_t i = 0; i < 400; ++i) {
    flips += augment(reference_picture(), {.horizontal_flip = 0.5}, {.resize = 20, .crop = 16}, {.index = i}) == plain
                 ? 0
                 : 1;
  }
  EXPECT_NEAR(flips, 200, 50);  // five standard deviations
}

TEST(Augment, RandomCropsKeepTheirShareOfTheArea) {
  // A picture whose red is its row and green its column shows how large the crop was.
  Image ramp = Image::blank(200, 200);
  for (std::int64_t y = 0; y < 200; ++y) {
    for (std::int64_t x = 0; x < 200; ++x) {
      ramp.row(y)[3 * x] = static_cast<std::uint8_t>(y);
      ramp.row(y)[3 * x + 1] = static_cast<std::uint8_t>(x);
    }
  }
  for (std::uint64_t i = 0; i < 300; ++i) {
    const Image shown =
        augment(ramp, {.crop_scale_min = 0.3, .crop_scale_max = 0.5}, {.resize = 0, .crop = 64}, {.index = i});
    const double height = (shown.row(63)[0] - shown.row(0)[0]) * 64.0 / 63.0;
    const double width = (shown.row(0)[3 * 63 + 1] - shown.row(0)[1]) * 64.0 / 63.0;
    const double share = height * width / 40000.0;
    // Bytes and whole pixels blur the measured sides by two in about a hundred.
    EXPECT_GT(share, 0.3 - 0.025);
    EXPECT_LT(share, 0.5 + 0.025);
    EXPECT_GT(width / height, 0.75 * 0.96);
    EXPECT_LT(width / height, 4.0 / 3.0 * 1.04);
  }
}

TEST(Augment, RefusesUnknownNamesAndImpossibleSettings) {
  expect_names(error_of([] { augmentation_preset("medium"); }), {"medium", "none, light, standard, strong"});
  error_of([] { check({.crop_scale_min = 0.0}); });
  error_of([] { check({.crop_scale_min = 0.9, .crop_scale_max = 0.8}); });
  error_of([] { check({.horizontal_flip = 1.5}); });
  error_of([] { check({.contrast = -0.1}); });
  for (const std::string& name : augmentation_names()) EXPECT_NO_THROW(check(augmentation_preset(name)));
}

}  // namespace
}  // namespace graft
