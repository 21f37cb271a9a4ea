// What a run writes for TensorBoard: the numbers of steps.csv and epochs.csv, and each step once however often the run
// was stopped.
#include "strategies/training/tensorboard.h"

#include <map>

#include "data/csv.h"
#include "strategies/batches/image_sheets.h"
#include "strategies_testing.h"
#include "tests/data/event_testing.h"

namespace graft::testing {
namespace {

using namespace testing_events;
using namespace testing_protobuf;

std::vector<std::pair<std::int64_t, float>> curve(const std::vector<ReadValue>& values, std::string_view tag) {
  std::vector<std::pair<std::int64_t, float>> points;
  for (const ReadValue& v : values)
    if (v.tag == tag) points.emplace_back(v.step, float(v.scalar));
  return points;
}

std::vector<std::pair<std::int64_t, float>> points_of(const std::filesystem::path& csv, const char* name) {
  const CsvTable table = parse_csv(read_text(csv), csv.string());
  std::vector<std::pair<std::int64_t, float>> points;
  for (const auto& row : table.rows) points.emplace_back(std::stoll(row[0]), std::stof(row[*table.column(name)]));
  return points;
}

TEST(Tensorboard, ShowsTheNumbersOfTheRun) {
  const TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run");
  s.tensorboard = true;
  run(s);
  const std::vector<ReadValue> values = shown(folder / "run");
  for (const char* name : {"loss", "penalty", "lr"})
    EXPECT_EQ(curve(values, std::string("train/") + name), points_of(folder / "run/steps.csv", name)) << name;
  const auto epochs = points_of(folder / "run/epochs.csv", "val_loss");
  const auto shown_epochs = curve(values, "epoch/val_loss");
  ASSERT_EQ(shown_epochs.size(), epochs.size());
  for (std::size_t i = 0; i < epochs.size(); ++i) EXPECT_EQ(shown_epochs[i].second, epochs[i].second);
  EXPECT_EQ(shown_epochs.back().first, points_of(folder / "run/steps.csv", "loss").back().first);

  // Every block as it was at the start; then what trains, here the head.
  std::map<std::string, std::vector<std::int64_t>> histograms;
  for (const ReadValue& v : values)
    if (!v.histogram.empty()) histograms[v.tag].push_back(v.step);
  EXPECT_EQ(histograms.size(), 9u);
  EXPECT_EQ(histograms["weights/denseblock1"], std::vector<std::int64_t>{0});
  EXPECT_EQ(histograms["weights/classifier"].size(), 1 + epochs.size());
}

/// Of those that a tag has, the first.
Image picture(const std::vector<ReadValue>& values, std::string_view tag) {
  for (const ReadValue& v : values) {
    if (v.tag != tag) continue;
    const std::string png = text(v.image, 4);
    return decode_image({reinterpret_cast<const std::uint8_t*>(png.data()), png.size()}, "png");
  }
  return {};
}

/// Place number `i` of a sheet with four in a row.
Image tile(const Image& sheet, std::int64_t i, std::int64_t side) {
  Image image = Image::blank(side, side);
  for (std::int64_t y = 0; y < side; ++y)
    std::copy_n(sheet.row(i / 4 * (side + 1) + y) + i % 4 * (side + 1) * 3, 3 * side, image.row(y));
  return image;
}

TEST(Tensorboard, ShowsImagesAsTheNetworkSeesThem) {
  const TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run");
  s.tensorboard = true, s.augment = "standard", s.epochs = 1;
  run(s);
  const std::vector<ReadValue> values = shown(folder / "run");
  const Image sheet = picture(values, "train/images");
  const Dataset dataset = open_dataset(s);
  const Transform transform = transform_of(read_model_info(folder / "run" / "best.h5"));
  const std::int64_t side = transform.crop, count = std::ssize(dataset.indices(Split::train));
  ASSERT_LE(count, kSheetImages);  // then the sheet has all of them
  ASSERT_EQ(sheet.width, 4 * side + 3);
  Loader loader(dataset, {.indices = dataset.indices(Split::train),
                          .batch = count,
                          .transform = transform,
                          .augmentation = augmentation_of(s),
                          .seed = std::uint64_t(s.seed)});
  loader.start(0);
  Batch batch;
  ASSERT_TRUE(loader.next(batch));
  std::vector<float> pixels(std::size_t(side * side * 3));
  for (std::int64_t i = 0; i < count; ++i) {
    Normalizer{transform}(pixels.data(), tile(sheet, i, side));
    EXPECT_TRUE(std::equal(pixels.begin(), pixels.end(), batch.pixels.begin() + i * std::ssize(pixels))) << i;
  }

  // The errors of validation, as many as predictions.csv has.
  std::int64_t wrong = 0;
  const CsvTable predictions = parse_csv(read_text(folder / "run/predictions.csv"), "predictions.csv");
  for (const auto& row : predictions.rows) wrong += row[1] == "val" && row[2] != row[3];
  ASSERT_GT(wrong, 0);
  const Image errors = picture(values, "val/surest_errors");
  EXPECT_EQ(errors.width, std::min<std::int64_t>(wrong, 4) * (side + 1) - 1);
  EXPECT_EQ(errors.height, (wrong + 3) / 4 * (side + 1) - 1);
}

TEST(Tensorboard, ShowsTheSurestErrorsFirst) {
  const Dataset dataset = open_dataset(short_run(""));
  const Transform transform{.resize = 32, .crop = 32};
  const Predictions predictions{.classes = 2,
                                .logits = {},
                                .probabilities = {0.6, 0.4, 0.9, 0.1, 0.2, 0.8, 0.7, 0.3},
                                .labels = {1, 1, 1, 1},
                                .samples = {2, 0, 1, 3}};
  const Image sheet = error_sheet(dataset, predictions, transform);
  EXPECT_EQ(sheet.width, 3 * 33 - 1);
  EXPECT_EQ(sheet.height, 32);
  for (const auto& [place, sample] : {std::pair{0, 0}, {1, 3}, {2, 2}})
    EXPECT_EQ(tile(sheet, place, 32), dataset.load(sample)) << place;
  EXPECT_TRUE(
      error_sheet(dataset, {.classes = 2, .probabilities = {0.1, 0.9}, .labels = {1}, .samples = {0}}, transform)
          .rgb.empty());
}

TEST(Tensorboard, AStoppedRunShowsEveryStepOnce) {
  const TemporaryFolder folder;
  const auto settings = [&](const char* name) {
    TrainSettings s = short_run(folder / name);
    s.tensorboard = true, s.epochs = 3;
    return s;
  };
  run(settings("whole"));
  TrainSettings s = settings("parts");
  s.max_steps = 5;
  run(s);
  {
    // As if killed after the checkpoint, a step further.
    EventFile lost(folder / "parts", 6);
    lost.scalar("train/loss", 6, 123);
    lost.flush();
  }
  s.max_steps = -1, s.resume = true;
  run(s);
  const auto whole = shown(folder / "whole"), parts = shown(folder / "parts");
  EXPECT_EQ(curve(parts, "train/loss"), curve(whole, "train/loss"));
  EXPECT_EQ(curve(whole, "train/loss"), points_of(folder / "whole/steps.csv", "loss"));

  s.resume = false, s.overwrite = true, s.tensorboard = false;
  run(s);
  EXPECT_TRUE(shown(folder / "parts").empty());
}

}  // namespace
}  // namespace graft::testing
