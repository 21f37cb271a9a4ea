// Networks of three families behind one interface: images in, logits out, whole or in parts, so that what a frozen
// prefix gives can be kept. Each family is one file (resnet.cpp, densenet.cpp, vgg.cpp); weights come from files
// through network_io.h or at random through initialise.h.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/model_file.h"
#include "nn/layers.h"

namespace graft {

class Network {
 public:
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;
  virtual ~Network() = default;

  /// x [N,3,H,W] -> logits [N,classes,1,1].
  Tensor forward(const Tensor& x) const { return run_parts(x, 0, parts()); }
  /// x [N,3,H,W] -> the input of the head, [N,F,1,1].
  Tensor features(const Tensor& x) const { return run_parts(x, 0, head_part()); }

  /// The network in parts that run one after another: part i is block i, but the last block is two parts, what leads to
  /// the input of the head, and the head: the last linear layer after its dropout.
  int parts() const { return int(blocks_.size()) + 1; }
  int head_part() const { return int(blocks_.size()); }
  /// "layer4"; of the last two "<block>" and "the head".
  const std::string& part_name(int part) const;
  /// Runs parts [begin, end): the input of part `begin` -> the input of part `end`, logits when end == parts().
  /// In evaluation mode, running two ranges one after the other gives what running them as one gives.
  Tensor run_parts(const Tensor& x, int begin, int end) const;

  /// The activations of the last convolutions that still have places, as pooling gets them: x [N,3,H,W] -> [N,K,h,w].
  /// ResNet: what layer4 gives; DenseNet: norm5's output behind its ReLU; VGG: before the last max pooling.
  virtual Tensor last_maps(const Tensor& x) const = 0;
  /// From those activations on: [N,K,h,w] -> logits. In evaluation mode logits_of(last_maps(x)) is forward(x).
  Tensor logits_of(const Tensor& maps) const { return run_parts(pooled_maps(maps), head_part(), parts()); }

  const ModelInfo& info() const { return info_; }
  std::int64_t num_classes() const { return info_.num_classes; }
  ParameterSet& parameters() { return parameters_; }
  const ParameterSet& parameters() const { return parameters_; }
  Context& context() const { return parameters_.context(); }

  /// Names of the blocks that gradual unfreezing and reports go by, first to last; Parameter::block counts along them.
  /// The head shares the last block with what else is in it.
  const std::vector<std::string>& blocks() const { return blocks_; }
  /// The last linear layer's parameters.
  Parameter& head_weight() { return parameters_.parameters()[head_begin_]; }
  Parameter& head_bias() { return parameters_.parameters()[head_begin_ + 1]; }
  bool is_head(const Parameter& parameter) const;

  /// Probability of dropping, before the head and before the second linear layer of VGG. The default is the
  /// architecture's own: 0.5 for VGG's original head, else 0. Errors: outside [0, 1).
  void set_dropout(double p);
  double dropout_probability() const { return dropout_; }

 protected:
  Network(const ModelInfo& info, std::vector<std::string> blocks) : info_(info), blocks_(std::move(blocks)) {}

  /// Parts [begin, end) of those before the head.
  virtual Tensor run_body(const Tensor& x, int begin, int end) const = 0;
  /// From last_maps() to the input of the head.
  virtual Tensor pooled_maps(const Tensor& maps) const = 0;

  /// Derived constructors declare their layers in state_dict order, the head last.
  LayerPlace place() { return {parameters_}; }
  int last_block() const { return int(blocks_.size()) - 1; }
  void add_head(const LayerPlace& place, std::int64_t in) {
    head_begin_ = parameters_.parameters().size();
    head_.emplace(place, info_.num_classes, in);
  }

 private:
  ModelInfo info_;
  std::vector<std::string> blocks_;
  ParameterSet parameters_;
  std::optional<Linear> head_;
  std::size_t head_begin_ = 0;  // its weight's index; the bias follows
  double dropout_ = 0;
};

/// The network that `info` describes, allocated in the context. All parameters are trainable; their values are zero and
/// the running statistics 0 and 1 until weights are loaded or drawn.
/// Errors: an unknown architecture, head or stride_on; fewer than one class.
std::unique_ptr<Network> make_network(Context& context, const ModelInfo& info);

}  // namespace graft
