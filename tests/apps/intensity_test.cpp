// Files of 16 bits: what is noticed when they use little of their range, and that --intensity-window reaches the
// network in every verb that shows it images.
#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "data/image.h"
#include "program_testing.h"

namespace graft::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// The workshop's images as grey PGM files: of 8 bits, or of 16 with numbers sixteen times as large.
void write_grey_images(const std::string& folder, bool is_wide) {
  const fs::path from = Workshop::get().images();
  for (const auto& entry : fs::recursive_directory_iterator(from)) {
    if (!entry.is_regular_file()) continue;
    const Image image = decode_image(entry.path());
    std::string file = fmt::format("P5\n{} {}\n{}\n", image.width, image.height, is_wide ? 65535 : 255);
    for (std::size_t i = 0; i < image.rgb.size(); i += 3) {
      if (is_wide) file += static_cast<char>(image.rgb[i] * 16 >> 8);
      file += static_cast<char>(is_wide ? image.rgb[i] * 16 & 255 : image.rgb[i]);
    }
    const fs::path target = (folder / entry.path().lexically_relative(from)).replace_extension(".pgm");
    fs::create_directories(target.parent_path());
    std::ofstream(target, std::ios::binary) << file;
  }
}

TEST(IntensityWindow, GivesTheRunOfTheSameImagesInEightBits) {
  const TemporaryFolder folder;
  write_grey_images(folder / "narrow", false);
  write_grey_images(folder / "wide", true);
  const Outcome inspected = graft({"data", "inspect", folder / "wide"});
  EXPECT_NE(inspected.out.find("of which the high byte alone leaves 16 levels of grey: give --intensity-window 0,4095"),
            std::string::npos)
      << inspected.out;

  const auto train = [&](const char* data, const char* run, std::vector<std::string> more) {
    const Outcome outcome = graft(small_training(folder / data, folder / run, std::move(more)));
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome;
  };
  const std::vector<std::string> window = {"--intensity-window", "0,4080"};
  train("narrow", "of-narrow", {});
  EXPECT_EQ(train("wide", "of-wide", window).err.find("--intensity-window 0,4095"), std::string::npos);
  EXPECT_NE(train("wide", "without", {}).err.find("--intensity-window 0,4095"), std::string::npos);
  const auto predictions = [&](const char* run) { return read_text(fs::path(folder / run) / "predictions.csv"); };
  EXPECT_EQ(predictions("of-wide"), predictions("of-narrow"));
  EXPECT_NE(predictions("without"), predictions("of-narrow"));

  // The model keeps its window: nobody names it again.
  const auto evaluated = [&](const char* run, const char* data) {
    return json::parse(graft({"evaluate", folder / run, folder / data, "--json"}).out).at("loss");
  };
  EXPECT_EQ(evaluated("of-wide", "wide"), evaluated("of-narrow", "narrow"));
  EXPECT_NE(evaluated("of-narrow", "wide"), evaluated("of-narrow", "narrow"));
  const auto predicted = [&](const char* run, const char* data) {
    const Outcome outcome =
        graft({"predict", folder / run, folder / (data + std::string("/test/circles/000.pgm")), "--json"});
    return json::parse(outcome.out).at("images").at(0).at("top");
  };
  EXPECT_EQ(predicted("of-wide", "wide"), predicted("of-narrow", "narrow"));
  EXPECT_NE(predicted("of-narrow", "wide"), predicted("of-narrow", "narrow"));

  expect_error(graft(small_training(folder / "wide", folder / "none", {"--intensity-window", "4095"})), 2,
               "train.intensity_window: '4095' is no window");
  EXPECT_FALSE(fs::exists(folder / "none"));
}

}  // namespace
}  // namespace graft::testing
