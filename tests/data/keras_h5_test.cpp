#include "data/keras_h5.h"

#include "tests/data/weight_testing.h"

namespace graft {
namespace {

using namespace testing_weights;

const std::vector<float> kSix(6, 1.0f);

/// Values are torchvision's by formula, except the means that took in a bias.
void expect_torchvision_values(const WeightTable& table) {
  for (const WeightTensor& tensor : table.tensors()) {
    if (!tensor.name.ends_with("running_mean") || tensor.name.starts_with("features"))
      expect_values(tensor, tensor.name);
  }
}

void expect_folded(const WeightTable& table, const std::string& norm, const std::string& convolution) {
  const WeightTensor& mean = table.at(norm + ".running_mean");
  EXPECT_EQ(table.find(convolution + ".bias"), nullptr);
  for (std::size_t i = 0; i < mean.values.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    EXPECT_EQ(mean.values[i], value_of(mean.name, at) - value_of(convolution + ".bias", at)) << mean.name << " " << i;
  }
}

TEST(KerasH5, BothResNet50Files) {
  for (const char* name : {"keras_resnet50_old.h5", "keras_resnet50_new.h5"}) {
    SCOPED_TRACE(name);
    const bool is_old = std::string(name).ends_with("old.h5");
    const KerasWeights keras = read_keras_h5(fixture(name));
    EXPECT_EQ(keras.architecture, "resnet50");
    EXPECT_EQ(keras.stride_on, "1x1");
    EXPECT_EQ(keras.preprocess, "caffe");
    EXPECT_EQ(keras.bn_epsilon, is_old ? 1e-3 : 1.001e-5);
    const WeightTable& table = keras.weights;
    EXPECT_EQ(table.size(), 5 * 5 + 2);  // conv + 4 of batch norm: conv1, three of the block, shortcut; fc
    EXPECT_EQ(table.at("conv1.weight").shape, (Dimensions{4, 3, 6, 7}));
    EXPECT_EQ(table.at("layer1.0.conv2.weight").shape, (Dimensions{4, 5, 3, 3}));
    EXPECT_EQ(table.at("fc.weight").shape, (Dimensions{4, 5}));
    expect_torchvision_values(table);
    expect_folded(table, "bn1", "conv1");
    expect_folded(table, "layer1.0.bn3", "layer1.0.conv3");
    expect_folded(table, "layer1.0.downsample.1", "layer1.0.downsample.0");
  }
}

TEST(KerasH5, DenseNet121) {
  const KerasWeights keras = read_keras_h5(fixture("keras_densenet121.h5"));
  EXPECT_EQ(keras.architecture, "densenet121");
  EXPECT_EQ(keras.preprocess, "torch");
  EXPECT_EQ(keras.bn_epsilon, 1.001e-5);
  EXPECT_EQ(keras.weights.size(), 5 + 10 + 5 + 4 + 2);
  EXPECT_NE(keras.weights.find("features.denseblock1.denselayer1.norm2.running_var"), nullptr);
  EXPECT_NE(keras.weights.find("features.transition1.conv.weight"), nullptr);
  expect_torchvision_values(keras.weights);
}

TEST(KerasH5, Vgg19WithItsFlattenedFirstLayer) {
  const KerasWeights keras = read_keras_h5(fixture("keras_vgg19.h5"));
  EXPECT_EQ(keras.architecture, "vgg19");
  EXPECT_EQ(keras.preprocess, "caffe");
  EXPECT_EQ(keras.weights.size(), 12);  // features.0, features.10, features.16 and three linear layers
  EXPECT_EQ(keras.weights.at("classifier.0.weight").shape, (Dimensions{2, 25088}));
  expect_torchvision_values(keras.weights);
}

struct KerasKernel {
  std::string layer, target;  // target: torchvision's
};

/// A file of 1x1 kernels alone.
void expect_read_as(const std::string& architecture, const std::vector<KerasKernel>& kernels) {
  SCOPED_TRACE(architecture);
  const TemporaryFolder folder;
  {
    Hdf5File file = Hdf5File::create(folder / "keras.h5");
    std::vector<std::string> layers;
    for (const KerasKernel& kernel : kernels) {
      layers.push_back(kernel.layer);
      file.create_group(kernel.layer);
      file.write_texts(kernel.layer, "weight_names", {"kernel:0"});
      file.write_array(kernel.layer + "/kernel:0", {1, 1, 1, 1}, std::vector<float>{1});
    }
    file.write_texts("/", "layer_names", layers);
    file.close();
  }
  const KerasWeights keras = read_keras_h5(folder / "keras.h5");
  EXPECT_EQ(keras.architecture, architecture);
  for (const KerasKernel& kernel : kernels)
    EXPECT_NE(keras.weights.find(kernel.target + ".weight"), nullptr) << kernel.target;
}

TEST(KerasH5, OtherMembersOfTheFamiliesByTheirDeepestLayers) {
  const KerasKernel stem = {"conv1_conv", "conv1"}, shallow = {"conv2_block1_3_conv", "layer1.0.conv3"};
  expect_read_as("resnet50", {stem, shallow, {"conv4_block6_1_conv", "layer3.5.conv1"}});
  expect_read_as("resnet101", {stem, shallow, {"conv4_block23_1_conv", "layer3.22.conv1"}});
  expect_read_as("resnet152", {stem, shallow, {"conv3_block8_2_conv", "layer2.7.conv2"}});
  const KerasKernel transition = {"pool2_conv", "features.transition1.conv"};
  expect_read_as("densenet169", {transition, {"conv5_block32_1_conv", "features.denseblock4.denselayer32.conv1"}});
  expect_read_as("densenet201", {transition, {"conv4_block48_2_conv", "features.denseblock3.denselayer48.conv2"}});
  expect_read_as("vgg16", {{"block1_conv1", "features.0"},
                           {"block3_conv1", "features.10"},
                           {"block3_conv3", "features.14"},
                           {"block5_conv1", "features.24"}});
  expect_read_as("", {stem, shallow, {"conv4_block37_1_conv", "layer3.36.conv1"}});
}

TEST(KerasH5, RefusesOtherFilesWithAdvice) {
  const TemporaryFolder folder;
  EXPECT_SAYS(error_lines_of([&] { read_keras_h5(fixture("keras3.weights.h5")); }), "Keras 3");
  EXPECT_SAYS(error_lines_of([&] { read_keras_h5(fixture("zip.pth")); }), "not an HDF5 file");
  {
    Hdf5File file = Hdf5File::create(folder / "theano.h5");
    file.write_texts("/", "layer_names", {"conv1"});
    file.write_text("/", "backend", "theano");
    file.close();
  }
  EXPECT_SAYS(error_lines_of([&] { read_keras_h5(folder / "theano.h5"); }), "mirrored");
  {
    Hdf5File file = Hdf5File::create(folder / "shape.h5");
    file.write_texts("/", "layer_names", {"block1_conv1", "block3_conv1"});
    file.create_group("/block1_conv1");
    file.write_texts("/block1_conv1", "weight_names", {"W"});
    file.write_array("/block1_conv1/W", {2, 3}, std::span<const float>(kSix));
    file.close();
  }
  EXPECT_SAYS(error_lines_of([&] { read_keras_h5(folder / "shape.h5"); }), "[2,3]");
}

TEST(KerasH5, UnknownLayersKeepTheirNames) {
  const TemporaryFolder folder;
  Hdf5File file = Hdf5File::create(folder / "other.h5");
  file.write_texts("/", "layer_names", {"dense_1"});
  file.create_group("/dense_1");
  file.write_texts("/dense_1", "weight_names", {"kernel:0"});
  file.write_array("/dense_1/kernel:0", {2, 3}, std::span<const float>(kSix));
  file.close();
  const KerasWeights keras = read_keras_h5(folder / "other.h5");
  EXPECT_EQ(keras.architecture, "");
  EXPECT_NE(keras.weights.find("dense_1/kernel:0"), nullptr);
}

}  // namespace
}  // namespace graft
