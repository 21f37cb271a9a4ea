// What the networks declare, against the lists that files are judged by; the way of a batch through each; and files.
#include "models/network.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <numbers>
#include <set>

#include "kernels/philox.h"
#include "models/initialise.h"
#include "models/network_io.h"
#include "models_testing.h"

namespace graft {
namespace {

struct Expectation {
  const char* architecture;
  std::int64_t parameters;
  std::int64_t tensors;  // of parameters
  std::vector<std::int64_t> block_tensors;
};

/// Parameter counts as published with torchvision's networks; tensors per block as METHODS groups them.
const std::vector<Expectation> kExpectations = {
    {"resnet50", 25'557'032, 161, {3, 30, 39, 57, 30, 2}},
    {"densenet121", 7'978'856, 364, {3, 36, 3, 72, 3, 144, 3, 96, 4}},
    {"vgg19", 143'667'240, 38, {4, 4, 8, 8, 8, 6}},
};

TEST(Network, DeclaresTheTensorsOfTheFiles) {
  Context context(make_backend(test_device(DeviceKind::cpu)));
  for (const Expectation& e : kExpectations) {
    SCOPED_TRACE(e.architecture);
    const auto network = make_network(context, {.architecture = e.architecture});
    std::int64_t count = 0;
    std::vector<std::int64_t> block_tensors(network->blocks().size());
    int previous = 0;
    for (const Parameter& p : network->parameters().parameters()) {
      count += p.shape.size();
      ++block_tensors[p.block];
      EXPECT_GE(p.block, previous) << p.name;
      previous = p.block;
    }
    EXPECT_EQ(count, e.parameters);
    EXPECT_EQ(std::int64_t(network->parameters().parameters().size()), e.tensors);
    EXPECT_EQ(block_tensors, e.block_tensors);
  }
}

TEST(Network, TablesListTheTensorsOfTheFilesInOrder) {
  for (const char* head : {"original", "gap"}) {
    for (const char* architecture : {"resnet50", "densenet121", "vgg19"}) {
      if (head == std::string("gap") && architecture != std::string("vgg19")) continue;
      SCOPED_TRACE(std::string(architecture) + " " + head);
      Context context(make_backend(test_device(DeviceKind::cpu)));
      const ModelInfo info{.architecture = architecture, .num_classes = 3, .head = head};
      const WeightTable table = weights_of(*make_network(context, info));
      const std::vector<NamedShape> expected = expected_tensors(info.network());
      ASSERT_EQ(table.size(), std::int64_t(expected.size()));
      for (std::size_t i = 0; i < expected.size(); ++i) {
        EXPECT_EQ(table.tensors()[i].name, expected[i].name);
        EXPECT_EQ(table.tensors()[i].shape, expected[i].shape) << expected[i].name;
      }
    }
  }
}

TEST(Network, HeadIsTheLastLinearLayer) {
  Context context(make_backend(test_device(DeviceKind::cpu)));
  const auto names = [&](const ModelInfo& info) {
    const auto network = make_network(context, info);
    std::vector<std::string> found;
    for (const Parameter& p : network->parameters().parameters())
      if (network->is_head(p)) found.push_back(p.name);
    return found;
  };
  EXPECT_EQ(names({.architecture = "resnet50"}), (std::vector<std::string>{"fc.weight", "fc.bias"}));
  EXPECT_EQ(names({.architecture = "densenet121"}), (std::vector<std::string>{"classifier.weight", "classifier.bias"}));
  EXPECT_EQ(names({.architecture = "vgg19", .head = "gap"}),
            (std::vector<std::string>{"classifier.weight", "classifier.bias"}));
}

TEST(Network, RefusesWhatItDoesNotKnow) {
  Context context(make_backend(test_device(DeviceKind::cpu)));
  EXPECT_THROW(make_network(context, {.architecture = "resnet51"}), Error);
  EXPECT_THROW(make_network(context, {.architecture = "resnet50", .stride_on = "2x2"}), Error);
  EXPECT_THROW(make_network(context, {.architecture = "resnet50", .num_classes = 0}), Error);
  EXPECT_THROW(make_network(context, {.architecture = "resnet50", .head = "gap"}), Error);
}

TEST(Network, ErrorsNameTheLayer) {
  Context context(make_backend(test_device(DeviceKind::cpu)));
  const auto network = make_network(context, {.architecture = "resnet50", .num_classes = 2});
  try {
    network->forward(zeros(context, {1, 1, 32, 32}));
    FAIL() << "one channel was accepted";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("conv1.weight expects C=3, got 1"), std::string::npos) << e.what();
  }
}

TEST(Initialise, HeadIsUniformInItsBoundAndDependsOnTheSeed) {
  Context context(make_backend(test_device(DeviceKind::cpu)));
  const auto network = make_network(context, {.architecture = "resnet50", .num_classes = 7});
  initialise_head(*network, 1);
  auto& parameters = network->parameters();
  const std::vector<double> first = parameters.find("fc.weight").value.to_host();
  const auto [low, high] = std::ranges::minmax(first);
  const double bound = 1 / std::sqrt(2048.0);
  EXPECT_GE(low, -bound);
  EXPECT_LE(high, bound);
  EXPECT_LT(low, -0.99 * bound);
  EXPECT_GT(high, 0.99 * bound);
  double mean = 0;
  for (double v : first) mean += v / double(first.size());
  EXPECT_NEAR(mean, 0, 4 * bound / std::sqrt(3.0 * double(first.size())));  // four deviations
  for (double v : parameters.find("conv1.weight").value.to_host()) ASSERT_EQ(v, 0);
  initialise_head(*network, 1);
  EXPECT_EQ(parameters.find("fc.weight").value.to_host(), first);
  initialise_head(*network, 2);
  EXPECT_NE(parameters.find("fc.weight").value.to_host(), first);
}

TEST(Initialise, FromScratchHasTorchvisionsDeviations) {
  Context context(make_backend(test_device(DeviceKind::cpu)));
  const auto deviation = [](const Parameter& p) {
    double sum = 0, squares = 0;
    const std::vector<double> values = p.value.to_host();
    for (double v : values) sum += v, squares += v * v;
    const double n = double(values.size());
    return std::sqrt(squares / n - sum / n * (sum / n));
  };
  struct Case {
    const char *architecture, *name;
    double deviation;
  };
  const Case cases[] = {{"resnet50", "layer2.0.conv2.weight", std::sqrt(2.0 / (128 * 9))},
                        {"resnet50", "layer4.2.conv3.weight", std::sqrt(2.0 / 2048)},
                        {"resnet50", "fc.weight", 1 / std::sqrt(3.0 * 2048)},
                        {"densenet121", "features.conv0.weight", std::sqrt(2.0 / (3 * 49))},
                        {"densenet121", "features.transition3.conv.weight", std::sqrt(2.0 / 1024)}};
  std::map<std::string, std::unique_ptr<Network>> networks;
  for (const Case& c : cases) {
    auto& network = networks[c.architecture];
    if (!network) {
      network = make_network(context, {.architecture = c.architecture, .num_classes = 9});
      initialise_from_scratch(*network, 5);
    }
    const Parameter& p = network->parameters().find(c.name);
    // Six deviations of a sample's deviation.
    EXPECT_NEAR(deviation(p) / c.deviation, 1, 6 / std::sqrt(2.0 * double(p.shape.size()))) << c.name;
  }
}

TEST(Initialise, NormalNumbersAreOneSequenceWhoeverDrawsThem) {
  Context context(make_backend(test_device(DeviceKind::cpu)));
  const auto network = make_network(context, {.architecture = "resnet50"});
  initialise_from_scratch(*network, 5);
  std::uint32_t position = 0;
  int layers = 0;
  for (const Parameter& p : network->parameters().parameters()) {
    const std::uint32_t at = position++;
    if (p.name != "layer1.0.conv1.weight" && p.name != "layer4.2.conv2.weight") continue;
    Random random({.seed = 5, .stream = RandomStream::other, .epoch = at});
    const std::vector<double> values = p.value.to_host();
    const double deviation = std::sqrt(2 / double(p.shape.n * p.shape.pixels()));
    for (std::size_t i = 0; i < values.size(); i += 2) {
      const double radius = deviation * std::sqrt(-2 * std::log(1 - random.uniform()));
      const double angle = 2 * std::numbers::pi * random.uniform();
      ASSERT_EQ(values[i], double(float(radius * std::cos(angle)))) << p.name << " " << i;
      ASSERT_EQ(values[i + 1], double(float(radius * std::sin(angle)))) << p.name << " " << i + 1;
    }
    ++layers;
  }
  EXPECT_EQ(layers, 2);
}

/// Files of the networks, in a folder of their own.
class NetworkFile : public testing::Test {
 protected:
  NetworkFile() { std::filesystem::create_directories(folder_); }
  ~NetworkFile() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(NetworkFile, RoundTripKeepsEveryBit) {
  for (DeviceKind kind : {DeviceKind::cpu, DeviceKind::reference}) {
    Context context(make_backend(test_device(kind)));
    const auto network = make_network(context, {.architecture = "densenet121", .num_classes = 3});
    fill_by_formula(*network);
    save_network(folder_ / "a.h5", *network);
    const auto loaded = load_network(context, folder_ / "a.h5");
    EXPECT_EQ(loaded->parameters().values().to_host(), network->parameters().values().to_host());
  }
}

TEST_F(NetworkFile, NewHeadKeepsTheRest) {
  Context context(make_backend(test_device(DeviceKind::cpu)));
  const auto network = make_network(context, {.architecture = "resnet50", .num_classes = 10});
  fill_by_formula(*network);
  save_network(folder_ / "a.h5", *network);
  const auto loaded =
      load_backbone(context, folder_ / "a.h5", {.num_classes = 3, .class_names = {"a", "b", "c"}, .seed = 4});
  EXPECT_EQ(loaded->num_classes(), 3);
  EXPECT_EQ(loaded->info().class_names[2], "c");
  for (Parameter& p : loaded->parameters().parameters()) {
    if (loaded->is_head(p)) continue;
    EXPECT_EQ(p.value.to_host(), network->parameters().find(p.name).value.to_host()) << p.name;
  }
  const auto fresh = make_network(context, {.architecture = "resnet50", .num_classes = 3});
  initialise_head(*fresh, 4);
  for (const char* name : {"fc.weight", "fc.bias"})
    EXPECT_EQ(loaded->parameters().find(name).value.to_host(), fresh->parameters().find(name).value.to_host());
  EXPECT_EQ(loaded->parameters().statistics()[3].value.to_host(),
            network->parameters().statistics()[3].value.to_host());
}

TEST_F(NetworkFile, VggMayChangeItsHead) {
  Context context(make_backend(test_device(DeviceKind::cpu)));
  const auto network = make_network(context, {.architecture = "vgg19", .num_classes = 2, .head = "gap"});
  fill_by_formula(*network);
  save_network(folder_ / "a.h5", *network);
  const auto same = load_backbone(context, folder_ / "a.h5", {.num_classes = 5});
  EXPECT_EQ(same->info().head, "gap");
  EXPECT_EQ(same->parameters().find("features.34.weight").value.to_host(),
            network->parameters().find("features.34.weight").value.to_host());
  EXPECT_THROW(load_backbone(context, folder_ / "a.h5", {.num_classes = 5, .head = "pooled"}), Error);
}

TEST(WeightSnapshot, SharesWhatDidNotChangeAndPutsTheRestBack) {
  Context context(make_backend(test_device(DeviceKind::cpu)));
  const auto network = make_network(context, {.architecture = "resnet50", .num_classes = 4});
  fill_by_formula(*network);
  ParameterSet& parameters = network->parameters();
  const WeightSnapshot first = snapshot_of(*network, nullptr);
  const WeightTable before = weights_of(*network);
  const std::vector<double> values = parameters.values().to_host();

  Parameter& weight = parameters.find("layer2.0.conv2.weight");
  RunningStatistics& statistics = parameters.statistics()[5];
  const std::uint64_t other = parameters.find("conv1.weight").version;
  weight.value.from_host(std::vector<double>(std::size_t(weight.shape.size()), 0.5)), ++weight.version;
  statistics.value.from_host(std::vector<double>(std::size_t(2 * statistics.channels), 2.0)), ++statistics.version;
  const WeightSnapshot second = snapshot_of(*network, &first);
  const WeightTable now = weights_of(*network);
  ASSERT_EQ(second.weights.size(), now.size());
  std::set<std::string> changed;
  for (std::size_t i = 0; i < now.tensors().size(); ++i) {
    const WeightTensor &a = first.weights.tensors()[i], &b = second.weights.tensors()[i], &c = now.tensors()[i];
    EXPECT_EQ(b.name, c.name);
    EXPECT_EQ(b.values, c.values) << b.name;
    EXPECT_EQ(a.values, before.tensors()[i].values) << a.name;
    if (&a != &b) changed.insert(a.name);
  }
  EXPECT_EQ(changed,
            (std::set<std::string>{weight.name, statistics.name + ".running_mean", statistics.name + ".running_var"}));

  restore(*network, first);
  EXPECT_EQ(parameters.values().to_host(), values);
  EXPECT_EQ(parameters.find("conv1.weight").version, other);  // it was not touched
  const std::uint64_t version = weight.version;
  restore(*network, second);
  EXPECT_GT(weight.version, version);
  EXPECT_EQ(weights_of(*network).at(weight.name).values, now.at(weight.name).values);
}

TEST(LoadWeights, DifferencesAreListed) {
  Context context(make_backend(test_device(DeviceKind::cpu)));
  const auto network = make_network(context, {.architecture = "resnet50", .num_classes = 4});
  fill_by_formula(*network);
  const WeightTable complete = weights_of(*network);
  WeightTable table;
  for (WeightTensor tensor : complete.tensors()) {
    if (tensor.name == "layer1.0.bn1.running_var") continue;
    if (tensor.name == "fc.bias") tensor.shape = {3}, tensor.values.resize(3);
    if (tensor.name == "layer1.0.conv1.weight") tensor.values.assign(tensor.values.size(), 0.25f);
    table.add(std::move(tensor));
  }
  table.add({"extra", {1}, DType::f32, {1.0f}, {}});
  try {
    load_weights(*network, table);
    FAIL() << "a table that does not fit was loaded";
  } catch (const Error& e) {
    for (const char* text : {"layer1.0.bn1.running_var", "fc.bias", "extra"})
      EXPECT_NE(std::string(e.what()).find(text), std::string::npos) << e.what();
  }
  EXPECT_NE(network->parameters().find("layer1.0.conv1.weight").value.to_host()[0], 0.25);

  const std::uint64_t version = network->parameters().find("layer1.0.conv1.weight").version;
  const WeightComparison comparison = load_weights(*network, table, {.partial = true});
  EXPECT_EQ(comparison.missing.size(), 1u);
  EXPECT_EQ(comparison.extra.size(), 1u);
  EXPECT_EQ(comparison.mismatched.size(), 1u);
  EXPECT_EQ(network->parameters().find("layer1.0.conv1.weight").value.to_host()[0], 0.25);
  EXPECT_GT(network->parameters().find("layer1.0.conv1.weight").version, version);
}

}  // namespace
}  // namespace graft
