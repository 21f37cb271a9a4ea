// What the weight-file tests share: the fixtures' folder and the formula behind every value in them
// (tests/reference/make_weight_files.py, value_of).
#pragma once

#include <gtest/gtest.h>
#include <zlib.h>

#include <bit>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "data/weight_table.h"
#include "tests/data/data_testing.h"

namespace graft::testing_weights {

inline std::filesystem::path fixture(const std::string& name) {
  return std::filesystem::path(GRAFT_SOURCE_DIR) / "tests/data/fixtures" / name;
}

using testing::real_data;
using testing::TemporaryFolder;

inline float value_of(const std::string& name, std::int64_t index) {
  const auto crc = static_cast<std::int64_t>(
      ::crc32(0, reinterpret_cast<const Bytef*>(name.data()), static_cast<uInt>(name.size())));
  const double x = static_cast<double>((crc + 7919 * index) % 1009 - 504) / 1024.0;
  return static_cast<float>(name.ends_with("running_var") ? 1 + x : x);
}

/// Every value of `tensor` is the formula's for `name`, after `rounding`.
inline void expect_values(
    const WeightTensor& tensor, const std::string& name,
    const std::function<float(float)>& rounding = [](float x) { return x; }) {
  for (std::size_t i = 0; i < tensor.values.size(); ++i) {
    ASSERT_EQ(tensor.values[i], rounding(value_of(name, static_cast<std::int64_t>(i)))) << tensor.name << " at " << i;
  }
}

inline std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// The text, often a table, of the Error that `action` throws; anything else fails the test.
inline std::string error_lines_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "expected an Error";
  return "";
}

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

/// To the nearest bfloat16, ties to even.
inline float rounded_to_bfloat16(float x) {
  std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  bits += 0x7fff + (bits >> 16 & 1);
  return std::bit_cast<float>(bits & 0xffff0000);
}

}  // namespace graft::testing_weights
