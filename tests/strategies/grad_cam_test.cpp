// Grad-CAM against PyTorch's float64 (tests/reference/make_grad_cam.py): several classes of every image, on all
// three networks. Then what users get of it: a map as large as the input, whatever the batch, and a picture.
#include "strategies/analysis/grad_cam.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "data/dataset.h"
#include "strategies_testing.h"
#include "tests/models/models_testing.h"

namespace graft::testing {
namespace {

using Json = nlohmann::json;

Json references() {
  std::ifstream file(std::string(GRAFT_SOURCE_DIR) + "/tests/reference/networks/grad_cam.json");
  return Json::parse(file);
}

class GradCams : public ::testing::TestWithParam<const char*> {
 protected:
  const Json expected_ = references().at(GetParam());
  const std::int64_t batch_ = expected_["batch"], size_ = expected_["size"], classes_ = expected_["num_classes"];

  std::unique_ptr<Network> network_in(Context& context) const {
    auto network = make_network(context, {.architecture = expected_["architecture"],
                                          .stride_on = expected_.value("stride_on", "3x3"),
                                          .bn_epsilon = expected_.value("bn_epsilon", 1e-5),
                                          .num_classes = classes_,
                                          .head = expected_.value("head", "original")});
    fill_by_formula(*network);
    return network;
  }
  Tensor input(Context& context) const {
    const Shape shape{batch_, 3, size_, size_};
    return from_host(context, shape, formula_values("input.0", shape.size(), 0, 2));
  }
  /// The largest difference of one class's evidence in all images, over its largest value; `scale` grows with that.
  double difference(const std::vector<ClassEvidence>& got, std::int64_t c) const {
    double largest = 0, scale = 0;
    for (std::int64_t i = 0; i < batch_; ++i) {
      const Json& rows = expected_["evidence"][std::size_t(i)][std::size_t(c)];
      const ClassEvidence& e = got[std::size_t(i)];
      EXPECT_EQ(e.rows, std::ssize(rows));
      EXPECT_EQ(e.columns, std::ssize(rows[0]));
      for (std::int64_t r = 0; r < e.rows; ++r)
        for (std::int64_t col = 0; col < e.columns; ++col) {
          const double want = rows[std::size_t(r)][std::size_t(col)];
          largest = std::max(largest, std::abs(e.evidence[std::size_t(r * e.columns + col)] - want));
          scale = std::max(scale, want);
        }
    }
    positive_classes_ += scale > 0;
    return scale > 0 ? largest / scale : largest;
  }
  mutable int positive_classes_ = 0;
};

TEST_P(GradCams, EqualPyTorchsFloat64) {
  Context context(make_backend({DeviceKind::reference}));
  const auto network = network_in(context);
  const Tensor x = input(context);
  for (std::int64_t c = 0; c < classes_; c += 3) {
    const std::vector<std::int64_t> asked(std::size_t(batch_), c);
    EXPECT_LT(difference(class_evidence(*network, x, asked), c), 1e-8) << "class " << c;
  }
  EXPECT_GE(positive_classes_, 2);  // a map without evidence proves little
  const std::vector<ClassEvidence> predicted = class_evidence(*network, x, {});
  for (std::size_t i = 0; i < predicted.size(); ++i) {
    EXPECT_EQ(predicted[i].class_index, expected_["predicted"][i]);
    EXPECT_NEAR(predicted[i].probability, expected_["probability"][i], 1e-10);
  }
}

TEST_P(GradCams, FollowOnTheCpu) {
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  const auto network = network_in(context);
  const Tensor x = input(context);
  const std::int64_t c = expected_["predicted"][0];
  const std::vector<std::int64_t> asked(std::size_t(batch_), c);
  // float32 through 16 to 120 convolutions: rounding of 1e-7 that grows along the way
  EXPECT_LT(difference(class_evidence(*network, x, asked), c), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Networks, GradCams,
                         ::testing::Values("resnet50", "resnet50_v1", "densenet121", "vgg19_64", "vgg19_gap"));

std::vector<std::string> some_images() {
  std::vector<std::string> files;
  for (const std::filesystem::path& file : list_images(Workshop::get().images() / "test"))
    files.push_back(file.string());
  return files;
}

TEST(GradCam, MapsAreAsLargeAsTheInputWhateverTheBatch) {
  Context context(make_backend({DeviceKind::reference}));
  const std::vector<std::string> files = some_images();
  const std::vector<GradCam> all = grad_cam(context, Workshop::get().model(), files, {});
  ASSERT_EQ(all.size(), files.size());
  for (std::size_t i = 0; i < 2; ++i) {
    const std::vector<GradCam> alone =
        grad_cam(context, Workshop::get().model(), std::span(files).subspan(i, 1), std::vector{all[i].class_index});
    EXPECT_EQ(alone[0].map, all[i].map);
    EXPECT_EQ(alone[0].probability, all[i].probability);
    EXPECT_EQ(all[i].width, 32);
    EXPECT_EQ(all[i].map.size(), 32u * 32u);
    EXPECT_EQ(all[i].input, decode_image(std::filesystem::path(files[i])));
  }
}

TEST(GradCam, SaysWhichClassIsNotThere) {
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  const std::vector<std::string> files = some_images();
  const auto with = [&](std::vector<std::int64_t> classes) {
    return error_of([&] { grad_cam(context, Workshop::get().model(), std::span(files).first(2), classes); });
  };
  expect_names(with({0, 5}), {"no class 5", "0 to 4"});
  expect_names(with({0}), {"1 classes for 2 images"});
}

/// A picture by hand: what is cold stays, what is hot turns red, between centres the map is linear.
TEST(GradCam, OverlaysWhatIsHot) {
  GradCam e;
  e.width = 3, e.height = 1, e.map = {0, 0.5F, 1};
  e.input = Image::blank(1, 3, 100);
  const Image image = overlay(e);
  EXPECT_EQ(std::vector(image.rgb.begin(), image.rgb.begin() + 3), (std::vector<std::uint8_t>{100, 100, 100}));
  EXPECT_GT(image.rgb[4], image.rgb[3]);  // green in the middle
  EXPECT_GT(image.rgb[6], 1.5 * image.rgb[7]);
  EXPECT_EQ(image.rgb[7], image.rgb[8]);
}

}  // namespace
}  // namespace graft::testing
