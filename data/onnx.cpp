#include "data/onnx.h"

#include <fmt/format.h>

#include "data/files.h"
#include "data/protobuf.h"

namespace graft {
namespace {

using Message = ProtobufMessage;

constexpr int kFloat = 1;                                                  // TensorProto.DataType
constexpr int kFloatAttribute = 1, kIntAttribute = 2, kIntsAttribute = 7;  // AttributeProto.AttributeType

Message encoded(const OnnxNode& node) {
  Message m;
  for (const std::string& name : node.inputs) m.text(1, name);
  for (const std::string& name : node.outputs) m.text(2, name);
  m.text(3, node.name);
  m.text(4, node.op);
  for (const auto& [name, value] : node.attributes) {
    Message a;
    a.text(1, name);
    if (const auto* real = std::get_if<float>(&value)) {
      a.real(2, *real);
      a.integer(20, kFloatAttribute);
    } else if (const auto* whole = std::get_if<std::int64_t>(&value)) {
      a.integer(3, *whole);
      a.integer(20, kIntAttribute);
    } else {
      for (std::int64_t number : std::get<Dimensions>(value)) a.integer(8, number);
      a.integer(20, kIntsAttribute);
    }
    m.message(5, std::move(a));
  }
  return m;
}

Message encoded(const OnnxTensor& tensor) {
  Message m;
  for (std::int64_t size : tensor.shape) m.integer(1, size);
  m.integer(2, kFloat);
  m.text(8, tensor.name);
  m.borrowed(9, tensor.values);
  return m;
}

Message encoded(const OnnxPort& port) {
  Message shape;
  Message batch;
  batch.text(2, "batch");
  shape.message(1, std::move(batch));
  for (std::int64_t size : port.shape) {
    Message dimension;
    dimension.integer(1, size);
    shape.message(1, std::move(dimension));
  }
  Message tensor;
  tensor.integer(1, kFloat);
  tensor.message(2, std::move(shape));
  Message type;
  type.message(1, std::move(tensor));
  Message m;
  m.text(1, port.name);
  m.message(2, std::move(type));
  return m;
}

Message encoded(const OnnxModel& model) {
  constexpr int kIrVersion = 7, kOperatorSet = 13;
  Message graph;
  for (const OnnxNode& node : model.nodes) graph.message(1, encoded(node));
  graph.text(2, model.name);
  for (const OnnxTensor& tensor : model.initializers) graph.message(5, encoded(tensor));
  graph.message(11, encoded(model.input));
  graph.message(12, encoded(model.output));

  Message operators;
  operators.text(1, "");  // the standard ones
  operators.integer(2, kOperatorSet);
  Message m;
  m.integer(1, kIrVersion);
  m.text(2, "graft");
  m.text(6, model.description);
  m.message(7, std::move(graph));
  m.message(8, std::move(operators));
  for (const auto& [key, value] : model.metadata) {
    Message entry;
    entry.text(1, key);
    entry.text(2, value);
    m.message(14, std::move(entry));
  }
  return m;
}

}  // namespace

void write_onnx(const std::filesystem::path& path, const OnnxModel& model) {
  constexpr std::size_t kMost = (std::size_t{1} << 31) - 1;
  const Message message = encoded(model);
  if (message.size() > kMost)
    throw Error(fmt::format("onnx: {} bytes do not fit one file of at most {}; export .safetensors instead",
                            message.size(), kMost));
  write_atomically(path, message.parts());
}

}  // namespace graft
