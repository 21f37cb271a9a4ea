#include "data/image.h"

#include <fmt/format.h>

#include "data_testing.h"

namespace graft {
namespace {

using testing::digest;
using testing::error_of;
using testing::expect_names;
using testing::reference;
using testing::reference_folder;
using testing::TemporaryFolder;

TEST(Image, EveryFormatDecodesToPillowsBytes) {
  ASSERT_GT(reference()["files"].size(), 25U);
  for (const auto& [name, expected] : reference()["files"].items()) {
    SCOPED_TRACE(name);
    const Image image = decode_image(reference_folder() / name);
    EXPECT_EQ(image.height, expected["height"]);
    EXPECT_EQ(image.width, expected["width"]);
    EXPECT_EQ(digest(image), expected["sha256"]);
  }
}

TEST(Image, TellsWhatTheFileHeld) {
  const auto info_of = [](const char* name) {
    ImageInfo info;
    decode_image(reference_folder() / name, &info);
    return info;
  };
  EXPECT_EQ(info_of("jpeg_grey.jpg").channels, 1);
  EXPECT_EQ(info_of("jpeg_cmyk.jpg").channels, 4);
  EXPECT_EQ(info_of("png_rgba.png").channels, 4);
  EXPECT_EQ(info_of("png_rgb16.png").bits, 16);
  EXPECT_EQ(info_of("tiff_grey16.tif").bits, 16);
  EXPECT_EQ(info_of("tiff_grey16.tif").format, "TIFF");
  EXPECT_EQ(info_of("gif_palette.gif").format, "GIF");
}

TEST(Image, TruncatedFilesAreErrorsThatNameThem) {
  const TemporaryFolder folder;
  for (const char* name :
       {"jpeg_420.jpg", "jpeg_progressive.jpg", "jpeg_grey.jpg", "png_rgb.png", "png_palette.png", "tiff_rgb_lzw.tif",
        "tiff_rgb_deflate.tif", "tiff_rgb_raw.tif", "gif_palette.gif", "bmp_rgb.bmp", "tga_rgb.tga", "ppm_rgb.ppm"}) {
    const std::string whole = read_text(reference_folder() / name);
    for (const double share : {0.0, 0.02, 0.3, 0.7, 0.95}) {
      SCOPED_TRACE(fmt::format("{} cut at {}", name, share));
      const auto path =
          folder.write(name, whole.substr(0, static_cast<std::size_t>(share * static_cast<double>(whole.size()))));
      expect_names(error_of([&] { decode_image(path); }), {path.string()});
    }
  }
}

TEST(Image, CorruptJpegIsAnErrorNotAGreyPicture) {
  const TemporaryFolder folder;
  std::string bytes = read_text(reference_folder() / "jpeg_444.jpg");
  for (std::size_t i = bytes.size() / 2; i < bytes.size() / 2 + 200; ++i) bytes[i] = static_cast<char>(0xFF);
  expect_names(error_of([&] { decode_image(folder.write("bad.jpg", bytes)); }), {"bad.jpg", "corrupt"});
}

TEST(Image, WhatIsNoImageIsRefused) {
  const TemporaryFolder folder;
  expect_names(error_of([&] { decode_image(folder.write("text.png", "no image at all")); }), {"text.png", "expected"});
  expect_names(error_of([&] { decode_image(folder.write("empty.jpg", "")); }), {"empty.jpg", "empty"});
  const std::string dicom = std::string("II*") + std::string(125, '\0') + "DICM" + std::string(64, '\0');
  expect_names(error_of([&] { decode_image(folder.write("scan.dcm", dicom)); }), {"scan.dcm", "DICOM"});
  expect_names(error_of([&] { decode_image(folder / "missing.jpg"); }), {"missing.jpg"});
  // A PNG header that promises 2^31 x 2^31 pixels must not allocate them.
  std::string png = read_text(reference_folder() / "png_rgb.png");
  png.replace(16, 8, std::string("\x7f\xff\xff\xff\x7f\xff\xff\xff", 8));
  error_of([&] { decode_image(folder.write("huge.png", png)); });
}

TEST(Image, PngRoundTrip) {
  const Image image = decode_image(reference_folder() / "png_rgb.png");
  const std::vector<std::uint8_t> file = encode_png(image);
  EXPECT_EQ(decode_image(file, "memory"), image);
}

TEST(Image, ExtensionsInAnyCase) {
  EXPECT_TRUE(has_image_extension("a/b.JPeG"));
  EXPECT_TRUE(has_image_extension("b.tif"));
  EXPECT_FALSE(has_image_extension("b.txt"));
  EXPECT_FALSE(has_image_extension("jpg"));
}

TEST(Image, RealTiffs) {
  const auto folder = testing::real_data() / "tiff";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no real data at " << folder;
  EXPECT_EQ(decode_image(folder / "chessboard_GRAY_U16.tif").height, 200);
  // Floating point, which has no range that would say what white is; Pillow refuses it, too.
  expect_names(error_of([&] { decode_image(folder / "multipage_rgb.tif"); }), {"multipage_rgb.tif", "floating point"});
}

}  // namespace
}  // namespace graft
