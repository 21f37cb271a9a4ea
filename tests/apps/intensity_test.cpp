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

/// The workshop's images as grey PGM files: of 8 bits, or of 16 with numbers sixteen times as large. And a white one,
/// which in 16 bits has the largest number of all.
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
  const std::size_t bytes = is_wide ? 2048 : 1024;
  std::ofstream(fs::path(folder) / "train/circles/white.pgm", std::ios::binary)
      << fmt::format("P5\n32 32\n{}\n", is_wide ? 65535 : 255) << std::string(bytes, '\xff');
}

TEST(IntensityWindow, GivesTheRunOfTheSameImagesInEightBits) {
  const TemporaryFolder folder;
  write_grey_images(folder / "narrow", false);
  write_grey_images(folder / "wide", true);
  const std::string advice =
      " images of 16 bits have numbers up to 4080, of which the high byte alone leaves 16 levels of grey: give "
      "--intensity-window 0,4095";
  const auto says = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  };
  EXPECT_TRUE(says(graft({"data", "inspect", folder / "wide"}).out, advice));
  EXPECT_FALSE(says(graft({"data", "inspect", folder / "wide", "--intensity-window", "0,4095"}).out, advice));
  EXPECT_TRUE(says(graft({"data", "inspect", folder / "narrow", "--intensity-window", "0,4095"}).out, "leave it out"));

  const auto train = [&](const char* data, const char* run, std::vector<std::string> more) {
    const Outcome outcome = graft(small_training(folder / data, folder / run, std::move(more)));
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome;
  };
  const std::vector<std::string> window = {"--intensity-window", "0,4080", "--epochs", "2"};
  train("narrow", "of-narrow", {"--epochs", "2"});
  EXPECT_FALSE(says(train("wide", "of-wide", window).err, advice));
  EXPECT_TRUE(says(train("wide", "without", {"--max-steps", "1"}).err, advice));
  const auto predictions = [&](const char* run) { return read_text(fs::path(folder / run) / "predictions.csv"); };
  EXPECT_EQ(predictions("of-wide"), predictions("of-narrow"));

  // The model keeps its window: nobody names it again.
  const auto evaluated = [&](const char* run, const char* data) {
    return json::parse(graft({"evaluate", folder / run, folder / data, "--json"}).out).at("loss");
  };
  EXPECT_EQ(evaluated("of-wide", "wide"), evaluated("of-narrow", "narrow"));
  EXPECT_NE(evaluated("of-narrow", "wide"), evaluated("of-narrow", "narrow"));
  const auto seen = [&](const char* verb, const char* part, const std::string& model, const char* data) {
    const std::string image = folder / (data + std::string("/test/circles/000.pgm"));
    std::vector<std::string> arguments = {verb, model, image, "--json"};
    if (verb == std::string("explain")) arguments.insert(arguments.end(), {"-o", folder / "maps"});
    return json::parse(graft(arguments).out).at("images").at(0).at(part);
  };
  const std::string wide = folder / "of-wide", narrow = folder / "of-narrow";
  for (const auto& [verb, part] : {std::pair("predict", "top"), std::pair("explain", "evidence")}) {
    EXPECT_EQ(seen(verb, part, wide, "wide"), seen(verb, part, narrow, "narrow")) << verb;
    EXPECT_NE(seen(verb, part, narrow, "wide"), seen(verb, part, narrow, "narrow")) << verb;
  }

  // A safetensors file brings it along, a .pth is told.
  const auto imported = [&](const char* suffix, std::vector<std::string> more) {
    const std::string file = folder / ("exported" + std::string(suffix)), model = file + ".h5";
    EXPECT_EQ(graft({"export", wide, "-o", file}).exit_code, 0);
    std::vector<std::string> arguments = {"weights", "import", file, "-o", model, "--arch", "densenet121"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    EXPECT_TRUE(says(graft(arguments).out, ", of 16-bit images the numbers 0,4080"));
    return model;
  };
  EXPECT_EQ(seen("predict", "top", imported(".safetensors", {}), "wide"), seen("predict", "top", wide, "wide"));
  imported(".pth", {"--intensity-window", "0,4080"});

  expect_error(graft(small_training(folder / "wide", folder / "none", {"--intensity-window", "4095"})), 2,
               "train.intensity_window: '4095' is no window");
  EXPECT_FALSE(fs::exists(folder / "none"));
}

TEST(IntensityWindow, IsOfEachDataSetInAStudy) {
  const TemporaryFolder folder;
  write_grey_images(folder / "narrow", false);
  write_grey_images(folder / "wide", true);
  const auto study =
      [&](const std::string& wide) {
        std::ofstream(folder / "study.toml")
            << "[study]\nfrom_scratch = true\nnetworks = [\"densenet121\"]\nstrategies = [\"full\"]\nseeds = [1]\n"
            << "[study.datasets]\nnarrow = \"narrow\"\nwide = " << wide
            << "\n[train]\nepochs = 1\nmax_steps = 1\nsize = 32\nbatch = 8\ndevice = \"cpu\"\n";
        return graft({"study", "run", folder / "study.toml", "-o", folder / "study"});
      };
  expect_error(study(R"({ path = "wide", intensity_window = "4095" })"), 2,
               "study.datasets.wide.intensity_window: '4095' is no window");
  const Outcome outcome = study(R"({ path = "wide", intensity_window = "0,4080" })");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.err.find("levels of grey"), std::string::npos) << outcome.err;
  const auto scores = [&](const std::string& dataset) {
    const fs::path run = fs::path(folder / "study") / "runs/densenet121" / dataset / "full/seed-1";
    return json::parse(read_text(run / "summary.json")).at("test");
  };
  EXPECT_EQ(scores("wide"), scores("narrow"));
  // Other bytes are other images.
  const Outcome changed = study("\"wide\"");
  EXPECT_EQ(changed.exit_code, 1);
  EXPECT_NE(changed.err.find("was run with other settings"), std::string::npos) << changed.err;
  fs::remove_all(folder / "study");
  const Outcome dark = study(R"({ path = "wide", intensity_window = "" })");
  EXPECT_NE(dark.err.find("16 levels of grey; in [study.datasets] write wide = { path = "), std::string::npos)
      << dark.err;
}

}  // namespace
}  // namespace graft::testing
