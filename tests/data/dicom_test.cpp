// DICOM files: written here field by field, and those of pydicom's test set where they are at hand.
#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <iostream>

#include "data/inspect.h"
#include "data_testing.h"

namespace graft {
namespace {

using testing::error_of;
using testing::expect_names;

#define SKIP_WITHOUT_DCMTK() \
  if (!has_image_extension("scan.dcm")) GTEST_SKIP() << "this build reads no DICOM: libdcmtk-dev is not installed"

/// A number of few bytes, the lowest first.
std::string bytes_of(std::uint32_t value, int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes += static_cast<char>(value >> 8 * i & 0xFF);
  return bytes;
}

/// One field in the encoding "explicit VR little endian".
std::string field(std::uint32_t tag, const std::string& type, std::string value) {
  if (value.size() % 2 != 0) value += type == "UI" ? '\0' : ' ';
  const bool is_long = type == "OW" || type == "OB" || type == "SQ";
  const auto size = static_cast<std::uint32_t>(value.size());
  return bytes_of(tag >> 16, 2) + bytes_of(tag, 2) + type +
         (is_long ? bytes_of(0, 2) + bytes_of(size, 4) : bytes_of(size, 2)) + value;
}

struct Picture {
  std::uint32_t height = 2, width = 4, channels = 1, bits = 16;
  bool is_signed = true;
  std::string interpretation = "MONOCHROME2";
  std::string more;  // fields between the layout and the pixels, in the order of their tags
  std::vector<int> numbers;
  std::string frames;
};

std::string dicom(const Picture& p) {
  const std::string meta = field(0x00020002, "UI", "1.2.840.10008.5.1.4.1.1.7") + field(0x00020003, "UI", "1.2.3") +
                           field(0x00020010, "UI", "1.2.840.10008.1.2.1");
  const auto number = [](std::uint32_t tag, std::uint32_t value) { return field(tag, "US", bytes_of(value, 2)); };
  std::string pixels;
  for (const int n : p.numbers) pixels += bytes_of(static_cast<std::uint32_t>(n), static_cast<int>(p.bits / 8));
  return std::string(128, '\0') + "DICM" +
         field(0x00020000, "UL", bytes_of(static_cast<std::uint32_t>(meta.size()), 4)) + meta +
         number(0x00280002, p.channels) + field(0x00280004, "CS", p.interpretation) +
         (p.channels == 3 ? number(0x00280006, 0) : "") + (p.frames.empty() ? "" : field(0x00280008, "IS", p.frames)) +
         number(0x00280010, p.height) + number(0x00280011, p.width) + number(0x00280100, p.bits) +
         number(0x00280101, p.bits) + number(0x00280102, p.bits - 1) + number(0x00280103, p.is_signed) + p.more +
         (p.numbers.empty() ? "" : field(0x7FE00010, p.bits == 8 ? "OB" : "OW", pixels));
}

Image decoded(const Picture& p) {
  const std::string file = dicom(p);
  return decode_image({reinterpret_cast<const std::uint8_t*>(file.data()), file.size()}, "scan.dcm");
}

std::string window(const std::string& centre, const std::string& width) {
  return field(0x00281050, "DS", centre) + field(0x00281051, "DS", width);
}
std::string rescale(const std::string& intercept, const std::string& slope) {
  return field(0x00281052, "DS", intercept) + field(0x00281053, "DS", slope);
}
const std::string kRescale = rescale("-1000", "2");

/// Grey, and within a level of what is expected.
void expect_grey(const Image& image, const std::vector<double>& expected) {
  ASSERT_EQ(image.rgb.size(), 3 * expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(image.rgb[3 * i], expected[i], 1.0) << i;
    EXPECT_EQ(image.rgb[3 * i], image.rgb[3 * i + 1]);
    EXPECT_EQ(image.rgb[3 * i], image.rgb[3 * i + 2]);
  }
}

const std::vector<int> kNumbers = {-40, 0, 300, 480, 500, 510, 560, 2000};

/// The standard's formula (PS3.3 C.11.2.1.2): from what is shown black to what is shown white.
std::vector<double> through_window(double slope, double intercept, double centre, double width) {
  std::vector<double> levels;
  for (const int n : kNumbers)
    levels.push_back(std::clamp(((slope * n + intercept - (centre - 0.5)) / (width - 1) + 0.5) * 255, 0.0, 255.0));
  return levels;
}

TEST(Dicom, NumbersAreRescaledAndThenSeenThroughTheWindow) {
  SKIP_WITHOUT_DCMTK();
  expect_grey(decoded({.more = window("40", "400") + kRescale, .numbers = kNumbers}),
              through_window(2, -1000, 40, 400));
  expect_grey(decoded({.more = window("500\\10", "120\\5"), .numbers = kNumbers}), through_window(1, 0, 500, 120));
}

TEST(Dicom, AWindowMayBeASigmoid) {
  SKIP_WITHOUT_DCMTK();
  const std::string sigmoid = field(0x00281056, "CS", "SIGMOID");
  const auto expected = [](double slope, double intercept, double centre, double width) {
    std::vector<double> levels;  // PS3.3 C.11.2.1.3.1
    for (const int n : kNumbers) levels.push_back(255 / (1 + std::exp(-4 * (slope * n + intercept - centre) / width)));
    return levels;
  };
  expect_grey(decoded({.more = window("500", "120") + sigmoid, .numbers = kNumbers}), expected(1, 0, 500, 120));
  expect_grey(decoded({.more = window("40", "400") + kRescale + sigmoid, .numbers = kNumbers}),
              expected(2, -1000, 40, 400));
}

/// Words of 16 bits.
std::string words(const std::vector<int>& values) {
  std::string bytes;
  for (const int v : values) bytes += bytes_of(static_cast<std::uint32_t>(v), 2);
  return bytes;
}

TEST(Dicom, ATableComesBeforeTheWindow) {
  SKIP_WITHOUT_DCMTK();
  const std::vector<int> levels = {0, 10, 40, 90, 160, 200, 230, 255};
  std::vector<int> entries;  // of 16 bits
  for (const int level : levels) entries.push_back(257 * level);
  const std::string table = field(0x00283002, "US", words({8, 100, 16})) + field(0x00283006, "OW", words(entries));
  const std::string item = words({0xFFFE, 0xE000}) + bytes_of(static_cast<std::uint32_t>(table.size()), 4) + table;
  // The first entry is for 100 and below, the last for 107 and above.
  const Image image = decoded({.is_signed = false,
                               .more = window("100", "2") + field(0x00283010, "SQ", item),
                               .numbers = {90, 101, 102, 103, 104, 105, 106, 200}});
  expect_grey(image, {levels.begin(), levels.end()});
}

TEST(Dicom, APaletteHoldsTheColours) {
  SKIP_WITHOUT_DCMTK();
  const std::vector<int> red = {0, 255, 10, 200}, green = {5, 0, 128, 100}, blue = {255, 1, 30, 7};
  std::string more;
  for (const std::uint32_t tag : {0x00281101U, 0x00281102U, 0x00281103U}) more += field(tag, "US", words({4, 0, 16}));
  std::uint32_t tag = 0x00281201;
  for (const auto* colour : {&red, &green, &blue}) {
    std::vector<int> entries;
    for (const int level : *colour) entries.push_back(257 * level);
    more += field(tag++, "OW", words(entries));
  }
  const Image image = decoded({.height = 1,
                               .width = 4,
                               .bits = 8,
                               .is_signed = false,
                               .interpretation = "PALETTE COLOR",
                               .more = more,
                               .numbers = {3, 0, 2, 1}});
  EXPECT_EQ(std::vector<int>(image.rgb.begin(), image.rgb.end()),
            (std::vector<int>{200, 100, 7, 0, 5, 255, 10, 128, 30, 255, 0, 1}));
}

/// DCMTK adds rounded products, so that a level may be off by one and a half.
TEST(Dicom, BrightnessAndColourDifferencesBecomeRgb) {
  SKIP_WITHOUT_DCMTK();
  Picture p{.height = 1, .width = 4, .channels = 3, .bits = 8, .is_signed = false, .interpretation = "YBR_FULL"};
  p.numbers = {128, 128, 128, 81, 90, 240, 145, 54, 34, 41, 240, 110};
  const Image image = decoded(p);
  ASSERT_EQ(image.rgb.size(), 12U);
  for (std::size_t i = 0; i < 4; ++i) {
    const double y = p.numbers[3 * i], cb = p.numbers[3 * i + 1] - 128, cr = p.numbers[3 * i + 2] - 128;
    const double rgb[3] = {y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb};  // PS3.3 C.7.6.3.1.2
    for (std::size_t c = 0; c < 3; ++c) EXPECT_NEAR(image.rgb[3 * i + c], std::clamp(rgb[c], 0.0, 255.0), 1.5) << i;
  }
}

TEST(Dicom, SlopesMayBeSmallOrNegative) {
  SKIP_WITHOUT_DCMTK();
  expect_grey(decoded({.more = window("2", "3") + rescale("1", "0.001"), .numbers = kNumbers}),
              through_window(0.001, 1, 2, 3));
  expect_grey(decoded({.more = window("-200", "500") + rescale("100", "-1"), .numbers = kNumbers}),
              through_window(-1, 100, -200, 500));
  std::vector<double> expected;
  for (const int n : kNumbers) expected.push_back((n + 40) / 2040.0 * 255);
  expect_grey(decoded({.more = rescale("0", "0.00001"), .numbers = kNumbers}), expected);
  expect_names(error_of([] { decoded({.more = rescale("0", "0"), .numbers = kNumbers}); }), {"scan.dcm", "slope"});
}

TEST(Dicom, AWindowOfNoWidthIsNone) {
  SKIP_WITHOUT_DCMTK();
  std::vector<double> expected;
  for (const int n : kNumbers) expected.push_back((n + 40) / 2040.0 * 255);
  for (const char* width : {"0", "0.8", ""})
    expect_grey(decoded({.more = window("100", width), .numbers = kNumbers}), expected);
}

TEST(Dicom, EightBitsAreLevels) {
  SKIP_WITHOUT_DCMTK();
  const Image image = decoded({.bits = 8, .is_signed = false, .numbers = {3, 4, 50, 51, 99, 127, 128, 200}});
  expect_grey(image, {3, 4, 50, 51, 99, 127, 128, 200});
}

TEST(Dicom, Monochrome1IsInvertedAfterwards) {
  SKIP_WITHOUT_DCMTK();
  std::vector<double> expected = through_window(2, -1000, 40, 400);
  for (double& level : expected) level = 255 - level;
  expect_grey(decoded({.interpretation = "MONOCHROME1", .more = window("40", "400") + kRescale, .numbers = kNumbers}),
              expected);
}

TEST(Dicom, WithoutAWindowFromTheSmallestToTheLargest) {
  SKIP_WITHOUT_DCMTK();
  std::vector<double> expected;
  for (const int n : kNumbers) expected.push_back((n + 40) / 2040.0 * 255);
  expect_grey(decoded({.numbers = kNumbers}), expected);
  expect_grey(decoded({.more = kRescale, .numbers = kNumbers}), expected);
}

TEST(Dicom, ColoursAreTheFiles) {
  SKIP_WITHOUT_DCMTK();
  Picture p{.height = 1, .width = 4, .channels = 3, .bits = 8, .is_signed = false, .interpretation = "RGB"};
  for (int i = 0; i < 12; ++i) p.numbers.push_back(20 * i);
  const Image image = decoded(p);
  EXPECT_EQ(image.height, 1);
  EXPECT_EQ(std::vector<int>(image.rgb.begin(), image.rgb.end()), p.numbers);
}

TEST(Dicom, WhatHoldsNoPictureOrSeveralIsRefused) {
  SKIP_WITHOUT_DCMTK();
  expect_names(error_of([] { decoded({}); }), {"scan.dcm", "no picture"});
  expect_names(error_of([] { decoded({.numbers = kNumbers, .frames = "12"}); }), {"scan.dcm", "12 pictures"});
  expect_names(error_of([] { decoded({.height = 40000, .width = 40000, .numbers = kNumbers}); }),
               {"scan.dcm", "40000x40000"});
  expect_names(error_of([] { decoded({.height = 16000, .width = 16000, .numbers = kNumbers}); }),
               {"scan.dcm", "16 bytes of pixels", "truncated"});
  const std::string file = dicom({.numbers = kNumbers});
  for (const std::size_t length : {140U, 200U, 300U, unsigned(file.size()) - 3}) {
    SCOPED_TRACE(length);
    const std::span<const std::uint8_t> part(reinterpret_cast<const std::uint8_t*>(file.data()), length);
    expect_names(error_of([&] { decode_image(part, "scan.dcm"); }), {"scan.dcm", "DICOM"});
  }
}

/// In a process of its own, since a module is looked for once.
TEST(Dicom, AMissingModuleIsNoDamageOfTheFiles) {
  SKIP_WITHOUT_DCMTK();
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const testing::TemporaryFolder folder;
  for (const char* place : {"train/a/0.dcm", "train/b/0.dcm", "test/a/1.dcm", "test/b/1.dcm"})
    write_atomically(folder / place, std::string_view(dicom({.numbers = kNumbers})));
  const auto open = [&] {
    setenv("GRAFT_DICOM_MODULE", (folder / "none.so").c_str(), 1);
    std::cerr << error_of([&] { Dataset::open({.path = folder.path(), .skip_bad = true}); });
    std::exit(0);
  };
  EXPECT_EXIT(open(), ::testing::ExitedWithCode(0), "cannot decode .*dcm: .*none.so");
  const auto inspects = [&] {
    setenv("GRAFT_DICOM_MODULE", (folder / "none.so").c_str(), 1);
    std::cerr << error_of([&] {
      const Dataset data = Dataset::open({.path = folder.path(), .decodes_all = false});
      inspect(data, 2);
    });
    std::exit(0);
  };
  EXPECT_EXIT(inspects(), ::testing::ExitedWithCode(0), "cannot decode .*dcm: .*none.so");
}

TEST(Dicom, ABuildWithoutItSaysWhatToDo) {
  if (has_image_extension("scan.dcm")) GTEST_SKIP() << "this build reads DICOM";
  expect_names(error_of([] { decoded({.numbers = kNumbers}); }), {"scan.dcm", "libdcmtk-dev", "PNG"});
}

TEST(Dicom, RealFiles) {
  SKIP_WITHOUT_DCMTK();
  const auto folder = testing::real_data() / "dicom";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no real data at " << folder;
  const Image image = decode_image(folder / "MR_small.dcm");
  EXPECT_EQ(image.height, 64);
  for (const char* encoding : {"implicit", "bigendian", "RLE"})
    EXPECT_EQ(decode_image(folder / fmt::format("MR_small_{}.dcm", encoding)), image) << encoding;
  EXPECT_EQ(decode_image(folder / "JPEG-lossy.dcm").height, 1024);
  EXPECT_EQ(decode_image(folder / "SC_rgb_jpeg_dcmtk.dcm").width, 100);
  expect_names(error_of([&] { decode_image(folder / "MR_truncated.dcm"); }), {"MR_truncated.dcm", "truncated"});
  expect_names(error_of([&] { decode_image(folder / "no_meta.dcm"); }), {"no_meta.dcm", "expected"});
  expect_names(error_of([&] { decode_image(folder / "test-SR.dcm"); }), {"test-SR.dcm", "no picture"});
  expect_names(error_of([&] { decode_image(folder / "rtdose.dcm"); }), {"rtdose.dcm", "15 pictures"});
}

}  // namespace
}  // namespace graft
