#include "data/safetensors.h"

#include <cstring>

#include "tests/data/weight_testing.h"

namespace graft {
namespace {

using namespace testing_weights;

std::string with_header(const std::string& header, const std::string& values) {
  std::string bytes(8, '\0');
  const std::uint64_t size = header.size();
  std::memcpy(bytes.data(), &size, 8);
  return bytes + header + values;
}

TEST(Safetensors, ReadsEveryType) {
  const WeightTable table = read_safetensors(fixture("mixed.safetensors"));
  for (const char* name : {"conv1.weight", "bn1.running_var", "fc.weight", "fc.bias"})
    expect_values(table.at(name), name);
  EXPECT_EQ(table.tensors().front().name, "conv1.weight");
  EXPECT_EQ(table.at("conv1.weight").shape, (Dimensions{4, 3, 3, 5}));
  expect_values(table.at("half"), "fc.weight");
  EXPECT_EQ(table.at("half").stored_dtype, DType::f16);
  expect_values(table.at("bfloat16"), "fc.weight", rounded_to_bfloat16);
  expect_values(table.at("double"), "fc.weight");
  EXPECT_EQ(table.at("double").exact.size(), 20U);
  EXPECT_TRUE(table.at("half").exact.empty());
  ASSERT_EQ(table.skipped.size(), 1U);
  EXPECT_EQ(table.skipped[0].name, "bn1.num_batches_tracked");
  EXPECT_EQ(table.metadata.at("note"), "gr\u00fc\u00df");
}

TEST(Safetensors, WritesWhatItReads) {
  const TemporaryFolder folder;
  WeightTable table;
  table.add({"a", {2, 2}, DType::f32, {1.5f, -2, 3, 1e-30f}, {}});
  table.add({"d", {1}, DType::f64, {0.1f}, {0.1}});
  table.add({"empty", {0, 4}, DType::f32, {}, {}});
  table.metadata["note"] = "x";
  write_safetensors(folder / "t.safetensors", table);
  const WeightTable back = read_safetensors(folder / "t.safetensors");
  EXPECT_EQ(back.at("a").values, table.at("a").values);
  EXPECT_EQ(back.at("d").exact, table.at("d").exact);
  EXPECT_EQ(back.at("empty").shape, (Dimensions{0, 4}));
  EXPECT_EQ(back.metadata, table.metadata);
}

TEST(Safetensors, RefusesWhatTheFormatForbids) {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& bytes, const std::string& part) {
    write_bytes(folder / "bad", bytes);
    EXPECT_SAYS(error_lines_of([&] { read_safetensors(folder / "bad"); }), part);
  };
  const std::string eight(8, '\0');
  const auto entry = [](const std::string& name, int begin, int end) {
    return "\"" + name + R"(":{"dtype":"F32","shape":[1],"data_offsets":[)" + std::to_string(begin) + "," +
           std::to_string(end) + "]}";
  };
  refused("", "too few");
  refused(with_header("{" + entry("a", 0, 4) + "," + entry("a", 4, 8) + "}", eight), "twice");
  refused(with_header("{" + entry("a", 0, 4) + "," + entry("b", 0, 4) + "}", eight), "overlap");
  refused(with_header("{" + entry("a", 4, 8) + "}", eight), "hole");
  refused(with_header("{" + entry("a", 0, 4) + "}", eight), "follow");
  refused(with_header("{" + entry("a", 0, 8) + "}", eight), "expects 4 bytes");
  refused(with_header("{" + entry("a", 0, 4) + "}", "xx"), "truncated");
  refused(with_header(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", ""),
          "impossible");
  refused(with_header(R"({"a":{"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,0]}})", ""),
          "impossible");
  refused(with_header(R"({"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}})", "x"), "F8_E4M3");
  refused(with_header(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", "xxxx"), "whole number");
  refused(with_header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}})", "xxxx"), "exactly");
  refused(with_header(R"({"__metadata__":{"a":1}})", ""), "not a string");
  refused(with_header("[1]", ""), "'{'");
  refused(with_header("{\"a\":", ""), "JSON");
  refused(with_header("{\"a\":" + std::string(100000, '[') + "}", ""), "deep");
  refused(std::string("\xff\xff\xff\xff\xff\xff\xff\x7f", 8) + "{}", "not a safetensors");
  refused(std::string("\x00\x00\x10\x00\x00\x00\x00\x00", 8) + "{}", "truncated");
}

}  // namespace
}  // namespace graft
