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

/// By pgm(5) and ppm(5): the high byte first where there are two.
std::string pnm(const char* header, const std::vector<int>& values, bool is_wide) {
  std::string file = header;
  for (const int value : values) {
    if (is_wide) file += static_cast<char>(value >> 8);
    file += static_cast<char>(value & 255);
  }
  return file;
}

std::vector<int> numbers_of(const Image& image) { return {image.rgb.begin(), image.rgb.end()}; }

std::vector<int> greys_of(const Image& image) {
  std::vector<int> found;
  for (std::size_t i = 0; i < image.rgb.size(); i += 3) {
    EXPECT_EQ(image.rgb[i], image.rgb[i + 1]);
    EXPECT_EQ(image.rgb[i], image.rgb[i + 2]);
    found.push_back(image.rgb[i]);
  }
  return found;
}

// Values: Pillow 9.4, which for grey of 16 bits was asked for the numbers and brought to 0 … 255 as it does for
// colours.
TEST(Image, PnmFilesSayWhichNumberIsWhite) {
  const TemporaryFolder folder;
  const std::vector<int> values = {0, 1, 7, 50, 99, 100};
  const auto decoded = [&](const std::string& bytes) { return decode_image(folder.write("scan.pnm", bytes)); };
  EXPECT_EQ(greys_of(decoded(pnm("P5\n3 2\n100\n", values, false))), (std::vector<int>{0, 3, 18, 128, 252, 255}));
  EXPECT_EQ(numbers_of(decoded(pnm("P6 # x\n# a comment\n2 1 100\n", values, false))),
            (std::vector<int>{0, 3, 18, 128, 252, 255}));
  EXPECT_EQ(numbers_of(decoded(pnm("P6\n2 1\n1000\n", {0, 1, 500, 257, 999, 1000}, true))),
            (std::vector<int>{0, 0, 128, 66, 255, 255}));
  EXPECT_EQ(greys_of(decoded(pnm("P5 2 1 65535 ", {256, 65535}, true))), (std::vector<int>{1, 255}));
  for (const char* header : {"P5\n3 2\n", "P5\n0 2\n255\n", "P5\n3 2\n65536\n", "P5\n3 2\n0\n", "P5\n3 x\n255\n"})
    expect_names(error_of([&] { decoded(header); }), {"scan.pnm", "PNM header"});
  expect_names(error_of([&] { decoded(pnm("P5\n3 2\n1000\n", values, false)); }), {"scan.pnm", "truncated"});
}

TEST(Image, NumbersOfSixteenBitsGoThroughAWindow) {
  const TemporaryFolder folder;
  const auto file =
      folder.write("scan.pgm", pnm("P5\n5 2\n65535\n", {0, 255, 256, 1000, 1008, 2047, 3000, 4095, 4096, 65535}, true));
  const auto greys = [&](const IntensityWindow& window) { return greys_of(decode_image(file, nullptr, window)); };
  EXPECT_EQ(greys({0, 4095}), (std::vector<int>{0, 16, 16, 62, 63, 127, 187, 255, 255, 255}));
  EXPECT_EQ(greys({1000, 3000}), (std::vector<int>{0, 0, 0, 0, 1, 133, 255, 255, 255, 255}));
  EXPECT_EQ(decode_image(reference_folder() / "png_rgb.png", nullptr, IntensityWindow{0, 100}),
            decode_image(reference_folder() / "png_rgb.png"));
}

// A window as wide as a byte gives the low bytes of its range exactly.
TEST(Image, WindowsReadTheNumbersThatTheReferenceWrote) {
  for (const char* name : {"png_grey16.png", "png_rgb16.png", "tiff_grey16.tif"}) {
    SCOPED_TRACE(name);
    const Image high = decode_image(reference_folder() / name);
    Image low = high;
    for (int byte = 0; byte < 256; ++byte) {
      const Image seen =
          decode_image(reference_folder() / name, nullptr, IntensityWindow{256 * byte, 256 * byte + 255});
      for (std::size_t i = 0; i < low.rgb.size(); ++i)
        if (high.rgb[i] == byte) low.rgb[i] = seen.rgb[i];
    }
    EXPECT_EQ(digest(low), reference()["files"][name]["low_sha256"]);
  }
}

TEST(Image, WindowsThatAreNoneAreRefused) {
  EXPECT_EQ(parse_intensity_window("", "x"), std::nullopt);
  EXPECT_EQ(parse_intensity_window("0,4095", "x"), (IntensityWindow{0, 4095}));
  EXPECT_EQ(to_string(IntensityWindow{7, 4095}), "7,4095");
  for (const char* text : {"4095", "0,", ",5", "5,5", "9,5", "-1,5", "0,65536", "0,4095,", "0, 4095", "a,b", "0,1e3"})
    expect_names(error_of([&] { parse_intensity_window(text, "--intensity-window"); }),
                 {"--intensity-window", text, "0,4095"});
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
