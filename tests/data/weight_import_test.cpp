#include "data/weight_import.h"

#include "data/files.h"
#include "data/safetensors.h"
#include "tests/data/weight_testing.h"

namespace graft {
namespace {

using namespace testing_weights;

TEST(Labels, EveryUsualForm) {
  const TemporaryFolder folder;
  const auto labels = [&](const std::string& text) {
    write_bytes(folder / "l", text);
    return read_labels(folder / "l");
  };
  const std::vector<std::string> expected = {"tench", "great white", "c"};
  EXPECT_EQ(labels(R"({"0": "tench", "1": "great white", "2": "c"})"), expected);
  EXPECT_EQ(labels(R"({"2": "c", "0": ["n01440764", "tench"], "1": ["n01", "great white"]})"), expected);
  EXPECT_EQ(labels(R"(["tench", "great white", "c"])"), expected);
  EXPECT_EQ(labels("tench\r\ngreat white\r\nc\r\n"), expected);
  EXPECT_EQ(labels("tench\ngreat white\nc"), expected);
  std::string twelve = "{";
  for (int i = 0; i < 12; ++i) twelve += (i ? ",\"" : "\"") + std::to_string(i) + "\":\"n" + std::to_string(i) + "\"";
  EXPECT_EQ(labels(twelve + "}")[10], "n10") << "indices are numbers, not texts in alphabetical order";
  for (const char* bad : {"", "  ", "{\"0\":1}", "{\"0\":\"a\",\"2\":\"b\"}", "{\"a\":\"b\"}", "[1]", "{", "a\n\nb\n",
                          "{\"0\":\"a\",\"00\":\"b\"}", "[[[]]]", "{\"99999999999999999999\":\"a\"}"}) {
    EXPECT_THROW(labels(bad), Error) << bad;
  }
}

TEST(Preprocessing, Presets) {
  ModelInfo info;
  set_preprocessing(info, "caffe");
  EXPECT_EQ(info.channel_order, "bgr");
  EXPECT_EQ(info.input_scale, 1);
  EXPECT_EQ(info.mean[0], 103.939);
  set_preprocessing(info, "torch");
  EXPECT_EQ(info.channel_order, "rgb");
  EXPECT_EQ(info.mean[0], 0.485);
  set_preprocessing(info, "none");
  EXPECT_EQ(info.input_scale, 255);
  EXPECT_EQ(info.std[2], 1);
  EXPECT_THROW(set_preprocessing(info, "other"), Error);
}

/// A complete DenseNet-121 with few classes: the smallest of the networks.
WeightTable densenet(std::int64_t num_classes) {
  WeightTable table;
  for (const NamedShape& t : expected_tensors({"densenet121", num_classes, "original"})) {
    table.add({t.name,
               t.shape,
               DType::f32,
               std::vector<float>(static_cast<std::size_t>(element_count(t.shape, t.name)), 0.5f),
               {}});
  }
  return table;
}

class ImportTest : public ::testing::Test {
 protected:
  ImportRequest request_for(const WeightTable& table) {
    write_safetensors(folder_ / "w", table);
    return {.path = folder_ / "w", .architecture = "densenet121"};
  }
  TemporaryFolder folder_;
};

TEST_F(ImportTest, DefaultsAndSettings) {
  ImportRequest request = request_for(densenet(3));
  ImportedWeights result = import_weights(request);
  EXPECT_EQ(result.format, "safetensors");
  EXPECT_EQ(result.recognised, "");
  EXPECT_EQ(result.info.num_classes, 3);
  EXPECT_EQ(result.info.stride_on, "3x3");
  EXPECT_EQ(result.info.bn_epsilon, 1e-5);
  EXPECT_EQ(result.info.channel_order, "rgb");
  EXPECT_EQ(result.info.resize, 256);
  EXPECT_EQ(result.info.source, "w");
  EXPECT_EQ(result.info.source_sha256, sha256_of_file(folder_ / "w"));
  write_bytes(folder_ / "labels.txt", "a\nb\nc\n");
  request.labels = folder_ / "labels.txt";
  request.preprocess = "caffe";
  request.bn_epsilon = 1e-3;
  request.resize = 232;
  result = import_weights(request);
  EXPECT_EQ(result.info.class_names[2], "c");
  EXPECT_EQ(result.info.channel_order, "bgr");
  EXPECT_EQ(result.info.bn_epsilon, 1e-3);
  EXPECT_EQ(result.info.resize, 232);
  write_model_file(folder_ / "m.h5", result.info, result.weights);
  const WeightFileReport report = inspect_weights(folder_ / "m.h5");
  EXPECT_EQ(report.format, "graft-model");
  EXPECT_EQ(report.network.architecture, "densenet121");
  ASSERT_TRUE(report.info.has_value());
  EXPECT_EQ(report.info->resize, 232);
  EXPECT_TRUE(report.comparison.is_equal());

  ImportedWeights other = result;
  other.info.resize = 256;
  write_model_file(folder_ / "resized.h5", other.info, other.weights);
  const WeightFileReport resized = inspect_weights(folder_ / "resized.h5");
  EXPECT_NE(resized.sha256, report.sha256);
  EXPECT_EQ(resized.values_sha256, report.values_sha256);
  WeightTable changed;
  for (WeightTensor& tensor : std::move(other.weights).release()) {
    if (tensor.name == "features.norm5.bias") tensor.values[3] += 1;
    changed.add(std::move(tensor));
  }
  write_model_file(folder_ / "changed.h5", other.info, changed);
  EXPECT_NE(inspect_weights(folder_ / "changed.h5").values_sha256, report.values_sha256);
  request.path = folder_ / "m.h5";
  EXPECT_SAYS(error_lines_of([&] { import_weights(request); }), "already a graft model file");
}

TEST_F(ImportTest, DifferencesAreATable) {
  WeightTable table;
  for (WeightTensor& tensor : densenet(3).release()) {
    if (tensor.name == "features.norm0.bias") continue;
    if (tensor.name == "features.norm5.bias") tensor = {tensor.name, {7}, DType::f32, std::vector<float>(7), {}};
    table.add(std::move(tensor));
  }
  table.add({"extra.weight", {1}, DType::f32, {1}, {}});
  ImportRequest request = request_for(table);
  for (const bool is_partial : {false, true}) {
    request.is_partial = is_partial;
    const std::string text = error_lines_of([&] { import_weights(request); });
    EXPECT_SAYS(text, "1 missing, 1 extra, 1 mismatched");
    EXPECT_SAYS(text, "features.norm0.bias");
    EXPECT_SAYS(text, "extra.weight");
    EXPECT_SAYS(text, "expected [1024], got [7]");
  }
}

TEST_F(ImportTest, PartialFilesSayWhatStaysRandom) {
  WeightTable table;
  for (WeightTensor& tensor : densenet(3).release()) {
    if (!tensor.name.starts_with("classifier")) table.add(std::move(tensor));
  }
  ImportRequest request = request_for(table);
  EXPECT_SAYS(error_lines_of([&] { import_weights(request); }), "--partial");
  request.is_partial = true;
  ImportedWeights result = import_weights(request);
  EXPECT_EQ(result.info.random_tensors, (std::vector<std::string>{"classifier.weight", "classifier.bias"}));
  EXPECT_EQ(result.info.num_classes, 1000);
  write_bytes(folder_ / "labels.txt", "a\nb\n");
  request.labels = folder_ / "labels.txt";
  EXPECT_EQ(import_weights(request).info.num_classes, 2);
}

TEST_F(ImportTest, ClearErrors) {
  ImportRequest request = request_for(densenet(3));
  const auto refused = [&](auto change, const std::string& part) {
    ImportRequest changed = request;
    change(changed);
    EXPECT_SAYS(error_lines_of([&] { import_weights(changed); }), part);
  };
  refused([](ImportRequest& r) { r.architecture = "resnet50"; }, "give --arch densenet121");
  refused([](ImportRequest& r) { r.architecture = "resnet5"; }, "unknown architecture");
  refused([](ImportRequest& r) { r.architecture = "resnet18", r.stride_on = "1x1"; }, "leave out --stride-on");
  refused([](ImportRequest& r) { r.format = "pth"; }, "its contents are safetensors");
  refused([](ImportRequest& r) { r.preprocess = "other"; }, "torch, caffe or none");
  refused(
      [&](ImportRequest& r) {
        write_bytes(folder_ / "l", "a\n");
        r.labels = folder_ / "l";
      },
      "1 names for the 3 classes");
  refused(
      [&](ImportRequest& r) {
        write_bytes(folder_ / "t", "hello");
        r.path = folder_ / "t";
      },
      "first bytes");
  refused([&](ImportRequest& r) { r.path = fixture("keras_vgg19.h5"); }, "--arch vgg19");
  refused([&](ImportRequest& r) { r.path = fixture("keras3.weights.h5"); }, "Keras 3");
  refused(
      [&](ImportRequest& r) {
        r.path = fixture("zip.pth");
        r.is_partial = true;
      },
      "give --arch resnet18");
  WeightTable table;
  for (WeightTensor& tensor : densenet(3).release()) {
    if (tensor.name == "features.norm5.running_var") tensor.values[5] = -1;
    table.add(std::move(tensor));
  }
  request = request_for(table);
  refused([](ImportRequest&) {}, "features.norm5.running_var holds -1");
}

TEST(Inspect, FilesOfEveryFormat) {
  WeightFileReport report = inspect_weights(fixture("mixed.safetensors"));
  EXPECT_EQ(report.format, "safetensors");
  EXPECT_EQ(report.sha256, sha256_of_file(fixture("mixed.safetensors")));
  EXPECT_EQ(report.tensors.size(), 10U);
  EXPECT_EQ(report.skipped.size(), 1U);
  EXPECT_EQ(report.metadata.count("note"), 1U);
  report = inspect_weights(fixture("keras_vgg19.h5"));
  EXPECT_EQ(report.format, "keras");
  EXPECT_EQ(inspect_weights(fixture("legacy.pth")).format, "pth");
}

// Real weights, where they are at hand.
TEST(RealWeights, ResNet50OfKerasInHalfPrecision) {
  const auto file = real_data() / "weights/resnet50_imagenet_keras_v1_f16.safetensors";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "no " << file;
  const TemporaryFolder folder;
  const ImportedWeights result = import_weights({.path = file,
                                                 .architecture = "resnet50",
                                                 .stride_on = "1x1",
                                                 .preprocess = "caffe",
                                                 .labels = real_data() / "weights/imagenet_labels.json"});
  EXPECT_EQ(result.info.num_classes, 1000);
  EXPECT_EQ(result.info.class_names[285], "Egyptian_cat");
  EXPECT_EQ(result.weights.size(), 267);
  EXPECT_EQ(result.weights.at("conv1.weight").stored_dtype, DType::f16);
  write_model_file(folder / "r.h5", result.info, result.weights);
  const ModelFile back = read_model_file(folder / "r.h5");
  for (const WeightTensor& tensor : result.weights.tensors())
    EXPECT_EQ(back.weights.at(tensor.name).values, tensor.values);
}

TEST(RealWeights, Vgg19IsPartial) {
  const auto file = real_data() / "weights/vgg19_blocks1to3_f32.safetensors";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "no " << file;
  ImportRequest request{.path = file, .architecture = "vgg19", .preprocess = "caffe"};
  EXPECT_SAYS(error_lines_of([&] { import_weights(request); }), "--partial");
  request.is_partial = true;
  EXPECT_EQ(import_weights(request).info.random_tensors.size(),
            8U + 6U);  // kernels of blocks 4 and 5, three linear layers
}

}  // namespace
}  // namespace graft
