// The layers that own parameters. A layer declares them in a ParameterSet when it is constructed, under torchvision's
// names, and is then a function of tensors; it holds no values itself. Operations without parameters (pooling, dropout,
// adding) are called from tensor/ops.h directly.
#pragma once

#include <string>
#include <string_view>

#include "tensor/ops.h"

namespace graft {

/// Where layers under construction declare what they need: a dotted name and a block of the network.
struct LayerPlace {
  ParameterSet& parameters;
  std::string name = {};  // "layer1.0.conv1"; empty at the root
  int block = 0;

  LayerPlace operator/(std::string_view child) const {
    return {parameters, name.empty() ? std::string(child) : name + "." + std::string(child), block};
  }
  LayerPlace in_block(int index) const { return {parameters, name, index}; }
};

struct Conv2dSpec {
  std::int64_t in = 1, out = 1, window = 1, stride = 1, padding = 0;
  bool has_bias = false;
};

struct ConvNorm;
class BatchNorm2d;

/// Square convolution: `weight` [out,in,window,window] and perhaps `bias` [out].
class Conv2d {
 public:
  Conv2d(const LayerPlace& place, const Conv2dSpec& spec);

  /// [N,in,H,W] -> [N,out,OH,OW], then the activation.
  Tensor operator()(const Tensor& x, Activation activation = Activation::none) const;
  /// The formats in which the device wants input and output for inputs of this shape.
  ConvFormats formats(Backend& backend, const Shape& x) const;

 private:
  friend Tensor conv_norm(const ConvNorm&, const Tensor&, Activation, const Tensor&);
  friend Tensor norm_conv_norm(const BatchNorm2d&, const ConvNorm&, const Tensor&, const Tensor&);
  std::string name_;
  ConvGeometry geometry_;
  const Parameter* weight_;
  const Parameter* bias_ = nullptr;
  mutable FoldedNorm folded_;  // with the norm behind it, for prediction
};

/// A convolution and the norm behind it.
struct ConvNorm {
  const Conv2d& convolution;
  const BatchNorm2d& norm;
};

/// activation(norm(convolution(x)) [+ residual]): in prediction (Inference) one convolution, where the device folds
/// norms.
Tensor conv_norm(const ConvNorm& layers, const Tensor& x, Activation activation = Activation::none,
                 const Tensor& residual = {});

/// conv_norm of relu(before(x)), with a ReLU: DenseNet's order. `stats` are x's, as in BatchNorm2d::with_statistics.
/// One operation for the first norm and the convolution, where the device has one.
Tensor norm_conv_norm(const BatchNorm2d& before, const ConvNorm& layers, const Tensor& x, const Tensor& stats);

struct BatchNorm2dSpec {
  std::int64_t channels = 1;
  double epsilon = 1e-5;
  double momentum = 0.1;
};

/// `weight`, `bias`, `running_mean` and `running_var`, all [channels].
class BatchNorm2d {
 public:
  BatchNorm2d(const LayerPlace& place, const BatchNorm2dSpec& spec);

  /// activation(norm(x) [+ residual]).
  Tensor operator()(const Tensor& x, Activation activation = Activation::none, const Tensor& residual = {}) const;
  /// The same with statistics [2,channels] that other norms share; see normalize in tensor/ops.h.
  Tensor with_statistics(const Tensor& x, const Tensor& stats, Activation activation) const;
  /// Whether the next call in this context normalises by the batch rather than by the running statistics.
  bool uses_batch_statistics(const Context& context) const;

 private:
  friend Tensor conv_norm(const ConvNorm&, const Tensor&, Activation, const Tensor&);
  friend Tensor norm_conv_norm(const BatchNorm2d&, const ConvNorm&, const Tensor&, const Tensor&);
  BatchNormArgs args(Activation activation) const;
  BatchNorm2dSpec spec_;
  const Parameter* gamma_;
  const Parameter* beta_;
  const RunningStatistics* running_;
};

/// `weight` [out,in] and `bias` [out]. The input is flattened in the file's order C,H,W: its shape per image is given,
/// {1, C, H, W} with in = C*H*W.
class Linear {
 public:
  Linear(const LayerPlace& place, std::int64_t out, const Shape& in);
  Linear(const LayerPlace& place, std::int64_t out, std::int64_t in) : Linear(place, out, Shape{1, in, 1, 1}) {}

  /// [N,C,H,W] -> [N,out,1,1], then the activation.
  Tensor operator()(const Tensor& x, Activation activation = Activation::none) const;

 private:
  std::string name_;
  const Parameter* weight_;
  const Parameter* bias_;
};

}  // namespace graft
