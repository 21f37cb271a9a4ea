// The tensors that each network expects, by torchvision's names and shapes, and how a table of weights differs from
// them. The networks themselves are in models/; this page knows only names and sizes, so that files can be judged
// without them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/weight_table.h"

namespace graft {

/// What the layers of a family's members have in common.
enum class Family { resnet, densenet, vgg };

/// A member of a family, as the table in the family's paper has it.
struct Architecture {
  std::string_view name;  // torchvision's
  Family family;
  /// ResNet: blocks of each stage; DenseNet: layers of each dense block; VGG: convolutions before each pooling.
  std::vector<int> depths;
  /// ResNet: a block is 1x1 - 3x3 - 1x1 and gives out four times its width, else 3x3 - 3x3.
  bool has_bottlenecks = false;
  /// Batch norm behind convolutions. VGG comes with it and without.
  bool has_norms = true;
};

/// ResNet-18, 34, 50, 101, 152; DenseNet-121, 169, 201; VGG-11, 13, 16, 19, each also with batch norm.
std::span<const Architecture> architectures();

/// Their names, in that order.
std::span<const std::string_view> architecture_names();
/// "resnet18, resnet34, ... or vgg19_bn", for messages.
std::string architecture_list();

/// Null if no architecture has that name.
const Architecture* find_architecture(std::string_view name);
/// Errors: an unknown name.
const Architecture& architecture_of(std::string_view name);

/// What fixes the names and shapes of a network's tensors.
struct NetworkShape {
  std::string architecture;
  std::int64_t num_classes = 1000;
  std::string head = "original";  // VGG alone also has "gap": one linear layer 512 -> classes on pooled features
};

struct NamedShape {
  std::string name;
  Dimensions shape;
};

/// Parameters and running statistics in the order of torchvision's state_dict, without its batch counters.
/// Errors: an unknown architecture or head; num_classes < 1.
std::vector<NamedShape> expected_tensors(const NetworkShape& network);

/// The last linear layer: "fc", "classifier" or "classifier.6".
std::string classifier_name(const NetworkShape& network);

struct Mismatch {
  std::string name;
  Dimensions expected, got;
};

/// How a table differs from a network; all three in the order of the network or the file.
struct WeightComparison {
  std::vector<NamedShape> missing;
  std::vector<NamedShape> extra;
  std::vector<Mismatch> mismatched;
  bool is_equal() const { return missing.empty() && extra.empty() && mismatched.empty(); }
};
WeightComparison compare_weights(const WeightTable& weights, const NetworkShape& network);

/// A table of the differences, one line each, the first `limit` of each kind: "missing  fc.weight  [1000,2048]".
std::string comparison_text(const WeightComparison& comparison, std::int64_t limit = 12);

/// torchvision's name for one of: an old DenseNet key (denselayer1.norm.1.weight), a VGG key of timm (pre_logits.fc1,
/// head.fc). Other names come back unchanged.
std::string torchvision_name(std::string_view name);

/// Renames the whole table by torchvision_name, and flattens timm's convolutional VGG classifiers to matrices.
WeightTable with_torchvision_names(WeightTable weights);

/// The network whose names the table shares most, with classes and head read off the last layer; an empty architecture
/// when no name fits.
NetworkShape guess_network(const WeightTable& weights);

/// Classes and head of the given architecture as the table's last layer has them; `if_absent` classes without one.
NetworkShape network_of(const std::string& architecture, const WeightTable& weights, std::int64_t if_absent);

}  // namespace graft
