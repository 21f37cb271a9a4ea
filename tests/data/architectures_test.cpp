#include "data/architectures.h"

#include "tests/data/weight_testing.h"

namespace graft {
namespace {

using namespace testing_weights;

WeightTable zeros(const NetworkShape& network) {
  WeightTable table;
  for (const NamedShape& tensor : expected_tensors(network)) {
    table.add({tensor.name,
               tensor.shape,
               DType::f32,
               std::vector<float>(static_cast<std::size_t>(element_count(tensor.shape, tensor.name))),
               {}});
  }
  return table;
}

// Counts of torchvision's state_dicts: tensors (here without batch counters), convolutions and parameters.
TEST(Architectures, CountsAreTorchvisions) {
  struct Case {
    const char* name;
    std::int64_t tensors, counters, parameters, backbone;
  };
  const std::vector<Case> cases = {
      {"resnet18", 122, 20, 11'689'512, 11'176'512},      {"resnet34", 218, 36, 21'797'672, 21'284'672},
      {"resnet50", 320, 53, 25'557'032, 23'508'032},      {"resnet101", 626, 104, 44'549'160, 42'500'160},
      {"resnet152", 932, 155, 60'192'808, 58'143'808},    {"densenet121", 727, 121, 7'978'856, 6'953'856},
      {"densenet169", 1015, 169, 14'149'480, 12'484'480}, {"densenet201", 1207, 201, 20'013'928, 18'092'928},
      {"vgg11", 22, 0, 132'863'336, 128'766'336},         {"vgg11_bn", 62, 8, 132'868'840, 128'771'840},
      {"vgg13", 26, 0, 133'047'848, 128'950'848},         {"vgg13_bn", 76, 10, 133'053'736, 128'956'736},
      {"vgg16", 32, 0, 138'357'544, 134'260'544},         {"vgg16_bn", 97, 13, 138'365'992, 134'268'992},
      {"vgg19", 38, 0, 143'667'240, 139'570'240},         {"vgg19_bn", 118, 16, 143'678'248, 139'581'248}};
  ASSERT_EQ(cases.size(), architectures().size());
  for (const Case& c : cases) {
    const NetworkShape network{c.name, 1000, "original"};
    const auto tensors = expected_tensors(network);
    EXPECT_EQ(static_cast<std::int64_t>(tensors.size()), c.tensors - c.counters) << c.name;
    std::int64_t parameters = 0, last = 0;
    for (const NamedShape& t : tensors) {
      if (t.name.ends_with("running_mean") || t.name.ends_with("running_var")) continue;
      parameters += element_count(t.shape, t.name);
      if (t.name.starts_with(classifier_name(network) + ".")) last += element_count(t.shape, t.name);
    }
    EXPECT_EQ(parameters, c.parameters) << c.name;
    EXPECT_EQ(parameters - last, c.backbone) << c.name;
  }
}

TEST(Architectures, HeadsAndErrors) {
  EXPECT_EQ(classifier_name({"resnet50", 3, "original"}), "fc");
  EXPECT_EQ(classifier_name({"densenet121", 3, "original"}), "classifier");
  EXPECT_EQ(classifier_name({"vgg19", 3, "original"}), "classifier.6");
  EXPECT_EQ(classifier_name({"vgg19", 3, "gap"}), "classifier");
  const auto gap = expected_tensors({"vgg19", 7, "gap"});
  EXPECT_EQ(gap.rbegin()[1].shape, (Dimensions{7, 512}));
  EXPECT_EQ(gap.size(), 34U);
  EXPECT_THROW(expected_tensors({"resnet50", 7, "gap"}), Error);
  EXPECT_THROW(expected_tensors({"resnet18", 7, "gap"}), Error);
  EXPECT_SAYS(error_lines_of([] {
                expected_tensors({"resnet51", 7, "original"});
              }),
              "unknown architecture \"resnet51\"; use resnet18, resnet34, resnet50, ");
  EXPECT_THROW(expected_tensors({"vgg19", 0, "original"}), Error);
}

TEST(Architectures, OldAndTimmNames) {
  EXPECT_EQ(torchvision_name("features.denseblock1.denselayer12.norm.1.running_var"),
            "features.denseblock1.denselayer12.norm1.running_var");
  EXPECT_EQ(torchvision_name("features.denseblock1.denselayer12.conv.2.weight"),
            "features.denseblock1.denselayer12.conv2.weight");
  EXPECT_EQ(torchvision_name("features.denseblock1.denselayer12.conv2.weight"),
            "features.denseblock1.denselayer12.conv2.weight");
  EXPECT_EQ(torchvision_name("features.transition1.norm.weight"), "features.transition1.norm.weight");
  EXPECT_EQ(torchvision_name("pre_logits.fc1.weight"), "classifier.0.weight");
  EXPECT_EQ(torchvision_name("head.fc.bias"), "classifier.6.bias");
  EXPECT_EQ(torchvision_name(std::string(1 << 20, 'x')).size(), 1U << 20);
  WeightTable table;
  table.add({"pre_logits.fc2.weight", {4, 3, 1, 2}, DType::f32, std::vector<float>(24), {}});
  EXPECT_EQ(with_torchvision_names(std::move(table)).at("classifier.3.weight").shape, (Dimensions{4, 6}));
}

TEST(Architectures, ComparisonNamesWhatDiffers) {
  const NetworkShape network{"resnet50", 1000, "original"};
  WeightTable table;
  for (WeightTensor& tensor : zeros(network).release()) {
    if (tensor.name == "bn1.bias") continue;
    if (tensor.name == "fc.bias") tensor = {"fc.bias", {2}, DType::f32, {0, 0}, {}};
    table.add(std::move(tensor));
  }
  table.add({"fc2.weight", {1}, DType::f32, {0}, {}});
  const WeightComparison comparison = compare_weights(table, network);
  ASSERT_EQ(comparison.missing.size(), 1U);
  EXPECT_EQ(comparison.missing[0].name, "bn1.bias");
  ASSERT_EQ(comparison.extra.size(), 1U);
  EXPECT_EQ(comparison.extra[0].name, "fc2.weight");
  ASSERT_EQ(comparison.mismatched.size(), 1U);
  EXPECT_EQ(comparison.mismatched[0].got, (Dimensions{2}));
  EXPECT_EQ(comparison_text(comparison),
            "  missing     bn1.bias    [64]\n"
            "  extra       fc2.weight  [1]\n"
            "  mismatched  fc.bias     expected [1000], got [2]");
  EXPECT_SAYS(comparison_text(compare_weights(WeightTable{}, network), 3), "... and 264 more");
}

TEST(Architectures, GuessesFromNames) {
  for (const Architecture& a : architectures()) {
    const std::string head = a.family == Family::vgg ? "gap" : "original";  // VGG's own is 500 MB of zeros
    const NetworkShape guess = guess_network(zeros({std::string(a.name), 17, head}));
    EXPECT_EQ(guess.architecture, a.name);
    EXPECT_EQ(guess.num_classes, 17);
    EXPECT_EQ(guess.head, head);
  }
  EXPECT_EQ(guess_network(WeightTable{}).architecture, "");
}

}  // namespace
}  // namespace graft
