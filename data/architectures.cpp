#include "data/architectures.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <regex>
#include <set>
#include <utility>

namespace graft {
namespace {

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

std::vector<NamedShape> resnet(const Architecture& architecture, std::int64_t num_classes) {
  TensorList list;
  list.conv("conv1", 64, 3, 7);
  list.batch_norm("bn1", 64);
  std::int64_t in = 64;
  for (std::size_t stage = 0; stage < architecture.depths.size(); ++stage) {
    const std::int64_t width = std::int64_t{64} << stage, out = architecture.has_bottlenecks ? 4 * width : width;
    for (int block = 0; block < architecture.depths[stage]; ++block) {
      const std::string prefix = fmt::format("layer{}.{}.", stage + 1, block);
      const auto layer = [&](int number, std::int64_t to, std::int64_t from, std::int64_t window) {
        list.conv(fmt::format("{}conv{}", prefix, number), to, from, window);
        list.batch_norm(fmt::format("{}bn{}", prefix, number), to);
      };
      if (architecture.has_bottlenecks) {
        layer(1, width, in, 1);
        layer(2, width, width, 3);
        layer(3, out, width, 1);
      } else {
        layer(1, width, in, 3);
        layer(2, width, width, 3);
      }
      if (block == 0 && (stage > 0 || in != out)) {
        list.conv(prefix + "downsample.0", out, in, 1);
        list.batch_norm(prefix + "downsample.1", out);
      }
      in = out;
    }
  }
  list.linear("fc", num_classes, in);
  return std::move(list.tensors);
}

std::vector<NamedShape> densenet(const Architecture& architecture, std::int64_t num_classes) {
  constexpr std::int64_t kGrowth = 32, kBottleneck = 128;
  TensorList list;
  list.conv("features.conv0", 64, 3, 7);
  list.batch_norm("features.norm0", 64);
  std::int64_t channels = 64;
  for (std::size_t block = 0; block < architecture.depths.size(); ++block) {
    for (int layer = 0; layer < architecture.depths[block]; ++layer) {
      const std::string prefix = fmt::format("features.denseblock{}.denselayer{}.", block + 1, layer + 1);
      list.batch_norm(prefix + "norm1", channels);
      list.conv(prefix + "conv1", kBottleneck, channels, 1);
      list.batch_norm(prefix + "norm2", kBottleneck);
      list.conv(prefix + "conv2", kGrowth, kBottleneck, 3);
      channels += kGrowth;
    }
    if (block + 1 < architecture.depths.size()) {
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

std::vector<NamedShape> vgg(const Architecture& architecture, std::int64_t num_classes, bool has_gap_head) {
  TensorList list;
  std::int64_t in = 3;
  int index = 0;  // in torchvision's sequence of convolution, perhaps batch norm, ReLU, ..., pooling
  for (std::size_t stage = 0; stage < architecture.depths.size(); ++stage) {
    const std::int64_t width = std::min<std::int64_t>(512, std::int64_t{64} << stage);
    for (int i = 0; i < architecture.depths[stage]; ++i) {
      const std::string name = fmt::format("features.{}", index);
      list.conv(name, width, in, 3);
      list.add(name + ".bias", {width});
      if (architecture.has_norms) list.batch_norm(fmt::format("features.{}", ++index), width);
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

std::span<const Architecture> architectures() {
  // Of each family the shallower first: where a few tensors fit several, guess_network() takes the first.
  static const std::vector<Architecture> kAll = {
      {"resnet18", Family::resnet, {2, 2, 2, 2}},
      {"resnet34", Family::resnet, {3, 4, 6, 3}},
      {"resnet50", Family::resnet, {3, 4, 6, 3}, true},
      {"resnet101", Family::resnet, {3, 4, 23, 3}, true},
      {"resnet152", Family::resnet, {3, 8, 36, 3}, true},
      {"densenet121", Family::densenet, {6, 12, 24, 16}},
      {"densenet169", Family::densenet, {6, 12, 32, 32}},
      {"densenet201", Family::densenet, {6, 12, 48, 32}},
      {"vgg11", Family::vgg, {1, 1, 2, 2, 2}, false, false},
      {"vgg11_bn", Family::vgg, {1, 1, 2, 2, 2}},
      {"vgg13", Family::vgg, {2, 2, 2, 2, 2}, false, false},
      {"vgg13_bn", Family::vgg, {2, 2, 2, 2, 2}},
      {"vgg16", Family::vgg, {2, 2, 3, 3, 3}, false, false},
      {"vgg16_bn", Family::vgg, {2, 2, 3, 3, 3}},
      {"vgg19", Family::vgg, {2, 2, 4, 4, 4}, false, false},
      {"vgg19_bn", Family::vgg, {2, 2, 4, 4, 4}},
  };
  return kAll;
}

std::span<const std::string_view> architecture_names() {
  static const auto names = [] {
    std::vector<std::string_view> all;
    std::ranges::transform(architectures(), std::back_inserter(all), &Architecture::name);
    return all;
  }();
  return names;
}

std::string architecture_list() {
  const auto names = architecture_names();
  return fmt::format("{} or {}", fmt::join(names.begin(), names.end() - 1, ", "), names.back());
}

const Architecture* find_architecture(std::string_view name) {
  const auto all = architectures();
  const auto found = std::ranges::find(all, name, &Architecture::name);
  return found == all.end() ? nullptr : &*found;
}

const Architecture& architecture_of(std::string_view name) {
  const Architecture* found = find_architecture(name);
  if (found == nullptr)
    throw Error(fmt::format("network: unknown architecture \"{}\"; use {}", name, architecture_list()));
  return *found;
}

std::vector<NamedShape> expected_tensors(const NetworkShape& network) {
  if (network.num_classes < 1)
    throw Error(fmt::format("network: expected at least one class, got {}", network.num_classes));
  const Architecture& architecture = architecture_of(network.architecture);
  const bool is_vgg = architecture.family == Family::vgg;
  if (network.head != "original" && !(is_vgg && network.head == "gap")) {
    throw Error(fmt::format("network: {} has no head \"{}\"; use original{}", network.architecture, network.head,
                            is_vgg ? " or gap" : ""));
  }
  switch (architecture.family) {
    case Family::resnet:
      return resnet(architecture, network.num_classes);
    case Family::densenet:
      return densenet(architecture, network.num_classes);
    case Family::vgg:
      return vgg(architecture, network.num_classes, network.head == "gap");
  }
  return {};
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
  if (architecture_of(architecture).family == Family::vgg && weights.find("classifier.weight") != nullptr)
    network.head = "gap";
  const WeightTensor* last = weights.find(classifier_name(network) + ".weight");
  if (last == nullptr) last = weights.find(classifier_name(network) + ".bias");
  if (last != nullptr && !last->shape.empty() && last->shape[0] > 0) network.num_classes = last->shape[0];
  return network;
}

NetworkShape guess_network(const WeightTable& weights) {
  NetworkShape best{"", 0, "original"};
  std::size_t most = 0;
  for (const Architecture& architecture : architectures()) {
    const NetworkShape network = network_of(std::string(architecture.name), weights, 1000);
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
