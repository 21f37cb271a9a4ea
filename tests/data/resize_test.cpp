#include "data/resize.h"

#include <fmt/format.h>

#include "data/loader.h"
#include "data_testing.h"

namespace graft {
namespace {

using testing::digest;
using testing::error_of;
using testing::expect_names;
using testing::reference;
using testing::reference_picture;
using testing::transposed;

TEST(Resize, EqualsPillowsBytes) {
  for (const auto& expected : reference()["resize"]) {
    SCOPED_TRACE(expected.dump());
    EXPECT_EQ(digest(resize(reference_picture(), Size{expected["height"], expected["width"]})), expected["sha256"]);
  }
}

TEST(Resize, ResizedCropsEqualTorchvisions) {
  for (const auto& expected : reference()["resized_crop"]) {
    SCOPED_TRACE(expected.dump());
    const auto& box = expected["box"];
    const std::int64_t size = expected["size"];
    const Image result =
        resize_part(reference_picture(),
                    {.from = {box[0], box[1], box[2], box[3]}, .size = {size, size}, .part = {0, 0, size, size}});
    EXPECT_EQ(digest(result), expected["sha256"]);
  }
}

TEST(Resize, ResizeAndCropEqualsTorchvision) {
  for (const auto& expected : reference()["resize_and_crop"]) {
    SCOPED_TRACE(expected.dump());
    const Image source = expected["turned"] ? transposed(reference_picture()) : reference_picture();
    const Image fused = resize_and_crop(source, expected["resize"], expected["crop"]);
    EXPECT_EQ(digest(fused), expected["sha256"]);
    EXPECT_EQ(fused, center_crop(resize_shorter_side(source, expected["resize"]), expected["crop"]));
  }
}

TEST(Resize, ShorterSideIsTruncatedAsInTorchvision) {
  for (const auto& expected : reference()["shorter_side"]) {
    const Size size = shorter_side_size({expected["height"], expected["width"]}, expected["shorter"]);
    EXPECT_EQ(size, (Size{expected["result"][0], expected["result"][1]})) << expected.dump();
  }
}

TEST(Resize, APartIsTheSameAsCroppingTheWhole) {
  const Size size{61, 23};
  const Image whole = resize(reference_picture(), size);
  for (const Box& part : {Box{0, 0, 1, 1}, Box{60, 22, 1, 1}, Box{7, 3, 40, 11}, Box{0, 5, 61, 2}, Box{30, 0, 4, 23}}) {
    EXPECT_EQ(resize_part(reference_picture(), {.from = {0, 0, 37, 53}, .size = size, .part = part}),
              crop(whole, part));
  }
}

TEST(Resize, RefusesRectanglesOutside) {
  expect_names(error_of([] { crop(reference_picture(), {0, 50, 5, 5}); }), {"5x5", "37x53"});
  error_of([] { resize(reference_picture(), Size{0, 5}); });
  error_of([] { resize_shorter_side(reference_picture(), 0); });
  error_of([] { resize_and_crop(reference_picture(), 10, 0); });
}

TEST(Resize, RealPhotographsReachTheNetworkAsThroughTorchvision) {
  const auto root = testing::real_data();
  if (!std::filesystem::exists(root / "photos")) GTEST_SKIP() << "no real data at " << root;
  ASSERT_GT(reference()["photos"].size(), 20U);
  for (const auto& expected : reference()["photos"]) {
    SCOPED_TRACE(expected.dump());
    const Image image = decode_image(root / std::string(expected["path"]));
    EXPECT_EQ(digest(image), expected["pixels"]);
    EXPECT_EQ(digest(resize_and_crop(image, 256, 224)), expected["shown"]);
    EXPECT_EQ(digest(prepare(image, Transform{})), expected["floats"]);
  }
}

TEST(Normalise, EqualsTorchvisionsBits) {
  for (const auto& expected : reference()["normalise"]) {
    SCOPED_TRACE(expected.dump());
    Transform transform{.scale = expected["scale"], .is_bgr = expected["bgr"]};
    for (std::size_t c = 0; c < 3; ++c) {
      transform.mean[c] = expected["mean"][c];
      transform.std[c] = expected["std"][c];
    }
    std::vector<float> floats(reference_picture().rgb.size());
    Normalizer{transform}(floats.data(), reference_picture());
    EXPECT_EQ(digest(floats), expected["sha256"]);
  }
}

TEST(Normalise, RefusesDivisionByZero) {
  expect_names(error_of([] { Normalizer(Transform{.std = {1.0F, 0.0F, 1.0F}}); }), {"std 0"});
  error_of([] { Normalizer(Transform{.scale = 0.0F}); });
}

}  // namespace
}  // namespace graft
