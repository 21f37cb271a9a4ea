// From any weight file to what the graft model file holds: the format is recognised, names and layouts become
// torchvision's, the table is checked against the architecture. `graft weights import` and `inspect` print what this
// returns; the formats themselves are in safetensors.h, pth.h, keras_h5.h and model_file.h.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/architectures.h"
#include "data/model_file.h"
#include "data/weight_table.h"

namespace graft {

struct ImportRequest {
  std::filesystem::path path;
  std::string architecture;
  std::string format = "auto";            // auto, pth, safetensors, keras
  std::optional<std::string> stride_on;   // unset: what the format says (Keras), else 3x3
  std::optional<std::string> preprocess;  // torch, caffe, none; unset: what the format says (Keras), else torch
  std::optional<double> bn_epsilon;       // unset: what the format says (Keras), else 1e-5
  std::optional<std::int64_t> resize;     // pixels; unset: 256
  std::optional<IntensityWindow> window;  // of 16-bit files; unset: what a file of graft's says
  std::filesystem::path labels;           // .json or one name a line; empty: no class names
  bool is_multi_label = false;            // logits are for sigmoids; a file of graft's may say so itself
  bool is_partial = false;                // missing tensors keep their random start
};

struct ImportedWeights {
  ModelInfo info;  // random_tensors: what stays random
  WeightTable weights;
  std::string format;       // "pth", "safetensors", "keras"
  std::string recognised;   // which published file this is, by its hash; empty when unknown
  bool says_input = false;  // the file tells strides and preprocessing itself, as Keras' and graft's own do
};

/// Reads and converts; float64 is rounded to float32.
/// Errors: those of the readers; a file of another architecture, with the table of missing, extra and mismatched names;
/// missing tensors without is_partial; values that are not finite, negative variances; labels that do not fit the
/// classes.
ImportedWeights import_weights(const ImportRequest& request);

/// Channel order, scale, mean and std of "torch", "caffe" or "none".
/// Errors: another name.
void set_preprocessing(ModelInfo& info, const std::string& name);

/// Class names: {"0": "tench", ...}, ["tench", ...], {"0": ["n01440764", "tench"], ...} (Keras), or one a line.
/// Errors: unreadable, not such JSON, indices with holes, empty names.
std::vector<std::string> read_labels(const std::filesystem::path& path);

/// What `graft weights inspect` says about a file.
struct WeightFileReport {
  std::string format;  // "graft-model", "keras", "pth", "safetensors"
  std::int64_t bytes = 0;
  std::string sha256;
  std::string recognised;         // the published file, or empty
  NetworkShape network;           // read off the names; architecture empty when none fits
  std::optional<ModelInfo> info;  // of a graft model file
  struct Tensor {
    std::string name;
    Dimensions shape;
    DType stored_dtype = DType::f32;
  };
  std::vector<Tensor> tensors;         // torchvision's names and layout where they are known
  std::int64_t value_count = 0;        // of all tensors
  std::string values_sha256;           // of names and values alone: equal in files that hold the same network
  std::vector<SkippedTensor> skipped;  // integers
  std::map<std::string, std::string> metadata;
  WeightComparison comparison;  // with `network`; empty when its architecture is
};

/// Errors: those of the readers; a file of no known format.
WeightFileReport inspect_weights(const std::filesystem::path& path);

}  // namespace graft
