// Full-size files in the published layouts, written by tests/reference/make_weight_files.py full DIR. They take 2.5 GB,
// so these tests run where GRAFT_WEIGHT_FILES names that folder and are skipped elsewhere.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "data/weight_import.h"
#include "tests/data/weight_testing.h"

namespace graft {
namespace {

using namespace testing_weights;

struct FullFile {
  const char* name;
  const char* architecture;
  const char* format;
  bool is_bfloat16 = false;
};

class FullWeightFile : public ::testing::TestWithParam<FullFile> {};

TEST_P(FullWeightFile, ImportsToTheModelFile) {
  const char* folder = std::getenv("GRAFT_WEIGHT_FILES");
  if (folder == nullptr) GTEST_SKIP() << "GRAFT_WEIGHT_FILES is not set";
  const FullFile& file = GetParam();
  const ImportedWeights result =
      import_weights({.path = std::filesystem::path(folder) / file.name, .architecture = file.architecture});
  EXPECT_EQ(result.format, file.format);
  EXPECT_EQ(result.info.num_classes, 1000);
  const bool is_keras_resnet = std::string(file.name).starts_with("keras_resnet50");
  EXPECT_EQ(result.info.stride_on, is_keras_resnet ? "1x1" : "3x3");
  const auto expected = expected_tensors(result.info.network());
  ASSERT_EQ(result.weights.size(), static_cast<std::int64_t>(expected.size()));
  for (const NamedShape& t : expected) {
    const WeightTensor& tensor = result.weights.at(t.name);
    if (is_keras_resnet && t.name.ends_with("running_mean")) {
      std::string convolution = t.name.substr(0, t.name.size() - std::string("running_mean").size()) + "bias";
      const std::size_t norm = convolution.rfind("bn");
      convolution = norm != std::string::npos
                        ? convolution.replace(norm, 2, "conv")
                        : convolution.replace(convolution.find("downsample.1"), 12, "downsample.0");
      for (std::size_t i = 0; i < tensor.values.size(); ++i) {
        const auto at = static_cast<std::int64_t>(i);
        ASSERT_EQ(tensor.values[i], value_of(t.name, at) - value_of(convolution, at)) << t.name;
      }
    } else {
      ASSERT_NO_FATAL_FAILURE(expect_values(
          tensor, t.name, file.is_bfloat16 ? rounded_to_bfloat16 : [](float x) { return x; }));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Published, FullWeightFile,
                         ::testing::Values(FullFile{"resnet50_torchvision.pth", "resnet50", "pth"},
                                           FullFile{"resnet50_legacy_wrapped.pth", "resnet50", "pth"},
                                           FullFile{"resnet50_bf16.safetensors", "resnet50", "safetensors", true},
                                           FullFile{"resnet50_f16.safetensors", "resnet50", "safetensors"},
                                           FullFile{"densenet121_legacy_old_names.pth", "densenet121", "pth"},
                                           FullFile{"densenet121_torchvision.pth", "densenet121", "pth"},
                                           FullFile{"vgg19_legacy.pth", "vgg19", "pth"},
                                           FullFile{"vgg19_timm.pth", "vgg19", "pth"},
                                           FullFile{"keras_resnet50_old.h5", "resnet50", "keras"},
                                           FullFile{"keras_resnet50_new.h5", "resnet50", "keras"},
                                           FullFile{"keras_densenet121.h5", "densenet121", "keras"},
                                           FullFile{"keras_vgg19.h5", "vgg19", "keras"}),
                         [](const auto& instance) {
                           std::string name = instance.param.name;
                           std::replace_if(
                               name.begin(), name.end(), [](char c) { return c == '.'; }, '_');
                           return name;
                         });

// A program start under 0.8 s depends on it: a 100 MB model file from the page cache.
TEST(ModelFileSpeed, HundredMegabytes) {
  const char* folder = std::getenv("GRAFT_WEIGHT_FILES");
  if (folder == nullptr) GTEST_SKIP() << "GRAFT_WEIGHT_FILES is not set";
  const TemporaryFolder scratch;
  const ImportedWeights result =
      import_weights({.path = std::filesystem::path(folder) / "resnet50_torchvision.pth", .architecture = "resnet50"});
  write_model_file(scratch / "m.h5", result.info, result.weights);
  double best = 1e9;
  for (int i = 0; i < 9; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const ModelFile model = read_model_file(scratch / "m.h5");
    best = std::min(best, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    ASSERT_EQ(model.weights.size(), 267);
  }
  RecordProperty("milliseconds", std::to_string(best));
  std::printf("read_model_file, 102 MB: %.1f ms\n", best);
  EXPECT_LT(best, 150) << "four times the time on an idle machine";
}

}  // namespace
}  // namespace graft
