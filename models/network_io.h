// Weights between a network and the host: tables by torchvision's names, and the graft model file. Files hold OIHW,
// arenas K R S C; the permutation happens here. What a model file looks like is data/model_file.h's business.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "models/network.h"

namespace graft {

struct LoadOptions {
  bool partial = false;     // tensors that are missing or of another shape keep their values, others are ignored
  bool skips_head = false;  // the last linear layer keeps its values, whatever the table holds
};

/// Copies the table's tensors into the network and returns how the table differs from it (without the head, when that
/// is skipped). Exact doubles are used where the table has them. A weight with an adapter becomes the table's sum: its
/// `up` is set to zero.
/// Errors: any difference, unless `partial`: a list of missing, extra and mismatched tensors.
WeightComparison load_weights(Network& network, const WeightTable& weights, const LoadOptions& options = {});

/// All parameters and running statistics in state_dict order; exact doubles when the device computes in float64.
/// Adapters are added to their weights.
WeightTable weights_of(const Network& network);

/// A network's weights at some moment.
struct WeightSnapshot {
  WeightTable weights;                  // as weights_of gives them
  std::vector<std::uint64_t> versions;  // that each tensor had
};

/// The weights as they are. Tensors that did not change since `earlier` was taken of the same network are shared with
/// it: what is frozen leaves the device once. `earlier` may be null. Requires: no layer or statistics were added since.
WeightSnapshot snapshot_of(const Network& network, const WeightSnapshot* earlier);

/// Puts back what has changed since the snapshot of this network was taken, and every weight with an adapter, as
/// load_weights does.
void restore(Network& network, const WeightSnapshot& snapshot);

/// The network of a model file or checkpoint. Tensors that a partial file leaves random are drawn with `seed`.
/// Errors: those of read_model_file.
std::unique_ptr<Network> load_network(Context& context, const std::filesystem::path& path, std::uint64_t seed = 0);

/// What replaces the last layer for another task.
struct NewHead {
  std::int64_t num_classes = 2;
  std::vector<std::string> class_names = {};  // empty, or num_classes of them
  std::string head = {};                      // "original" or "gap"; empty: as in the file
  std::uint64_t seed = 0;
};

/// The same network with a head drawn anew for other classes; the rest comes from the file. A VGG may change from the
/// original head to "gap", and back: then all three linear layers are new.
/// Errors: those of read_model_file; a head that the architecture does not have.
std::unique_ptr<Network> load_backbone(Context& context, const std::filesystem::path& path, const NewHead& head);

/// Writes a model file, or a checkpoint; atomically. With `weights`, what weights_of gave earlier of such a network.
void save_network(const std::filesystem::path& path, const Network& network, const Checkpoint& checkpoint = {});
void save_network(const std::filesystem::path& path, ModelInfo info, const WeightTable& weights,
                  const Checkpoint& checkpoint = {});

}  // namespace graft
