#include "data/keras_h5.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <regex>
#include <set>
#include <utility>
#include <vector>

#include "data/architectures.h"

namespace graft {
namespace {

enum class LayerKind { convolution, batch_norm, dense, first_dense_of_vgg };

struct Target {
  std::string name;  // torchvision's module
  LayerKind kind;
};

enum class Variant { unknown, old_resnet50, new_resnet, densenet, vgg };

constexpr std::size_t kLongestName = 200;  // std::regex recurses once per character

Variant variant_of(const std::set<std::string>& layers) {
  if (layers.contains("bn_conv1") && layers.contains("res2a_branch2a")) return Variant::old_resnet50;
  if (layers.contains("post_bn")) return Variant::unknown;  // ResNet v2, of another order
  if (layers.contains("pool2_conv")) return Variant::densenet;
  if (layers.contains("conv1_conv") && layers.contains("conv2_block1_3_conv")) return Variant::new_resnet;
  if (layers.contains("block1_conv1") && layers.contains("block3_conv1")) return Variant::vgg;
  return Variant::unknown;
}

/// The family's shallowest member that has all the file's layers; an empty name if none has.
std::string architecture_of_layers(Variant variant, const std::set<std::string>& layers) {
  if (variant == Variant::unknown) return "";
  if (variant == Variant::old_resnet50) return "resnet50";
  const Family family = variant == Variant::new_resnet ? Family::resnet
                        : variant == Variant::densenet ? Family::densenet
                                                       : Family::vgg;
  static const std::regex numbered(R"(^(conv|block)([1-5])_(?:block|conv)(\d{1,2})(?:_.*)?$)");
  std::vector<int> depths(family == Family::vgg ? 5 : 4);
  std::smatch m;
  for (const std::string& layer : layers) {
    if (layer.size() > kLongestName || !std::regex_match(layer, m, numbered)) continue;
    const int stage = m[2].str()[0] - (m[1] == "block" ? '1' : '2');  // conv1 is a ResNet's and DenseNet's stem
    if (stage < 0 || stage >= std::ssize(depths)) return "";
    int& depth = depths[static_cast<std::size_t>(stage)];
    depth = std::max(depth, std::stoi(m[3]));
  }
  for (const Architecture& a : architectures()) {
    if (a.family == family && a.has_bottlenecks == (family == Family::resnet) &&
        a.has_norms == (family != Family::vgg) && std::ranges::equal(depths, a.depths, std::ranges::less_equal()))
      return std::string(a.name);
  }
  return "";
}

/// torchvision's index of a VGG's convolution: behind each is a ReLU, and behind each stage a pooling.
int vgg_index(const std::string& architecture, int stage, int convolution) {
  const std::vector<int>& depths = architecture_of(architecture).depths;
  return 2 * std::accumulate(depths.begin(), depths.begin() + stage, convolution) + stage;
}

/// The torchvision module of a Keras layer, or an empty name.
Target target_of(Variant variant, const std::string& architecture, const std::string& layer) {
  constexpr auto kConvolution = LayerKind::convolution;
  constexpr auto kNorm = LayerKind::batch_norm;
  std::smatch m;
  if (layer.size() > kLongestName) return {};
  switch (variant) {
    case Variant::old_resnet50: {
      static const std::regex block(R"(^(res|bn)([2-5])([a-f])_branch(1|2[abc])$)");
      if (layer == "conv1") return {"conv1", kConvolution};
      if (layer == "bn_conv1") return {"bn1", kNorm};
      if (layer == "fc1000" || layer == "predictions") return {"fc", LayerKind::dense};
      if (!std::regex_match(layer, m, block)) return {};
      const bool is_norm = m[1] == "bn";
      const std::string prefix = fmt::format("layer{}.{}.", m[2].str()[0] - '1', m[3].str()[0] - 'a');
      const std::string branch = m[4];
      if (branch == "1") return {prefix + (is_norm ? "downsample.1" : "downsample.0"), is_norm ? kNorm : kConvolution};
      return {fmt::format("{}{}{}", prefix, is_norm ? "bn" : "conv", branch[1] - 'a' + 1),
              is_norm ? kNorm : kConvolution};
    }
    case Variant::new_resnet: {
      static const std::regex block(R"(^conv([2-5])_block(\d{1,2})_([0-3])_(conv|bn)$)");
      if (layer == "conv1_conv") return {"conv1", kConvolution};
      if (layer == "conv1_bn") return {"bn1", kNorm};
      if (layer == "probs" || layer == "predictions" || layer == "fc1000") return {"fc", LayerKind::dense};
      if (!std::regex_match(layer, m, block)) return {};
      const bool is_norm = m[4] == "bn";
      const std::string prefix = fmt::format("layer{}.{}.", m[1].str()[0] - '1', std::stoi(m[2]) - 1);
      if (m[3] == "0") return {prefix + (is_norm ? "downsample.1" : "downsample.0"), is_norm ? kNorm : kConvolution};
      return {fmt::format("{}{}{}", prefix, is_norm ? "bn" : "conv", m[3].str()), is_norm ? kNorm : kConvolution};
    }
    case Variant::densenet: {
      static const std::regex block(R"(^conv([2-5])_block(\d{1,2})_([012])_(conv|bn)$)");
      static const std::regex transition(R"(^pool([2-4])_(conv|bn)$)");
      if (layer == "conv1/conv" || layer == "conv1_conv") return {"features.conv0", kConvolution};
      if (layer == "conv1/bn" || layer == "conv1_bn") return {"features.norm0", kNorm};
      if (layer == "bn") return {"features.norm5", kNorm};
      if (layer == "fc1000" || layer == "predictions") return {"classifier", LayerKind::dense};
      if (std::regex_match(layer, m, transition)) {
        const bool is_norm = m[2] == "bn";
        return {fmt::format("features.transition{}.{}", m[1].str()[0] - '1', is_norm ? "norm" : "conv"),
                is_norm ? kNorm : kConvolution};
      }
      if (!std::regex_match(layer, m, block)) return {};
      const std::string prefix = fmt::format("features.denseblock{}.denselayer{}.", m[1].str()[0] - '1', m[2].str());
      const std::string part = m[3].str() + m[4].str();
      if (part == "0bn") return {prefix + "norm1", kNorm};
      if (part == "1conv") return {prefix + "conv1", kConvolution};
      if (part == "1bn") return {prefix + "norm2", kNorm};
      if (part == "2conv") return {prefix + "conv2", kConvolution};
      return {};
    }
    case Variant::vgg: {
      if (architecture.empty()) return {};
      static const std::regex block(R"(^block([1-5])_conv([1-4])$)");
      if (layer == "fc1") return {"classifier.0", LayerKind::first_dense_of_vgg};
      if (layer == "fc2") return {"classifier.3", LayerKind::dense};
      if (layer == "predictions") return {"classifier.6", LayerKind::dense};
      if (!std::regex_match(layer, m, block)) return {};
      return {fmt::format("features.{}", vgg_index(architecture, m[1].str()[0] - '1', m[2].str()[0] - '1')),
              kConvolution};
    }
    case Variant::unknown:
      return {};
  }
  return {};
}

/// Applies `source_of(destination index)` to floats and, where kept, to doubles.
template <class SourceOf>
void permute(WeightTensor& tensor, Dimensions shape, SourceOf source_of) {
  const auto apply = [&](auto& values) {
    auto old = std::move(values);
    values.resize(old.size());
    for (std::size_t i = 0; i < old.size(); ++i) values[i] = old[source_of(i)];
  };
  apply(tensor.values);
  if (!tensor.exact.empty()) apply(tensor.exact);
  tensor.shape = std::move(shape);
}

/// [a, b, c, d] to [d, c, a, b]: Keras's HWIO kernels to OIHW.
void hwio_to_oihw(WeightTensor& tensor) {
  const auto h = static_cast<std::size_t>(tensor.shape[0]), w = static_cast<std::size_t>(tensor.shape[1]);
  const auto in = static_cast<std::size_t>(tensor.shape[2]), out = static_cast<std::size_t>(tensor.shape[3]);
  permute(tensor, {tensor.shape[3], tensor.shape[2], tensor.shape[0], tensor.shape[1]}, [=](std::size_t i) {
    const std::size_t x = i % w, y = i / w % h, c = i / (w * h) % in, k = i / (w * h * in);
    return ((y * w + x) * in + c) * out + k;
  });
}

/// (in, out) to (out, in).
void transpose(WeightTensor& tensor) {
  const auto in = static_cast<std::size_t>(tensor.shape[0]), out = static_cast<std::size_t>(tensor.shape[1]);
  permute(tensor, {tensor.shape[1], tensor.shape[0]}, [=](std::size_t i) { return i % in * out + i / in; });
}

/// VGG's first dense layer sees the 7x7x512 features flattened as H, W, C; torchvision flattens them as C, H, W.
void convert_first_dense(WeightTensor& tensor) {
  if (tensor.shape[0] != 7 * 7 * 512) return transpose(tensor);  // the comparison then reports the shape
  const std::int64_t out = tensor.shape[1];
  tensor.shape = {7, 7, 512, out};
  hwio_to_oihw(tensor);
  tensor.shape = {out, 512 * 7 * 7};
}

/// Where the layers hang: the root, or /model_weights of a whole model.
std::string layers_root(const Hdf5File& file) {
  for (const char* root : {"/", "/model_weights"}) {
    if (root[1] != '\0' && !file.has_group(root)) continue;
    if (file.has_attribute(root, "layer_names") || file.has_attribute(root, "layer_names0")) return root;
  }
  return "";
}

/// An attribute, or its pieces name0, name1 ... where it passed HDF5's 64 KB.
std::vector<std::string> read_list(const Hdf5File& file, const std::string& object, const std::string& name) {
  if (file.has_attribute(object, name)) return file.read_texts(object, name);
  std::vector<std::string> all;
  for (int piece = 0; file.has_attribute(object, fmt::format("{}{}", name, piece)); ++piece) {
    for (std::string& text : file.read_texts(object, fmt::format("{}{}", name, piece))) all.push_back(std::move(text));
  }
  return all;
}

void add_layer(WeightTable& table, const Hdf5File& file, const std::string& group, const std::string& layer,
               const Target& target, const std::vector<std::string>& names) {
  std::vector<WeightTensor> parts;
  for (const std::string& name : names) parts.push_back(file.read_tensor(group + "/" + name, layer + "/" + name));
  const auto expect = [&](bool is_right, std::string_view expected) {
    if (is_right) return;
    std::string got;
    for (const WeightTensor& part : parts) got += " " + dimensions_text(part.shape);
    throw Error(
        fmt::format("keras: layer {} expects {}, got{}; the file is not of this network", layer, expected, got));
  };
  const auto rename = [&](std::size_t i, const char* suffix) { parts[i].name = target.name + suffix; };
  if (target.name.empty()) {
    // kept under its own name
  } else if (target.kind == LayerKind::batch_norm) {
    expect(
        parts.size() == 4 &&
            std::ranges::all_of(parts, [&](const auto& p) { return p.shape.size() == 1 && p.shape == parts[0].shape; }),
        "gamma, beta, mean and variance");
    rename(0, ".weight"), rename(1, ".bias"), rename(2, ".running_mean"), rename(3, ".running_var");
  } else {
    const bool is_convolution = target.kind == LayerKind::convolution;
    expect((parts.size() == 1 || parts.size() == 2) && parts[0].shape.size() == (is_convolution ? 4U : 2U) &&
               (parts.size() == 1 || parts[1].shape == Dimensions{parts[0].shape.back()}),
           is_convolution ? "a kernel [h,w,in,out] and perhaps a bias" : "a kernel [in,out] and perhaps a bias");
    rename(0, ".weight");
    if (parts.size() == 2) rename(1, ".bias");
    if (is_convolution) {
      hwio_to_oihw(parts[0]);
    } else if (target.kind == LayerKind::first_dense_of_vgg) {
      convert_first_dense(parts[0]);
    } else {
      transpose(parts[0]);
    }
  }
  for (WeightTensor& part : parts) table.add(std::move(part));
}

/// torchvision's batch norm after a ResNet convolution: conv1 -> bn1, downsample.0 -> downsample.1.
std::string norm_after(const std::string& convolution) {
  if (convolution.ends_with("downsample.0")) return convolution.substr(0, convolution.size() - 1) + "1";
  const std::size_t at = convolution.rfind("conv");
  return convolution.substr(0, at) + "bn" + convolution.substr(at + 4);
}

/// Keras's ResNet-50 adds a bias before each batch norm; (x + b) - mean = x - (mean - b).
WeightTable fold_biases(WeightTable table) {
  std::vector<WeightTensor> tensors = std::move(table).release();
  const auto find = [&](const std::string& name) -> WeightTensor* {
    const auto at = std::ranges::find(tensors, name, &WeightTensor::name);
    return at == tensors.end() ? nullptr : &*at;
  };
  std::set<std::string> folded;
  for (const WeightTensor& bias : tensors) {
    constexpr std::string_view kSuffix = ".bias";
    if (!bias.name.ends_with(kSuffix)) continue;
    const std::string module = bias.name.substr(0, bias.name.size() - kSuffix.size());
    const WeightTensor* kernel = find(module + ".weight");
    if (kernel == nullptr || kernel->shape.size() != 4) continue;
    WeightTensor* mean = find(norm_after(module) + ".running_mean");
    if (mean == nullptr || mean->shape != bias.shape) {
      throw Error(fmt::format("keras: the bias of {} expects a batch norm {} to fold into; the file is incomplete",
                              module, norm_after(module)));
    }
    for (std::size_t i = 0; i < bias.values.size(); ++i) mean->values[i] -= bias.values[i];
    if (!mean->exact.empty() && !bias.exact.empty()) {
      for (std::size_t i = 0; i < bias.exact.size(); ++i) {
        mean->exact[i] -= bias.exact[i];
        mean->values[i] = static_cast<float>(mean->exact[i]);
      }
    }
    folded.insert(bias.name);
  }
  WeightTable result;
  for (WeightTensor& tensor : tensors) {
    if (!folded.contains(tensor.name)) result.add(std::move(tensor));
  }
  return result;
}

}  // namespace

KerasWeights read_keras_h5(const std::filesystem::path& path) {
  const Hdf5File file = Hdf5File::open(path);
  const std::string root = layers_root(file);
  if (root.empty()) {
    if (file.has_group("/layers") || file.has_group("/_layer_checkpoint_dependencies")) {
      throw Error(
          fmt::format("keras {}: the .weights.h5 format of Keras 3 is not read; save it with "
                      "model.save(\"weights.h5\") or take the .h5 file of Keras applications",
                      path.string()));
    }
    throw Error(fmt::format("keras {}: no layer_names at the root or under /model_weights; not a Keras weight file",
                            path.string()));
  }
  if (file.has_attribute(root, "backend") && file.read_text(root, "backend") == "theano") {
    throw Error(fmt::format("keras {}: Theano's kernels are mirrored; take the file for TensorFlow (tf_dim_ordering)",
                            path.string()));
  }
  const std::vector<std::string> layers = read_list(file, root, "layer_names");
  const std::set<std::string> names_of_layers(layers.begin(), layers.end());
  const Variant variant = variant_of(names_of_layers);

  KerasWeights result;
  result.architecture = architecture_of_layers(variant, names_of_layers);
  const std::string prefix = root == "/" ? "/" : root + "/";
  for (const std::string& layer : layers) {
    const std::string group = prefix + layer;
    const std::vector<std::string> names = read_list(file, group, "weight_names");
    if (!names.empty())
      add_layer(result.weights, file, group, layer, target_of(variant, result.architecture, layer), names);
  }
  switch (variant) {
    case Variant::old_resnet50:
    case Variant::new_resnet:
      result.stride_on = "1x1";
      result.preprocess = "caffe";
      result.bn_epsilon = variant == Variant::old_resnet50 ? 1e-3 : 1.001e-5;
      result.weights = fold_biases(std::move(result.weights));
      break;
    case Variant::densenet:
      result.bn_epsilon = 1.001e-5;
      break;
    case Variant::vgg:
      result.preprocess = "caffe";
      break;
    case Variant::unknown:
      break;
  }
  return result;
}

}  // namespace graft
