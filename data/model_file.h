// The graft model file: one HDF5 file with a network's description and its weights by torchvision's names, OIHW. A
// checkpoint is a model file with two more groups. Other programs' files become such a file in weight_import.h.
//
//   / (attributes)   format = "graft-model", format_version, architecture, stride_on, bn_epsilon, num_classes, head,
//                    input_size, resize, channel_order, input_scale, mean, std, class_names, source, source_sha256,
//                    random_tensors (only of partial imports), intensity_window (only where one is used),
//                    task = "multi-label" (only where an image may have several labels)
//   /weights/<name>  float32, or float64 where the table holds exact doubles; one checksummed chunk each
//   /optimizer, /state  arrays of a checkpoint, texts as attributes
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "data/architectures.h"
#include "data/hdf5_file.h"
#include "data/image.h"
#include "data/weight_table.h"

namespace graft {

/// Value of the attribute `task`, and of the same name in other formats' metadata.
inline constexpr const char* kMultiLabelTask = "multi-label";

/// Everything about a model but its weights: what it is, and how an image becomes its input:
/// (value / input_scale - mean) / std per channel, in channel order, after a resize of the shorter side and a centre
/// crop.
struct ModelInfo {
  std::string architecture;
  std::string stride_on = "3x3";  // "3x3" (v1.5) or "1x1" (v1): the strided convolution of a ResNet block
  double bn_epsilon = 1e-5;
  std::int64_t num_classes = 1000;
  std::string head = "original";      // or "gap" (VGG)
  std::int64_t input_size = 224;      // pixels, side of the crop
  std::int64_t resize = 256;          // pixels, shorter side
  std::string channel_order = "rgb";  // or "bgr"
  double input_scale = 255;
  std::array<double, 3> mean = {0.485, 0.456, 0.406};  // in channel order
  std::array<double, 3> std = {0.229, 0.224, 0.225};
  std::optional<IntensityWindow> window;  // of 16-bit files; none keeps their high byte
  std::vector<std::string> class_names;   // empty, or num_classes of them
  bool is_multi_label = false;            // any number of classes per image: their logits are for sigmoids
  std::string source;
  std::string source_sha256;
  std::vector<std::string> random_tensors;  // absent from a partial file: the network's random start stays

  NetworkShape network() const { return {architecture, num_classes, head}; }
};

/// Named arrays and texts that a checkpoint adds. Names hold no '/'.
struct StateGroup {
  std::map<std::string, NumberArray> arrays;  // float, double or int64; read back in the type they were written in
  std::map<std::string, std::string> texts;
  bool is_empty() const { return arrays.empty() && texts.empty(); }
};

struct Checkpoint {
  StateGroup optimizer;
  StateGroup state;  // counters, random state, freeze plan, early stopping
};

struct ModelFile {
  ModelInfo info;
  WeightTable weights;
};

/// Writes atomically: temporary name, sync, rename. Empty checkpoint groups are left out.
/// Errors: weights that do not fit info.network() (a table of the differences; info.random_tensors may be absent); a
/// setting out of its range; a place that cannot be written.
void write_model_file(const std::filesystem::path& path, const ModelInfo& info, const WeightTable& weights,
                      const Checkpoint& checkpoint = {});

/// The attributes alone, without touching the weights.
/// Errors: not a graft model file; a newer format_version; an attribute missing or out of its range.
ModelInfo read_model_info(const std::filesystem::path& path);

/// Attributes and weights; every checksum is verified. About 40 ms for 100 MB in the page cache.
/// Errors: as above; damaged values (the tensor is named); weights that do not fit the architecture.
ModelFile read_model_file(const std::filesystem::path& path);

/// The groups that a checkpoint adds; empty ones for a plain model file.
Checkpoint read_checkpoint(const std::filesystem::path& path);

/// Whether an HDF5 file says of itself that it is a graft model file.
bool is_model_file(const Hdf5File& file);

}  // namespace graft
