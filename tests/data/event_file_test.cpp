// TensorBoard's event files: the checksum, a golden record, and what is written is what a reader finds.
#include "data/event_file.h"

#include <gtest/gtest.h>

#include "tests/data/data_testing.h"
#include "tests/data/event_testing.h"

namespace graft {
namespace {

using namespace testing_events;
using namespace testing_protobuf;
using testing::TemporaryFolder;

std::vector<double> doubles(std::string_view bytes) {
  std::vector<double> values(bytes.size() / 8);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

TEST(EventFiles, ChecksumAndRecordAreTensorFlows) {
  const std::string_view digits = "123456789";
  EXPECT_EQ(crc32c({reinterpret_cast<const std::uint8_t*>(digits.data()), digits.size()}), 0xe3069283U);
  // Written by TensorFlow: wall_time 0, file_version "brain.Event:2".
  const std::string event = std::string("\x09\0\0\0\0\0\0\0\0\x1a\x0d", 11) + "brain.Event:2";
  std::string hex;
  for (unsigned char byte : event_record(event)) {
    constexpr char kDigits[] = "0123456789abcdef";
    hex += kDigits[byte >> 4], hex += kDigits[byte & 15];
  }
  EXPECT_EQ(hex, "1800000000000000a37f4b220900000000000000001a0d627261696e2e4576656e743a32eedf28a3");
}

TEST(EventFiles, HoldWhatWasWritten) {
  const TemporaryFolder folder;
  EventFile file(folder.path(), 0);
  EXPECT_NE(file.path().filename().string().find("tfevents"), std::string::npos);
  file.scalar("train/loss", 300, 0.25);
  file.histogram("weights/fc", 301, std::vector<float>{-1, NAN, -1, INFINITY, 0, 3});
  file.histogram("empty", 301, {});
  file.histogram("constant", 301, std::vector<float>{2, 2});
  const Image picture = Image::blank(2, 3, 7);
  file.image("picture", 302, picture);
  file.flush();

  EXPECT_EQ(value_of(records(file.path()).at(0)).file_version, "brain.Event:2");
  const std::vector<ReadValue> values = shown(folder.path());
  ASSERT_EQ(values.size(), 4u);
  EXPECT_EQ(values[0].tag, "train/loss");
  EXPECT_EQ(values[0].step, 300);
  EXPECT_EQ(values[0].scalar, 0.25);

  const std::string& histogram = values[1].histogram;
  const double expected[] = {-1, 3, 4, 1, 11};  // min, max, number, sum, sum of squares
  for (int i = 0; i < 5; ++i) EXPECT_EQ(raw<double>(every(histogram, i + 1).at(0).bytes), expected[i]) << i;
  const std::vector<double> limits = doubles(text(histogram, 6)), counts = doubles(text(histogram, 7));
  ASSERT_EQ(limits.size(), counts.size());
  EXPECT_TRUE(std::is_sorted(limits.begin(), limits.end()));
  EXPECT_EQ(limits.back(), 3);
  EXPECT_EQ(counts.front(), 2);
  EXPECT_EQ(counts.back(), 1);
  EXPECT_EQ(counts[16], 1);  // 0 begins the 17th of 64 parts of [-1, 3]
  EXPECT_EQ(doubles(text(values[2].histogram, 7)).front(), 2);

  EXPECT_EQ(every(values[3].image, 1).at(0).value, 2u);
  EXPECT_EQ(every(values[3].image, 2).at(0).value, 3u);
  const std::string png = text(values[3].image, 4);
  EXPECT_EQ(decode_image({reinterpret_cast<const std::uint8_t*>(png.data()), png.size()}, "png"), picture);
}

TEST(EventFiles, AContinuationTakesBackWhatCameAfterItsCheckpoint) {
  const TemporaryFolder folder;
  {
    EventFile first(folder.path(), 0);
    for (std::int64_t step = 1; step <= 5; ++step) first.scalar("loss", step, 1);
  }
  EventFile second(folder.path(), 4);
  for (std::int64_t step = 4; step <= 6; ++step) second.scalar("loss", step, 2);
  second.flush();
  std::vector<std::pair<std::int64_t, double>> got;
  for (const ReadValue& v : shown(folder.path())) got.emplace_back(v.step, v.scalar);
  EXPECT_EQ(got, (std::vector<std::pair<std::int64_t, double>>{{1, 1}, {2, 1}, {3, 1}, {4, 2}, {5, 2}, {6, 2}}));
  EXPECT_THROW(EventFile("/dev/null", 0), Error);
}

}  // namespace
}  // namespace graft
