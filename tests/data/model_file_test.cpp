#include "data/model_file.h"

#include <algorithm>

#include "data/parallel.h"
#include "tests/data/weight_testing.h"

namespace graft {
namespace {

using namespace testing_weights;

ModelInfo unusual_info() {
  ModelInfo info;
  info.architecture = "densenet121";
  info.stride_on = "1x1";
  info.bn_epsilon = 1.001e-5;
  info.num_classes = 3;
  info.input_size = 160;
  info.resize = 183;
  info.channel_order = "bgr";
  info.input_scale = 1;
  info.mean = {103.939, 116.779, 123.68};
  info.std = {1, 2, 3};
  info.class_names = {"na\u00efve", "", "c"};
  info.source = "file.h5";
  info.source_sha256 = std::string(64, 'a');
  return info;
}

WeightTable formula_weights(const NetworkShape& network) {
  WeightTable table;
  for (const NamedShape& expected : expected_tensors(network)) {
    WeightTensor tensor{expected.name, expected.shape, DType::f32, {}, {}};
    tensor.values.resize(static_cast<std::size_t>(element_count(expected.shape, expected.name)));
    for (std::size_t i = 0; i < tensor.values.size(); ++i)
      tensor.values[i] = value_of(tensor.name, static_cast<std::int64_t>(i));
    table.add(std::move(tensor));
  }
  return table;
}

void expect_same(const ModelInfo& a, const ModelInfo& b) {
  EXPECT_EQ(a.architecture, b.architecture);
  EXPECT_EQ(a.stride_on, b.stride_on);
  EXPECT_EQ(a.bn_epsilon, b.bn_epsilon);
  EXPECT_EQ(a.num_classes, b.num_classes);
  EXPECT_EQ(a.head, b.head);
  EXPECT_EQ(a.input_size, b.input_size);
  EXPECT_EQ(a.resize, b.resize);
  EXPECT_EQ(a.channel_order, b.channel_order);
  EXPECT_EQ(a.input_scale, b.input_scale);
  EXPECT_EQ(a.mean, b.mean);
  EXPECT_EQ(a.std, b.std);
  EXPECT_EQ(a.class_names, b.class_names);
  EXPECT_EQ(a.source, b.source);
  EXPECT_EQ(a.source_sha256, b.source_sha256);
  EXPECT_EQ(a.random_tensors, b.random_tensors);
}

TEST(ModelFile, ReturnsEveryAttributeAndValue) {
  const TemporaryFolder folder;
  const ModelInfo info = unusual_info();
  const WeightTable weights = formula_weights(info.network());
  write_model_file(folder / "m.h5", info, weights);
  expect_same(read_model_info(folder / "m.h5"), info);
  const ModelFile back = read_model_file(folder / "m.h5");
  expect_same(back.info, info);
  ASSERT_EQ(back.weights.size(), weights.size());
  for (std::int64_t i = 0; i < weights.size(); ++i) {
    const WeightTensor &a = weights.tensors()[static_cast<std::size_t>(i)],
                       &b = back.weights.tensors()[static_cast<std::size_t>(i)];
    EXPECT_EQ(a.name, b.name) << "the order is kept";
    EXPECT_EQ(a.shape, b.shape);
    EXPECT_EQ(a.values, b.values) << a.name;
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1) << "no temporary file stays";
}

TEST(ModelFile, ExactDoublesAndCheckpointGroups) {
  const TemporaryFolder folder;
  const ModelInfo info = unusual_info();
  WeightTable weights;
  for (WeightTensor& tensor : formula_weights(info.network()).release()) {
    if (tensor.name == "classifier.weight") {
      tensor.exact.assign(tensor.values.begin(), tensor.values.end());
      for (double& x : tensor.exact) x += 1e-13;
    }
    weights.add(std::move(tensor));
  }
  Checkpoint checkpoint;
  checkpoint.optimizer.arrays["momentum"] = std::vector<float>{1, 2, 3};
  checkpoint.optimizer.arrays["exact.momentum"] = std::vector<double>{0.1};
  checkpoint.optimizer.texts["name"] = "sgd";
  checkpoint.state.arrays["step"] = std::vector<std::int64_t>{std::int64_t{1} << 60, -1};
  checkpoint.state.arrays["none"] = std::vector<float>{};
  write_model_file(folder / "c.h5", info, weights, checkpoint);
  EXPECT_EQ(read_model_file(folder / "c.h5").weights.at("classifier.weight").exact,
            weights.at("classifier.weight").exact);
  const Checkpoint back = read_checkpoint(folder / "c.h5");
  EXPECT_EQ(back.optimizer.arrays, checkpoint.optimizer.arrays);
  EXPECT_EQ(back.optimizer.texts, checkpoint.optimizer.texts);
  EXPECT_EQ(back.state.arrays, checkpoint.state.arrays);
  write_model_file(folder / "c.h5", info, weights);
  EXPECT_TRUE(read_checkpoint(folder / "c.h5").state.is_empty()) << "the old file was replaced as a whole";
  checkpoint.state.arrays["a/b"] = std::vector<float>{1};
  EXPECT_SAYS(error_lines_of([&] { write_model_file(folder / "c.h5", info, weights, checkpoint); }), "a/b");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(ModelFile, RefusesWhatDoesNotFit) {
  const TemporaryFolder folder;
  const auto refused = [&](auto change, const std::string& part) {
    ModelInfo info = unusual_info();
    change(info);
    EXPECT_SAYS(error_lines_of([&] { write_model_file(folder / "m.h5", info, WeightTable{}); }), part);
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  };
  refused([](ModelInfo& i) { i.architecture = "alexnet"; }, "alexnet");
  refused([](ModelInfo& i) { i.stride_on = "2x2"; }, "stride_on");
  refused([](ModelInfo& i) { i.bn_epsilon = 0; }, "bn_epsilon");
  refused([](ModelInfo& i) { i.channel_order = "xyz"; }, "channel_order");
  refused([](ModelInfo& i) { i.std[1] = 0; }, "std");
  refused([](ModelInfo& i) { i.class_names.pop_back(); }, "2 class names for 3 classes");
  refused([](ModelInfo& i) { i.head = "gap"; }, "no head");
  refused([](ModelInfo&) {}, "missing     features.conv0.weight");
  EXPECT_SAYS(error_lines_of([&] { read_model_info(fixture("keras_vgg19.h5")); }), "graft weights import");
  EXPECT_SAYS(error_lines_of([&] { read_model_info(folder / "absent.h5"); }), "no such file");
  {
    Hdf5File file = Hdf5File::create(folder / "newer.h5");
    file.write_text("/", "format", "graft-model");
    file.write_integer("/", "format_version", 3);
    file.close();
  }
  EXPECT_SAYS(error_lines_of([&] { read_model_info(folder / "newer.h5"); }), "format_version 3");
}

TEST(ModelFile, PartialFilesNameWhatIsRandom) {
  const TemporaryFolder folder;
  ModelInfo info = unusual_info();
  WeightTable weights;
  for (WeightTensor& tensor : formula_weights(info.network()).release()) {
    if (!tensor.name.starts_with("classifier.")) weights.add(std::move(tensor));
  }
  EXPECT_SAYS(error_lines_of([&] { write_model_file(folder / "m.h5", info, weights); }), "classifier.weight");
  info.random_tensors = {"classifier.weight", "classifier.bias"};
  write_model_file(folder / "m.h5", info, weights);
  EXPECT_EQ(read_model_file(folder / "m.h5").info.random_tensors, info.random_tensors);
}

TEST(ModelFile, ManyClassNamesPassTheAttributeLimit) {
  const TemporaryFolder folder;
  ModelInfo info = unusual_info();
  info.num_classes = 20'000;
  info.class_names.clear();
  for (int i = 0; i < 20'000; ++i) info.class_names.push_back("a rather long class name, number " + std::to_string(i));
  write_model_file(folder / "m.h5", info, formula_weights(info.network()));
  EXPECT_EQ(read_model_info(folder / "m.h5").class_names, info.class_names);
}

TEST(ModelFile, DamageIsNoticedAndNamed) {
  const TemporaryFolder folder;
  const ModelInfo info = unusual_info();
  WeightTable weights;
  for (WeightTensor& tensor : formula_weights(info.network()).release()) {
    if (tensor.name == "features.norm5.weight") std::fill(tensor.values.begin(), tensor.values.end(), 12345.5f);
    weights.add(std::move(tensor));
  }
  write_model_file(folder / "m.h5", info, weights);
  const std::string bytes = read_bytes(folder / "m.h5");
  const std::vector<float>& values = weights.at("features.norm5.weight").values;
  const std::string pattern(reinterpret_cast<const char*>(values.data()), values.size() * 4);
  const std::size_t at = bytes.find(pattern);
  ASSERT_NE(at, std::string::npos) << "values lie in the file as they are";
  std::string flipped = bytes;
  flipped[at + 77] = static_cast<char>(flipped[at + 77] ^ 1);
  write_bytes(folder / "flipped.h5", flipped);
  EXPECT_SAYS(error_lines_of([&] { read_model_file(folder / "flipped.h5"); }), "features.norm5.weight");
  // HDF5 itself, as h5py uses it, notices too.
  EXPECT_SAYS(
      error_lines_of([&] { Hdf5File::open(folder / "flipped.h5").read_array("/weights/features.norm5.weight"); }),
      "damaged");
  for (const double part : {0.0, 0.001, 0.3, 0.9, 0.99999}) {
    write_bytes(folder / "short.h5",
                bytes.substr(0, static_cast<std::size_t>(static_cast<double>(bytes.size()) * part)));
    EXPECT_THROW(read_model_file(folder / "short.h5"), Error) << part;
  }
}

TEST(ModelFile, ReadsFilesRewrittenInAnotherLayout) {
  const TemporaryFolder folder;
  ModelInfo info = unusual_info();
  write_model_file(folder / "m.h5", info, formula_weights(info.network()));
  // The reader's own path is taken only for one checksummed chunk; this asserts that ordinary files have it.
  const Hdf5File file = Hdf5File::open(folder / "m.h5");
  const std::string name = "/weights/classifier.weight";
  EXPECT_GT(file.single_chunk(name, file.dataset_info(name)).offset, 0);
  const Hdf5File keras = Hdf5File::open(fixture("keras_resnet50_old.h5"));
  EXPECT_EQ(keras.single_chunk("/conv1/conv1_W:0", keras.dataset_info("/conv1/conv1_W:0")).offset, -1);
}

TEST(ModelFile, TheLibrarysOwnFilterFindsTheChecksumsRight) {
  const TemporaryFolder folder;
  const WeightTable weights = formula_weights(unusual_info().network());
  write_model_file(folder / "m.h5", unusual_info(), weights);
  const Hdf5File file = Hdf5File::open(folder / "m.h5");
  for (const WeightTensor& tensor : weights.tensors())
    EXPECT_EQ(file.read_tensor("/weights/" + tensor.name, tensor.name).values, tensor.values) << tensor.name;
}

TEST(ModelFile, ThreadsWriteAndReadFilesOfTheirOwn) {
  const TemporaryFolder folder;
  const WeightTable weights = formula_weights(unusual_info().network());
  parallel_for(4, 4, [&](std::int64_t i) {
    const auto path = folder / ("m" + std::to_string(i) + ".h5");
    for (int time = 0; time < 3; ++time) {
      write_model_file(path, unusual_info(), weights);
      const ModelFile back = read_model_file(path);
      EXPECT_EQ(back.weights.at("classifier.weight").values, weights.at("classifier.weight").values);
    }
  });
}

TEST(ModelFile, UnwritablePlacesLeaveNothing) {
  const TemporaryFolder folder;
  write_bytes(folder / "file", "x");
  const ModelInfo info = unusual_info();
  const WeightTable weights = formula_weights(info.network());
  EXPECT_THROW(write_model_file(folder / "file/m.h5", info, weights), Error);
  std::filesystem::create_directory(folder / "m.h5");
  EXPECT_THROW(write_model_file(folder / "m.h5", info, weights), Error);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 2);
}

}  // namespace
}  // namespace graft
