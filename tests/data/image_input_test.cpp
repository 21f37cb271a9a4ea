// Images on their way into the network: a device that is given the decoded bytes and what was drawn makes the very
// numbers that the loader's augmentation and normalisation make.
#include "kernels/image_input.h"

#include <cstring>

#include "data/augment.h"
#include "data/loader.h"
#include "data_testing.h"
#include "kernels/backend.h"

namespace graft {
namespace {

Image noise(std::int64_t height, std::int64_t width, std::uint64_t seed) {
  Image image = Image::blank(height, width);
  Random random({.seed = seed});
  for (std::uint8_t& v : image.rgb) v = static_cast<std::uint8_t>(random.below(256));
  return image;
}

struct DeviceMemory {
  DeviceMemory(Backend& device, std::int64_t bytes) : backend(device), data(device.allocate(bytes)) {}
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  ~DeviceMemory() { backend.release(data); }
  Backend& backend;
  void* data;
};

/// [H,W,3] of one image on a device.
std::vector<float> on_device(Backend& device, const Image& image, const ImageChange& change,
                             const Transform& transform) {
  const Shape shape{1, 3, transform.crop, transform.crop};
  const DeviceMemory pixels(device, image.bytes()), x(device, shape.size() * size_of(device.compute_type()));
  device.copy_in(pixels.data, image.rgb.data(), image.bytes());
  PixelScaling scaling{.scale = transform.scale, .is_bgr = transform.is_bgr};
  for (std::size_t c = 0; c < 3; ++c) scaling.mean[c] = transform.mean[c], scaling.std[c] = transform.std[c];
  const ConstView block{pixels.data, DType::u8, kNhwc, {1, image.bytes(), 1, 1}, image.bytes()};
  device.images_to_input({x.data, device.compute_type(), kNhwc, shape, 3}, {&block, 1}, {&change, 1}, scaling);
  std::vector<float> values(static_cast<std::size_t>(shape.size()));
  if (device.compute_type() == DType::f32) {
    device.copy_out(values.data(), x.data, shape.size() * 4);
  } else {
    std::vector<double> wide(values.size());
    device.copy_out(wide.data(), x.data, shape.size() * 8);
    std::copy(wide.begin(), wide.end(), values.begin());
  }
  return values;
}

class ImageInput : public ::testing::TestWithParam<DeviceKind> {};

TEST_P(ImageInput, EqualsAugmentAndNormalizerToTheBit) {
  const std::unique_ptr<Backend> device = make_backend({GetParam(), 0});
  const Transform transform{.resize = 40, .crop = 32, .mean = {0.4F, 0.5F, 0.6F}, .is_bgr = true};
  const AugmentSize size{.resize = transform.resize, .crop = transform.crop};
  const Normalizer normalize(transform);
  std::uint64_t index = 0;
  // Larger, smaller than the crop, portrait, landscape, and exactly as shown.
  for (const Image& image : {noise(97, 64, 1), noise(31, 77, 2), noise(20, 20, 3), noise(40, 40, 4), noise(40, 90, 5)})
    for (const std::string& preset : augmentation_names())
      for (int draw = 0; draw < 5; ++draw, ++index) {
        SCOPED_TRACE(preset + " " + std::to_string(image.height) + "x" + std::to_string(image.width));
        const Augmentation settings = augmentation_preset(preset);
        const RandomPlace at{.seed = 11, .stream = RandomStream::augment, .epoch = 3, .index = index};
        const Image expected = augment(image, settings, size, at);
        std::vector<float> values(static_cast<std::size_t>(expected.bytes()));
        normalize(values.data(), expected);
        const ImageChange change = draw_change({image.height, image.width}, settings, size, at);
        const std::vector<float> actual = on_device(*device, image, change, transform);
        ASSERT_EQ(actual.size(), values.size());
        EXPECT_EQ(std::memcmp(actual.data(), values.data(), values.size() * sizeof(float)), 0);
      }
}

INSTANTIATE_TEST_SUITE_P(Devices, ImageInput, ::testing::Values(DeviceKind::reference, DeviceKind::cpu));

TEST(ImageInputErrors, NameTheImageAndWhatIsWrong) {
  const std::unique_ptr<Backend> device = make_backend({DeviceKind::cpu, 0});
  const Image image = noise(70, 50, 1);
  const ImageChange whole = draw_change({70, 50}, {}, {.resize = 40, .crop = 32}, {});
  const auto error_with = [&](auto spoil) {
    ImageChange change = whole;
    spoil(change);
    return testing::error_of([&] { on_device(*device, image, change, {.resize = 40, .crop = 32}); });
  };
  testing::expect_names(error_with([](ImageChange& c) { c.from_x = 1; }), {"image 0", "does not lie in the image"});
  testing::expect_names(error_with([](ImageChange& c) { c.first_byte = 1; }), {"image 0", "10500 bytes"});
  testing::expect_names(error_with([](ImageChange& c) { c.block = 1; }), {"image 0", "block of memory"});
  testing::expect_names(error_with([](ImageChange& c) { c.resized_h = 0; }), {"resized to nothing"});
  testing::expect_names(error_with([](ImageChange& c) { c.resized_h = 2; }), {"31-fold"});
}

}  // namespace
}  // namespace graft
