// A model file's network as an ONNX graph. The network itself is run, on a device that computes nothing and writes down
// the calls, so what a file says cannot differ from what the network does. The file's bytes are data/onnx.h's business.
#pragma once

#include "data/model_file.h"
#include "data/onnx.h"

namespace graft {

/// How an image becomes the network's input, and what its outputs mean: keys architecture, stride_on, bn_epsilon, head,
/// resize, input_size, channel_order, input_scale, mean and std (three numbers), source_sha256, task ("multi-label", or
/// absent) and class_names (JSON).
std::map<std::string, std::string> model_metadata(const ModelInfo& info);

/// The network in evaluation mode, from "images" [batch,3,S,S], normalised, S the model's input size, to "logits"
/// [batch,classes]. Weights keep torchvision's names; batch norms stay nodes of their own. The metadata says how an
/// image becomes the input, and lists the class names.
/// The graph points into `file`, which must outlive it. Errors: tensors that the file leaves random.
OnnxModel onnx_graph(const ModelFile& file);

}  // namespace graft
