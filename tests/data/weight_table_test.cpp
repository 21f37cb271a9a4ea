#include "data/weight_table.h"

#include <cmath>
#include <limits>

#include "data/fletcher32.h"
#include "data/md5.h"
#include "tests/data/weight_testing.h"

namespace graft {
namespace {

using namespace testing_weights;

TEST(WeightTable, KeepsOrderAndFindsByName) {
  WeightTable table;
  table.add({"z", {2, 3}, DType::f32, std::vector<float>(6), {}});
  table.add({"a", {}, DType::f32, {1.0f}, {}});
  EXPECT_EQ(table.tensors()[0].name, "z");
  EXPECT_EQ(table.at("a").values[0], 1.0f);
  EXPECT_EQ(table.find("b"), nullptr);
  EXPECT_EQ(table.element_total(), 7);
  EXPECT_THROW(table.add({"a", {}, DType::f32, {1.0f}, {}}), Error);
  EXPECT_THROW(table.add({"c", {2}, DType::f32, {1.0f}, {}}), Error);
  EXPECT_THROW(table.add({"c", {1}, DType::f64, {1.0f}, {1.0, 2.0}}), Error);
  EXPECT_THROW(table.at("c"), Error);
}

TEST(WeightTable, SharesTensorsUntilTheyAreReleased) {
  WeightTable table, other;
  table.add({"z", {2}, DType::f32, {1.0f, 2.0f}, {}});
  table.add({"a", {}, DType::f32, {3.0f}, {}});
  other.share(table, 1);
  EXPECT_EQ(other.find("a"), table.find("a"));
  EXPECT_THROW(other.share(table, 1), Error);
  const std::vector<WeightTensor> released = std::move(table).release();
  EXPECT_EQ(released[0].values, (std::vector<float>{1.0f, 2.0f}));
  EXPECT_EQ(released[1].values, std::vector<float>{3.0f});
  EXPECT_EQ(table.size(), 0);
  EXPECT_EQ(other.at("a").values, std::vector<float>{3.0f});  // as it was
}

TEST(WeightTable, RefusesImpossibleShapesWithoutOverflow) {
  const std::int64_t big = std::int64_t{1} << 40;
  EXPECT_EQ(element_count({big}, "x"), big);
  EXPECT_EQ(element_count({3, 0, 5}, "x"), 0);
  EXPECT_EQ(element_count({}, "x"), 1);
  EXPECT_THROW(element_count({big, 2}, "x"), Error);
  EXPECT_THROW(element_count({big, big}, "x"), Error);
  EXPECT_THROW(element_count({std::numeric_limits<std::int64_t>::max()}, "x"), Error);
  EXPECT_THROW(element_count({-1}, "x"), Error);
}

TEST(WeightTable, HalfPrecisionBitsOfEveryKind) {
  const auto decoded = [](DType type, const std::vector<std::uint16_t>& bits) {
    const std::span bytes(reinterpret_cast<const std::uint8_t*>(bits.data()), 2 * bits.size());
    return decode_tensor("x", {std::ssize(bits)}, type, bytes).values;
  };
  const std::vector<float> half = decoded(DType::f16, {0x3c00, 0xc580, 0x7bff, 0x0001, 0x83ff, 0x8000, 0xfc00, 0x7e00});
  EXPECT_EQ(std::vector<float>(half.begin(), half.begin() + 5),
            (std::vector<float>{1.0f, -5.5f, 65504.0f, 0x1p-24f, -0x1.ff8p-15f}));
  EXPECT_TRUE(half[5] == 0 && std::signbit(half[5]));
  EXPECT_TRUE(std::isinf(half[6]) && half[6] < 0);
  EXPECT_TRUE(std::isnan(half[7]));
  const std::vector<float> brain = decoded(DType::bf16, {0x3f80, 0xc0b0, 0x7fc0});
  EXPECT_EQ(brain[0], 1.0f);
  EXPECT_EQ(brain[1], -5.5f);
  EXPECT_TRUE(std::isnan(brain[2]));
}

TEST(Md5, KnownDigests) {
  const auto md5 = [](const std::string& text) {
    return md5_hex({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  };
  EXPECT_EQ(md5(""), "d41d8cd98f00b204e9800998ecf8427e");
  EXPECT_EQ(md5("message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
  EXPECT_EQ(md5("12345678901234567890123456789012345678901234567890123456789012345678901234567890"),
            "57edf4a22be3c955ac49da2e2107b67a");
}

/// The filter's own loop: reductions every 360 words.
std::uint32_t plain_fletcher32(const std::vector<std::uint8_t>& data) {
  std::uint32_t a = 0, b = 0;
  std::size_t left = data.size() / 2, at = 0;
  while (left > 0) {
    std::size_t run = std::min<std::size_t>(left, 360);
    left -= run;
    for (; run > 0; --run, at += 2) {
      a += static_cast<std::uint32_t>(data[at]) << 8 | data[at + 1];
      b += a;
    }
    a = (a & 0xffff) + (a >> 16);
    b = (b & 0xffff) + (b >> 16);
  }
  if (data.size() % 2 != 0) {
    a += static_cast<std::uint32_t>(data[at]) << 8;
    b += a;
    a = (a & 0xffff) + (a >> 16);
    b = (b & 0xffff) + (b >> 16);
  }
  a = (a & 0xffff) + (a >> 16);
  b = (b & 0xffff) + (b >> 16);
  return b << 16 | a;
}

TEST(Fletcher32, EqualsTheFiltersLoopAtEveryLength) {
  std::uint32_t seed = 1;
  for (const int fill : {-1, 0x00, 0xff}) {
    std::vector<std::uint8_t> data(20000);
    for (auto& byte : data) {
      seed = seed * 1664525 + 1013904223;
      byte = fill < 0 ? static_cast<std::uint8_t>(seed >> 24) : static_cast<std::uint8_t>(fill);
    }
    for (const std::size_t size : {0, 1, 2, 3, 510, 512, 513, 514, 719, 722, 8190, 8192, 8194, 16391, 20000}) {
      const std::vector<std::uint8_t> part(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(size));
      EXPECT_EQ(fletcher32(part), plain_fletcher32(part)) << size << " bytes of " << fill;
    }
  }
}

}  // namespace
}  // namespace graft
