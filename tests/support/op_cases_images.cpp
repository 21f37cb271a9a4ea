// Cases of images_to_input: images of different sizes side by side, each with changes of its own.
#include <array>

#include "tests/support/op_cases.h"

namespace graft {
namespace {

struct ImageCase {
  const char* name;
  Shape x;  // n counts the changes
  std::vector<ImageChange> changes;
};

/// Gives the images their places in two blocks by turns, one behind the other, and returns the bytes of each block.
std::array<std::int64_t, 2> lay_out(std::vector<ImageChange>& changes) {
  std::array<std::int64_t, 2> bytes{};
  for (std::size_t i = 0; i < changes.size(); ++i) {
    ImageChange& c = changes[i];
    c.block = std::int32_t(i % 2);
    c.first_byte = bytes[i % 2];
    bytes[i % 2] += std::int64_t(c.height) * c.width * 3;
  }
  return bytes;
}

const PixelScaling kScaling{.scale = 250, .mean = {0.5F, 0.4F, 0.3F}, .std = {0.2F, 0.25F, 0.3F}, .is_bgr = true};

void add_images(std::vector<OpCase>& table, ImageCase images) {
  const std::array<std::int64_t, 2> bytes = lay_out(images.changes);
  OpCase c{.call = "images_to_input", .name = std::string("images_to_input/") + images.name};
  c.operands = {fresh("x", images.x).activation()};
  for (const std::int64_t b : bytes)
    if (b > 0)
      c.operands.push_back(
          input("pixels " + std::to_string(c.operands.size()), {1, b, 1, 1}, whole(256)).of(DType::u8));
  c.exact = true;
  c.run = [changes = images.changes, blocks = c.operands.size() - 1](Backend& d, CaseOperands& o, Write) {
    std::vector<ConstView> pixels;
    for (std::size_t b = 1; b <= blocks; ++b) pixels.push_back(o["pixels " + std::to_string(b)]);
    d.images_to_input(o["x"], pixels, changes, kScaling);
  };
  table.push_back(c);
}

}  // namespace

void add_image_cases(std::vector<OpCase>& table, CaseSize size) {
  const ImageChange shrunk{.height = 61,
                           .width = 75,
                           .from_y = 3,
                           .from_x = 8,
                           .from_h = 50,
                           .from_w = 41,
                           .resized_h = 19,
                           .resized_w = 37,
                           .flips_horizontally = true};
  const ImageChange enlarged{.height = 9,
                             .width = 11,
                             .from_h = 9,
                             .from_w = 11,
                             .resized_h = 24,
                             .resized_w = 29,
                             .part_y = 2,
                             .part_x = -3,
                             .flips_vertically = true,
                             .cosine = 0.9659258262890683,
                             .sine = -0.2588190451025208,
                             .brightness = 1.2F};
  const ImageChange colours{.height = 19,
                            .width = 37,
                            .from_h = 19,
                            .from_w = 37,
                            .resized_h = 19,
                            .resized_w = 37,
                            .brightness = 0.7F,
                            .contrast = 1.4F,
                            .saturation = 0.6F};
  const ImageChange one_axis{.height = 19,
                             .width = 50,
                             .from_h = 19,
                             .from_w = 50,
                             .resized_h = 19,
                             .resized_w = 45,
                             .part_x = 4,
                             .flips_horizontally = true,
                             .flips_vertically = true,
                             .contrast = 0.5F,
                             .saturation = 1.5F};
  if (size == CaseSize::real) {
    const ImageChange photo{.height = 500,
                            .width = 375,
                            .from_y = 20,
                            .from_x = 30,
                            .from_h = 400,
                            .from_w = 320,
                            .resized_h = 224,
                            .resized_w = 224,
                            .flips_horizontally = true,
                            .brightness = 1.1F,
                            .contrast = 0.9F};
    add_images(table, {"photos", {32, 8, 224, 224}, std::vector<ImageChange>(32, photo)});
    return;
  }
  add_images(table, {"three_channels", {4, 3, 19, 37}, {shrunk, enlarged, colours, one_axis}});
  add_images(table, {"eight_channels", {2, 8, 19, 37}, {enlarged, shrunk}});
  add_images(table, {"five_channels", {1, 5, 19, 37}, {one_axis}});
}

}  // namespace graft
