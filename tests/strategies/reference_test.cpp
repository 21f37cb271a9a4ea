// Whole runs of every strategy against an independent PyTorch implementation in float64, step by step: losses,
// penalties, validation, and the change of every tensor. DenseNet-121 at 32 pixels, from weights by formula, on drawn
// images. References: tests/reference/make_strategies.py, which also compares ResNet-50 (--follow).
#include <gtest/gtest.h>

#include <set>

#include "data/csv.h"
#include "strategies/strategy.h"
#include "tests/models/models_testing.h"
#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

using Json = nlohmann::json;
using testing::column;
using testing::csv;
using testing::Ran;
using testing::TemporaryFolder;

constexpr std::int64_t kClasses = 3, kTrain = 12, kVal = 6, kSize = 32;
constexpr double kLoss = 1e-8, kChange = 1e-7;  // rounding in double, grown by up to eleven steps

std::filesystem::path references() {
  return std::filesystem::path(GRAFT_SOURCE_DIR) / "tests" / "reference" / "strategies";
}

Json reference(const std::string& name) { return Json::parse(read_text(references() / (name + ".json"))); }

/// Noise around the colour of its class, as the script draws it.
Image formula_image(std::int64_t number) {
  const FormulaUniform uniform("image." + std::to_string(number));
  Image image = Image::blank(kSize, kSize);
  for (std::size_t i = 0; i < image.rgb.size(); ++i)
    image.rgb[i] =
        std::uint8_t(uniform(std::int64_t(i)) * 80 + (std::int64_t(i % 3) == number % kClasses ? 140.0 : 90.0));
  return image;
}

/// Images, their list and the model, made once per test program.
class Start {
 public:
  static const Start& get() {
    static const Start start;
    return start;
  }
  std::filesystem::path images() const { return folder_ / "images.csv"; }
  std::filesystem::path model() const { return folder_ / "model.h5"; }

 private:
  Start() {
    std::string list = "path,label,split\n";
    for (std::int64_t n = 0; n < kTrain + kVal; ++n) {
      const std::string name = std::to_string(n) + ".png";
      write_atomically(folder_ / name, encode_png(formula_image(n)));
      list += name + "," + "abc"[n % kClasses] + (n < kTrain ? ",train\n" : ",val\n");
    }
    write_atomically(images(), std::string_view(list));
    Context context(make_backend({DeviceKind::reference}));
    ModelInfo info;
    info.architecture = "densenet121";
    info.num_classes = kClasses;
    info.class_names = {"a", "b", "c"};  // the data's, so that the head stays
    info.input_size = info.resize = kSize;
    const auto network = make_network(context, info);
    fill_by_formula(*network);
    save_network(model(), *network);
  }
  TemporaryFolder folder_;
};

SettingValue value_of(const Json& json) {
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_integer()) return json.get<std::int64_t>();
  if (json.is_number()) return json.get<double>();
  return json.get<std::string>();
}

TrainSettings settings_of(const Json& reference, const std::filesystem::path& output) {
  TrainSettings settings;
  set_by_key(settings, "strategy.name", value_of(reference.at("settings").at("strategy.name")));
  for (const auto& [key, value] : reference.at("settings").items()) set_by_key(settings, key, value_of(value));
  settings.data = Start::get().images().string();
  settings.weights = Start::get().model().string();
  settings.output = output.string();
  settings.threads = 2;
  return settings;
}

/// The largest relative difference; infinite if the lengths differ.
double largest_difference(const std::vector<double>& got, const std::vector<double>& expected) {
  if (got.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double largest = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double d = std::abs(got[i] - expected[i]) / std::max(std::abs(expected[i]), 1e-12);
    if (!(d <= largest)) largest = d;  // a NaN is the largest
  }
  return largest;
}

struct Worst {
  double share = 0;
  std::string tensor;
};

/// How far the change of each tensor is from the reference's, as a share of it; infinite where one moved and the other
/// did not.
Worst compare_changes(const std::filesystem::path& trained, const Json& expected) {
  const WeightTable before = read_model_file(Start::get().model()).weights, after = read_model_file(trained).weights;
  Worst worst;
  for (const WeightTensor& t : after.tensors()) {
    const WeightTensor& start = before.at(t.name);
    std::vector<double> change = t.exact;
    for (std::size_t i = 0; i < change.size(); ++i) change[i] -= start.exact[i];
    const Summary got = summary_of(t.name, change);
    double share = got[0] == 0 ? 0 : std::numeric_limits<double>::infinity();
    if (expected.contains(t.name)) {
      const std::vector<double> want = expected.at(t.name);
      share = 0;
      for (std::size_t i = 0; i < want.size(); ++i) share = std::max(share, std::abs(got[i] - want[i]) / want[0]);
    }
    if (!(share <= worst.share)) worst = {share, t.name};
  }
  return worst;
}

class StrategyReference : public ::testing::TestWithParam<std::string> {};

TEST_P(StrategyReference, EqualsPyTorchStepByStep) {
  const Json expected = reference(GetParam());
  TemporaryFolder folder;
  const Ran ran = testing::run(settings_of(expected, folder / "run"), DeviceKind::reference);
  const CsvTable steps = csv(folder / "run" / "steps.csv"), epochs = csv(folder / "run" / "epochs.csv");

  const double loss = largest_difference(column(steps, "loss"), expected.at("losses"));
  EXPECT_LE(loss, kLoss);
  EXPECT_LE(largest_difference(column(steps, "penalty"), expected.at("penalties")), kLoss);
  EXPECT_LE(largest_difference(column(steps, "lr"), expected.at("rates")), 1e-11);  // as printed
  EXPECT_LE(largest_difference(column(epochs, "val_loss"), expected.at("val_losses")), kLoss);
  EXPECT_LE(largest_difference(column(epochs, "val_macro_accuracy"), expected.at("val_macro_accuracies")), kLoss);
  const Worst change = compare_changes(folder / "run" / "last.h5", expected.at("changes"));
  EXPECT_LE(change.share, kChange) << change.tensor;
  std::printf("  losses differ by %.1e, changes by %.1e (%s)\n", loss, change.share, change.tensor.c_str());
}

std::vector<std::string> cases() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(references()))
    names.push_back(entry.path().stem().string());
  std::ranges::sort(names);
  return names;
}

std::string test_name(std::string name) {
  std::ranges::replace(name, '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Cases, StrategyReference, ::testing::ValuesIn(cases()),
                         [](const auto& test) { return test_name(test.param); });

// A strategy without a reference would go unnoticed.
TEST(StrategyReferences, CoverEveryStrategy) {
  std::set<std::string> covered;
  for (const std::string& name : cases()) covered.insert(reference(name).at("settings").at("strategy.name"));
  for (const StrategyInfo& info : strategies()) EXPECT_TRUE(covered.contains(std::string(info.name))) << info.name;
}

}  // namespace
}  // namespace graft
