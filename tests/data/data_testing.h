// What the tests of data/ share: the stored reference, real images where they are at hand, and folders that vanish.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/files.h"
#include "data/image.h"
#include "kernels/core.h"

namespace graft::testing {

inline std::filesystem::path reference_folder() {
  return std::filesystem::path(GRAFT_SOURCE_DIR) / "tests" / "reference" / "data";
}

/// What Pillow, torchvision and scikit-learn say; written by tests/reference/data_reference.py.
inline const nlohmann::json& reference() {
  static const nlohmann::json stored = nlohmann::json::parse(read_text(reference_folder() / "reference.json"));
  return stored;
}

/// The picture that most of the reference is about.
inline const Image& reference_picture() {
  static const Image image = decode_image(reference_folder() / "png_rgb.png");
  return image;
}

inline Image transposed(const Image& image) {
  Image result = Image::blank(image.width, image.height);
  for (std::int64_t y = 0; y < image.height; ++y) {
    for (std::int64_t x = 0; x < image.width; ++x) std::copy_n(image.row(y) + 3 * x, 3, result.row(x) + 3 * y);
  }
  return result;
}

/// What scikit-learn and SciPy say; written by tests/reference/make_statistics.py.
inline const nlohmann::json& statistics_reference() {
  static const nlohmann::json stored = nlohmann::json::parse(read_text(reference_folder() / "statistics.json"));
  return stored;
}

/// Real images: GRAFT_TEST_DATA, or ../shared/data beside the source tree. May not exist.
inline std::filesystem::path real_data() {
  if (const char* folder = std::getenv("GRAFT_TEST_DATA")) return folder;
  return std::filesystem::path(GRAFT_SOURCE_DIR).parent_path() / "shared" / "data";
}

inline std::span<const std::uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

inline std::string digest(const Image& image) { return sha256_hex(image.rgb); }

inline std::string digest(const std::vector<float>& values) {
  return sha256_hex({reinterpret_cast<const std::uint8_t*>(values.data()), values.size() * sizeof(float)});
}

/// A new empty folder, removed with its contents.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "graft-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw Error("cannot create a temporary folder");
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

  /// Writes a file, with its folders.
  std::filesystem::path write(std::string_view name, std::string_view contents) const {
    write_atomically(path_ / name, contents);
    return path_ / name;
  }

  /// A small PNG whose pixels depend on `seed`.
  std::filesystem::path write_image(std::string_view name, int seed, std::int64_t height = 9,
                                    std::int64_t width = 7) const {
    Image image = Image::blank(height, width);
    for (std::size_t i = 0; i < image.rgb.size(); ++i) {
      image.rgb[i] = static_cast<std::uint8_t>(seed * 31 + static_cast<int>(i) * (seed % 7 + 1));
    }
    image.rgb[0] = static_cast<std::uint8_t>(seed);
    image.rgb[1] = static_cast<std::uint8_t>(seed >> 8);
    write_atomically(path_ / name, encode_png(image));
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

/// The text of the graft::Error that `act` throws; fails the test if it throws none.
template <typename Act>
std::string error_of(Act act) {
  try {
    act();
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_EQ(text.find('\n'), std::string::npos) << "an error is one line: " << text;
    return text;
  }
  ADD_FAILURE() << "expected an error";
  return {};
}

/// EXPECT that `text` names everything in `parts`.
inline void expect_names(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
}

}  // namespace graft::testing
