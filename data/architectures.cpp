#include "data/architectures.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <regex>
#include <set>
#include <utility>

namespace graft {
namespace {

constexpr std::array<std::string_view, 3> kArchitectures = {"resnet50", "densenet121", "vgg19"};

/// Collects names and shapes layer by layer.
class TensorList {
 public:
  void conv(const std::string& name, std::int64_t out, std::int64_t in, std::int64_t window) {
    add(name + ".weight", {out, in, window, window});
  }
  void batch_norm(const std::string& name, std::int64_t channels) {
    for (const char* part : {".weight", ".bias", ".running_mean", ".running_var"}) add(name + part, {channels});
  }
  void linear(const std::string& name, std::int64_t out, std::int64_t in) {
    add(name + ".weight", {out, in});
    add(name + ".bias", {out});
  }
  void add(std::string name, Dimensions shape) { tensors.push_back({std::move(name), std::move(shape)}); }

  std::vector<NamedShape> tensors;
};

std::vector<NamedShape> resnet50(std::int64_t num_classes) {
  TensorList list;
  list.conv("conv1", 64, 3, 7);
  list.batch_norm("bn1", 64);
  constexpr std::array<int, 4> kBlocks = {3, 4, 6, 3};
  std::int64_t in = 64;
  for (int stage = 0; stage < 4; ++stage) {
    const std::int64_t width = std::int64_t{64} << stage;
    for (int block = 0; block < kBlocks[static_cast<std::size_t>(stage)]; ++block) {
      const std::string prefix = fmt::format("layer{}.{}.", stage + 1, block);
      list.conv(prefix + "conv1", width, in, 1);
      list.batch_norm(prefix + "bn1", width);
      list.conv(prefix + "conv2", width, width, 3);
      list.batch_norm(prefix + "bn2", width);
      list.conv(prefix + "conv3", 4 * width, width, 1);
      list.batch_norm(prefix + "bn3", 4 * width);
      if (block == 0) {
        list.conv(prefix + "downsample.0", 4 * width, in, 1);
        list.batch_norm(prefix + "downsample.1", 4 * width);
      }
      in = 4 * width;
    }
  }
  list.linear("fc", num_classes, in);
  return std::move(list.tensors);
}

std::vector<NamedShape> densenet121(std::int64_t num_classes) {
  constexpr std::int64_t kGrowth = 32, kBottleneck = 128;
  TensorList list;
  list.conv("features.conv0", 64, 3, 7);
  list.batch_norm("features.norm0", 64);
  constexpr std::array<int, 4> kLayers = {6, 12, 24, 16};
  std::int64_t channels = 64;
  for (int block = 0; block < 4; ++block) {
    for (int layer = 0; layer < kLayers[static_cast<std::size_t>(block)]; ++layer) {
      const std::string prefix = fmt::format("features.denseblock{}.denselayer{}.", block + 1, layer + 1);
      list.batch_norm(prefix + "norm1", channels);
      list.conv(prefix + "conv1", kBottleneck, channels, 1);
      list.batch_norm(prefix + "norm2", kBottleneck);
      list.conv(prefix + "conv2", kGrowth, kBottleneck, 3);
      channels += kGrowth;
    }
    if (block < 3) {
      const std::string prefix = fmt::format("features.transition{}.", block + 1);
      list.batch_norm(prefix + "norm", channels);
      list.conv(prefix + "conv", channels / 2, channels, 1);
      channels /= 2;
    }
  }
  list.batch_norm("features.norm5", channels);
  list.linear("classifier", num_classes, channels);
  return std::move(list.tensors);
}

std::vector<NamedShape> vgg19(std::int64_t num_classes, bool has_gap_head) {
  TensorList list;
  constexpr std::array<int, 5> kConvolutions = {2, 2, 4, 4, 4};
  std::int64_t in = 3;
  int index = 0;  // in torchvision's sequence of convolution, ReLU, ..., pooling
  for (std::size_t stage = 0; stage < kConvolutions.size(); ++stage) {
    const std::int64_t width = std::min<std::int64_t>(512, std::int64_t{64} << stage);
    for (int i = 0; i < kConvolutions[stage]; ++i) {
      const std::string name = fmt::format("features.{}", index);
      list.conv(name, width, in, 3);
      list.add(name + ".bias", {width});
      in = width;
      index += 2;
    }
    index += 1;
  }
  if (has_gap_head) {
    list.linear("classifier", num_classes, in);
  } else {
    list.linear("classifier.0", 4096, in * 7 * 7);
    list.linear("classifier.3", 4096, 4096);
    list.linear("classifier.6", num_classes, 4096);
  }
  return std::move(list.tensors);
}

}  // namespace

std::span<const std::string_view> architecture_names() { return kArchitectures; }

std::vector<NamedShape> expected_tensors(const NetworkShape& network) {
  if (network.num_classes < 1)
    throw Error(fmt::format("network: expected at least one class, got {}", network.num_classes));
  const bool is_vgg = network.architecture == "vgg19";
  if (network.head != "original" && !(is_vgg && network.head == "gap")) {
    throw Error(fmt::format("network: {} has no head \"{}\"; use original{}", network.architecture, network.head,
                            is_vgg ? " or gap" : ""));
  }
  if (network.architecture == "resnet50") return resnet50(network.num_classes);
  if (network.architecture == "densenet121") return densenet121(network.num_classes);
  if (is_vgg) return vgg19(network.num_classes, network.head == "gap");
  throw Error(
      fmt::format("network: unknown architecture \"{}\"; use resnet50, densenet121 or vgg19", network.architecture));
}

std::string classifier_name(const NetworkShape& network) {
  const std::string weight = expected_tensors(network).rbegin()[1].name;
  return weight.substr(0, weight.size() - std::string_view(".weight").size());
}

WeightComparison compare_weights(const WeightTable& weights, const NetworkShape& network) {
  WeightComparison result;
  std::set<std::string, std::less<>> known;
  for (NamedShape& expected : expected_tensors(network)) {
    known.insert(expected.name);
    const WeightTensor* tensor = weights.find(expected.name);
    if (tensor == nullptr) {
      result.missing.push_back(std::move(expected));
    } else if (tensor->shape != expected.shape) {
      result.mismatched.push_back({expected.name, expected.shape, tensor->shape});
    }
  }
  for (const WeightTensor& tensor : weights.tensors()) {
    if (!known.contains(tensor.name)) result.extra.push_back({tensor.name, tensor.shape});
  }
  return result;
}

std::string comparison_text(const WeightComparison& comparison, std::int64_t limit) {
  std::size_t width = 4;
  const auto shown = [&](const auto& list) { return std::min(list.size(), static_cast<std::size_t>(limit)); };
  const auto widen = [&](const auto& list) {
    for (std::size_t i = 0; i < shown(list); ++i) width = std::max(width, list[i].name.size());
  };
  widen(comparison.missing);
  widen(comparison.extra);
  widen(comparison.mismatched);
  std::string text;
  const auto print = [&](std::string_view kind, const auto& list, auto detail) {
    for (std::size_t i = 0; i < shown(list); ++i) {
      text += fmt::format("  {:<10}  {:<{}}  {}\n", kind, list[i].name, width, detail(list[i]));
    }
    if (list.size() > shown(list)) text += fmt::format("  {:<10}  ... and {} more\n", kind, list.size() - shown(list));
  };
  print("missing", comparison.missing, [](const NamedShape& t) { return dimensions_text(t.shape); });
  print("extra", comparison.extra, [](const NamedShape& t) { return dimensions_text(t.shape); });
  print("mismatched", comparison.mismatched, [](const Mismatch& t) {
    return fmt::format("expected {}, got {}", dimensions_text(t.expected), dimensions_text(t.got));
  });
  if (!text.empty()) text.pop_back();
  return text;
}

std::string torchvision_name(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kVggPrefixes = {
      {{"pre_logits.fc1.", "classifier.0."}, {"pre_logits.fc2.", "classifier.3."}, {"head.fc.", "classifier.6."}}};
  for (const auto& [from, to] : kVggPrefixes) {
    if (name.starts_with(from)) return std::string(to).append(name.substr(from.size()));
  }
  static const std::regex old_densenet(
      R"(^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var))$)");
  // The longest real name has some 60 characters; std::regex recurses once per character.
  if (name.size() > 200) return std::string(name);
  return std::regex_replace(std::string(name), old_densenet, "$1$2");
}

WeightTable with_torchvision_names(WeightTable weights) {
  WeightTable renamed;
  renamed.skipped = std::move(weights.skipped);
  renamed.metadata = std::move(weights.metadata);
  for (WeightTensor& tensor : std::move(weights).release()) {
    tensor.name = torchvision_name(tensor.name);
    // timm applies VGG's classifiers as convolutions; [out, in, h, w] flattens to torchvision's matrix as it lies.
    if (tensor.name.starts_with("classifier.") && tensor.shape.size() == 4) {
      const Dimensions& shape = tensor.shape;
      tensor.shape = {shape[0], shape[1] * shape[2] * shape[3]};
    }
    renamed.add(std::move(tensor));
  }
  return renamed;
}

NetworkShape network_of(const std::string& architecture, const WeightTable& weights, std::int64_t if_absent) {
  NetworkShape network{architecture, if_absent, "original"};
  if (architecture == "vgg19" && weights.find("classifier.weight") != nullptr) network.head = "gap";
  const WeightTensor* last = weights.find(classifier_name(network) + ".weight");
  if (last == nullptr) last = weights.find(classifier_name(network) + ".bias");
  if (last != nullptr && !last->shape.empty() && last->shape[0] > 0) network.num_classes = last->shape[0];
  return network;
}

NetworkShape guess_network(const WeightTable& weights) {
  NetworkShape best{"", 0, "original"};
  std::size_t most = 0;
  for (const std::string_view architecture : kArchitectures) {
    const NetworkShape network = network_of(std::string(architecture), weights, 1000);
    const auto expected = expected_tensors(network);
    const auto found = static_cast<std::size_t>(std::ranges::count_if(expected, [&](const NamedShape& t) {
      return weights.find(t.name) != nullptr && weights.find(t.name)->shape == t.shape;
    }));
    if (found > most) {
      most = found;
      best = network;
    }
  }
  return best;
}

}  // namespace graft
