// Writing ONNX files: a graph of operators with its weights, which onnxruntime, TensorRT and OpenVINO read. The format
// is protocol buffers; this page knows fields and numbers, not networks. models/onnx_graph.h makes the graph.
// Source: github.com/onnx/onnx, onnx/onnx.proto; operators in docs/Operators.md.
#pragma once

#include <deque>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "data/weight_table.h"

namespace graft {

struct OnnxNode {
  std::string op;    // "Conv"
  std::string name;  // unique, for people
  std::vector<std::string> inputs, outputs;
  std::vector<std::pair<std::string, std::variant<std::int64_t, float, Dimensions>>> attributes = {};
};

/// float32, row-major; the values belong to somebody else.
struct OnnxTensor {
  std::string name;
  Dimensions shape;
  std::span<const float> values;
};

/// An input or output: float32 [batch, shape...]; the batch may have any size.
struct OnnxPort {
  std::string name;
  Dimensions shape;
};

struct OnnxModel {
  std::string name, description;
  OnnxPort input, output;
  std::vector<OnnxNode> nodes;  // in an order in which they can run
  std::vector<OnnxTensor> initializers;
  std::deque<std::vector<float>> constants;     // values of initializers that are in no weight table
  std::map<std::string, std::string> metadata;  // what a runtime shows beside the graph
};

/// Operator set 13, IR version 7: onnx 1.8 (2020) and newer. Writes atomically.
/// Errors: more than 2 GB, which protocol buffers cannot hold; a place that cannot be written.
void write_onnx(const std::filesystem::path& path, const OnnxModel& model);

}  // namespace graft
