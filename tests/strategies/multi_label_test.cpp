// Training where an image may have several labels, or none: colours, each of which is there or not.
#include "strategies/batches/image_sheets.h"
#include "strategies/training/evaluate.h"
#include "strategies/training/run_export.h"
#include "strategies_testing.h"

namespace graft {
namespace {

using testing::column;
using testing::contains;
using testing::csv;
using testing::error_of;
using testing::Ran;
using testing::RecordingSink;
using testing::short_run;
using testing::TemporaryFolder;
using testing::Workshop;

constexpr const char* kColours[] = {"red", "green", "blue"};

/// Noise, brighter in the channels whose bits are set.
Image coloured(int bits, std::uint64_t number) {
  Random random({.seed = 5, .stream = RandomStream::drawing, .epoch = std::uint32_t(bits), .index = number});
  Image image = Image::blank(32, 32);
  for (std::size_t i = 0; i < image.rgb.size(); ++i)
    image.rgb[i] = std::uint8_t(((bits >> (i % 3) & 1) != 0 ? 150 : 60) + random.below(60));
  return image;
}

std::string names_of(int bits) {
  std::string names;
  for (int c = 0; c < 3; ++c)
    if ((bits >> c & 1) != 0) names += (names.empty() ? "" : "|") + std::string(kColours[c]);
  return names;
}

/// list.csv and its images: 48 for training, 16 each for validation and testing, two of which are blue.
std::string draw_coloured(const TemporaryFolder& folder) {
  std::string text = "path,labels,split\n";
  int number = 0;
  for (const auto& [split, rounds] : {std::pair("train", 6), std::pair("val", 2), std::pair("test", 2)})
    for (int i = 0; i < rounds * 8; ++i, ++number) {
      const int bits = i < 2 ? 4 + i : i % 4;
      const std::string name = std::to_string(number) + ".png";
      write_atomically(folder / name, encode_png(coloured(bits, std::uint64_t(number))));
      text += name + "," + names_of(bits) + "," + split + "\n";
    }
  return folder.write("list.csv", text).string();
}

nlohmann::json summary_of(const TrainSettings& s) {
  return nlohmann::json::parse(read_text(s.output + "/summary.json"));
}

TEST(MultiLabelTraining, LearnsEachLabelAndWritesItsScores) {
  const TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run", "full");
  s.data = draw_coloured(folder), s.epochs = 3, s.lr = 1e-3, s.batch = 8, s.class_weights = "balanced";
  s.tensorboard = true;
  const Ran ran = testing::run(s);
  EXPECT_TRUE(contains(ran.sink.notes, "new head: 3 classes (blue, green, red), any number of them per image"));
  EXPECT_EQ(ran.result.monitor, "auc");
  EXPECT_GT(ran.result.best_val_score, 0.95);
  EXPECT_GT(ran.sink.epochs.back().train_accuracy, 0.8) << ran.sink.notes;
  EXPECT_LE(ran.sink.epochs.back().train_accuracy, 1.0);

  const auto summary = summary_of(s);
  EXPECT_EQ(summary.at("monitor"), "auc");
  const auto& test = summary.at("test");
  EXPECT_GT(test.at("auc"), 0.95);
  EXPECT_FALSE(test.contains("confusion"));
  ASSERT_EQ(test.at("classes").size(), 3U);
  EXPECT_EQ(test.at("classes")[0].at("name"), "blue");
  EXPECT_EQ(test.at("classes")[0].at("positives"), 2);
  const CsvTable predictions = csv(s.output + "/predictions.csv");
  EXPECT_EQ(predictions.header,
            (std::vector<std::string>{"path", "split", "labels", "predicted", "p_blue", "p_green", "p_red"}));
  ASSERT_EQ(predictions.rows.size(), 32U);
  EXPECT_EQ(predictions.rows[2][2], "green");
  EXPECT_EQ(predictions.rows[3][2], "green|red") << "in the order of the classes";
  for (const auto& row : predictions.rows) {
    std::string names;
    for (std::size_t c = 0; c < 3; ++c)
      if (std::stod(row[4 + c]) > 0.5) names += (names.empty() ? "" : "|") + predictions.header[4 + c].substr(2);
    EXPECT_EQ(row[3], names);
  }

  // What the model file says is enough for the same scores.
  EXPECT_TRUE(read_model_info(s.output + "/best.h5").is_multi_label);
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  RecordingSink sink;
  const EvaluationResult again = evaluate(context, {.model = s.output, .data = s.data, .threads = 2}, sink);
  EXPECT_NEAR(again.loss, test.at("loss").get<double>(), 1e-6);  // in other batches
  EXPECT_EQ(again.of_classes[1].auc, test.at("classes")[1].at("auc"));
  TrainSettings finished = s;
  finished.resume = true;
  const Ran resumed = testing::run(finished);
  EXPECT_TRUE(resumed.result.was_finished_before);
  EXPECT_EQ(resumed.result.test.of_classes.size(), 3U);
  EXPECT_EQ(resumed.result.monitor, "auc");

  TrainSettings next = s;
  next.weights = s.output + "/best.h5", next.output = (folder / "next").string(), next.max_steps = 0;
  EXPECT_TRUE(contains(testing::run(next).sink.notes, "its head is kept"));
}

TEST(MultiLabelTraining, GivesTheSameFromImagesAndFromKeptFeatures) {
  const TemporaryFolder folder;
  TrainSettings s = short_run(folder / "features");
  s.data = draw_coloured(folder);
  EXPECT_TRUE(contains(testing::run(s).sink.notes, "their output is computed once"));
  TrainSettings images = s;
  images.output = (folder / "images").string(), images.feature_cache = false;
  testing::run(images);
  EXPECT_EQ(read_text(s.output + "/predictions.csv"), read_text(images.output + "/predictions.csv"));
}

TEST(MultiLabelTraining, BatchesOfAnUpdateWeighByTheirImages) {
  const TemporaryFolder folder;
  TrainSettings s = short_run(folder / "whole");
  s.data = draw_coloured(folder), s.class_weights = "balanced", s.label_smoothing = 0.1, s.batch = 12, s.max_steps = 3;
  const Ran whole = testing::run(s, DeviceKind::reference);
  TrainSettings parts = s;
  parts.output = (folder / "parts").string(), parts.batch = 4, parts.accumulate = 3;
  testing::run(parts, DeviceKind::reference);
  const auto probabilities = [&](const TrainSettings& of) {
    return column(csv(of.output + "/predictions.csv"), "p_red");
  };
  const std::vector<double> a = probabilities(s), b = probabilities(parts);
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-8) << i;  // nine digits in the file
}

TEST(MultiLabelTraining, GoesOnAfterAnInterruptionToTheSameBits) {
  const TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run", "full");
  s.data = draw_coloured(folder), s.batch = 16;
  testing::run(s);
  TrainSettings cut = s;
  cut.output = (folder / "cut").string();
  const RunResult stopped =
      testing::run_until(cut, [](const PassProgress& p) { return p.pass == "train" && p.epoch == 2 && p.done >= 16; });
  EXPECT_TRUE(stopped.was_interrupted);
  cut.resume = true;
  testing::run(cut);
  EXPECT_EQ(testing::differing_tensors(s.output + "/last.h5", cut.output + "/last.h5"), std::vector<std::string>{});
  EXPECT_EQ(read_text(s.output + "/predictions.csv"), read_text(cut.output + "/predictions.csv"));
}

TEST(MultiLabelTraining, IsEvaluatedOnSomeOfItsClasses) {
  const TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run");
  s.data = draw_coloured(folder), s.max_steps = 2;
  testing::run(s);
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  RecordingSink sink;
  const auto scores = [&](const std::string& rows) {
    const std::string list = folder.write("other.csv", "path,labels\n" + rows).string();
    return evaluate(context, {.model = s.output, .data = list, .split = "all", .threads = 2, .intervals = true}, sink);
  };
  const EvaluationResult some = scores("0.png,red\n1.png,\n2.png,red\n3.png,\n");  // red is the model's last class
  EXPECT_EQ(some.class_names, (std::vector<std::string>{"blue", "green", "red"}));
  EXPECT_EQ(some.of_classes[0].positives, 0);
  EXPECT_EQ(some.of_classes[2].positives, 2);
  EXPECT_TRUE(std::isnan(some.of_classes[0].auc));
  EXPECT_EQ(some.auc, some.of_classes[2].auc);
  EXPECT_EQ(some.intervals.at(Score::auc).estimate, some.auc);
  const EvaluationResult none = scores("0.png,\n1.png,\n");  // how often nothing is found where nothing is
  EXPECT_TRUE(std::isnan(none.sensitivity));
  EXPECT_FALSE(std::isnan(none.specificity));
}

TEST(MultiLabelTraining, RefusesWhatDoesNotFit) {
  const TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run");
  s.data = draw_coloured(folder), s.max_steps = 1;
  testing::run(s);
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  RecordingSink sink;
  const auto refusal = [&](const std::string& model, const std::string& data) {
    return error_of([&] { evaluate(context, {.model = model, .data = data, .threads = 2}, sink); });
  };
  EXPECT_TRUE(contains(refusal(s.output, Workshop::get().images().string()), "the model gives any number of classes"));
  EXPECT_TRUE(contains(refusal(Workshop::get().model().string(), s.data), "the data has any number of labels"));

  // Of each class all validation images or none: no area under a curve.
  TrainSettings flat = s;
  flat.output = (folder / "flat").string();
  flat.data =
      folder.write("flat.csv", "path,labels,split\n0.png,a,train\n2.png,b,train\n3.png,a|b,train\n4.png,b,val\n");
  EXPECT_TRUE(contains(error_of([&] { testing::run(flat); }), "for which AUC is not defined"));
  EXPECT_FALSE(std::filesystem::exists(flat.output));
  flat.monitor = "macro_accuracy";
  EXPECT_TRUE(contains(error_of([&] { testing::run(flat); }), "for which macro accuracy is not defined"));
  TrainSettings none = flat;
  none.data = folder.write("none.csv", "path,labels,split\n0.png,a,train\n2.png,b,train\n4.png,,val\n");
  for (const char* monitor : {"average_precision", "macro_f1"}) {
    none.monitor = monitor;
    EXPECT_TRUE(contains(error_of([&] { testing::run(none); }), "no validation image has a label")) << monitor;
  }
  flat.class_weights = "balanced", flat.monitor = "loss";
  testing::run(flat);
  EXPECT_TRUE(summary_of(flat).at("val").at("auc").is_null());
}

TEST(MultiLabelTraining, SheetsOfErrorsShowWrongAnswers) {
  LabelNumbers numbers;
  const std::vector<std::int32_t> labels{numbers.label_of({0}), numbers.label_of({1})};
  const TemporaryFolder folder;
  write_atomically(folder / "0.png", encode_png(coloured(1, 0)));
  write_atomically(folder / "1.png", encode_png(coloured(2, 0)));
  const std::string list = folder.write("list.csv", "path,labels\n0.png,a\n1.png,b\n").string();
  const Dataset data = Dataset::open({.path = list, .test_fraction = 0, .for_training = false, .needs_val = false});
  Predictions predictions{.classes = 2, .label_sets = numbers.sets(), .labels = labels, .samples = {0, 1}};
  const Transform transform{.resize = 32, .crop = 32};
  predictions.probabilities = {0.9, 0.2, 0.4, 0.7};
  EXPECT_TRUE(error_sheet(data, predictions, transform).rgb.empty());
  predictions.probabilities = {0.9, 0.2, 0.8, 0.7};  // the second image is taken for both
  EXPECT_EQ(error_sheet(data, predictions, transform).rgb, data.load(1).rgb);
}

}  // namespace
}  // namespace graft
