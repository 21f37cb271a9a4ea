#include <algorithm>

#include "models/constructors.h"

namespace graft {
namespace {

constexpr std::int64_t kSide = 7, kHidden = 4096;  // the first linear layer sees 7 x 7 pixels

struct Layer {
  Conv2d convolution;
  std::optional<BatchNorm2d> norm;
};

class Vgg : public Network {
 public:
  Vgg(const Architecture& architecture, const ModelInfo& info)
      : Network(info, {"conv1_x", "conv2_x", "conv3_x", "conv4_x", "conv5_x", "classifier"}) {
    std::int64_t in = 3;
    int index = 0;  // in torchvision's sequence of convolution, perhaps batch norm, ReLU, ..., pooling
    for (int stage = 0; stage < std::ssize(architecture.depths); ++stage) {
      const std::int64_t width = std::min<std::int64_t>(512, std::int64_t{64} << stage);
      std::vector<Layer>& layers = stages_.emplace_back();
      const LayerPlace features = place().in_block(stage) / "features";
      for (int i = 0; i < architecture.depths[std::size_t(stage)]; ++i, index += 2) {
        const Conv2dSpec spec{.in = in, .out = width, .window = 3, .padding = 1, .has_bias = true};
        layers.push_back({Conv2d(features / std::to_string(index), spec), std::nullopt});
        if (architecture.has_norms)
          layers.back().norm.emplace(features / std::to_string(++index),
                                     BatchNorm2dSpec{.channels = width, .epsilon = info.bn_epsilon});
        in = width;
      }
      pool_names_.push_back("features." + std::to_string(index++));
    }
    const LayerPlace classifier = place().in_block(last_block()) / "classifier";
    if (info.head == "gap") {
      add_head(classifier, in);
      return;
    }
    fc1_.emplace(classifier / "0", kHidden, Shape{1, in, kSide, kSide});
    fc2_.emplace(classifier / "3", kHidden, kHidden);
    add_head(classifier / "6", kHidden);
    set_dropout(0.5);
  }

  Tensor run_body(const Tensor& x, int begin, int end) const override {
    Tensor y = x;
    for (int part = begin; part < end; ++part) y = part == last_block() ? to_head(y) : halved(convolved(y, part), part);
    return y;
  }

  Tensor last_maps(const Tensor& x) const override {
    const int last = last_block() - 1;
    return convolved(run_body(x, 0, last), last);
  }

  Tensor pooled_maps(const Tensor& maps) const override { return to_head(halved(maps, last_block() - 1)); }

 private:
  Tensor convolved(const Tensor& x, int stage) const {
    Tensor y = x;
    for (const Layer& layer : stages_[std::size_t(stage)])
      y = layer.norm ? conv_norm({layer.convolution, *layer.norm}, y, Activation::relu)
                     : layer.convolution(y, Activation::relu);
    return y;
  }

  Tensor halved(const Tensor& x, int stage) const {
    const Scope scope(x.context(), pool_names_[std::size_t(stage)]);
    return max_pool(x, {.window_h = 2, .window_w = 2, .stride_h = 2, .stride_w = 2});
  }

  /// The last pooling's output -> the input of the last linear layer.
  Tensor to_head(const Tensor& x) const {
    if (!fc1_) return pooled(x, 1);
    Tensor y = x.shape().h == kSide && x.shape().w == kSide ? x : pooled(x, kSide);
    y = dropped((*fc1_)(y, Activation::relu));
    return (*fc2_)(y, Activation::relu);
  }

  static Tensor pooled(const Tensor& x, std::int64_t side) {
    const Scope scope(x.context(), "avgpool");
    return adaptive_avg_pool(x, side, side);
  }
  Tensor dropped(const Tensor& x) const {
    const Scope scope(x.context(), "classifier.2");
    return dropout(x, dropout_probability());
  }

  std::vector<std::vector<Layer>> stages_;
  std::vector<std::string> pool_names_;
  std::optional<Linear> fc1_, fc2_;
};

}  // namespace

std::unique_ptr<Network> make_vgg(const Architecture& architecture, const ModelInfo& info) {
  return std::make_unique<Vgg>(architecture, info);
}

}  // namespace graft
