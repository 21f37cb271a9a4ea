#include "models/constructors.h"

namespace graft {
namespace {

struct BlockSpec {
  std::int64_t in, width, out, stride;
  bool has_bottleneck;  // 1x1 - 3x3 - 1x1, else 3x3 - 3x3
  bool strides_on_1x1;  // v1; else the bottleneck's 3x3 convolution strides (v1.5)
  double epsilon;
};

/// Convolutions with batch norm, added to the input or to its 1 x 1 projection.
class ResidualBlock {
 public:
  ResidualBlock(const LayerPlace& at, const BlockSpec& s) {
    const auto add = [&](const Conv2dSpec& spec) {
      const std::string number = std::to_string(convolutions_.size() + 1);
      convolutions_.emplace_back(at / ("conv" + number), spec);
      norms_.emplace_back(at / ("bn" + number), BatchNorm2dSpec{.channels = spec.out, .epsilon = s.epsilon});
    };
    if (s.has_bottleneck) {
      const std::int64_t first = s.strides_on_1x1 ? s.stride : 1;
      add({.in = s.in, .out = s.width, .stride = first});
      add({.in = s.width, .out = s.width, .window = 3, .stride = s.stride / first, .padding = 1});
      add({.in = s.width, .out = s.out});
    } else {
      add({.in = s.in, .out = s.width, .window = 3, .stride = s.stride, .padding = 1});
      add({.in = s.width, .out = s.out, .window = 3, .padding = 1});
    }
    if (s.stride == 1 && s.in == s.out) return;
    projection_.emplace(at / "downsample" / "0", Conv2dSpec{.in = s.in, .out = s.out, .stride = s.stride});
    projection_norm_.emplace(at / "downsample" / "1", BatchNorm2dSpec{.channels = s.out, .epsilon = s.epsilon});
  }

  Tensor operator()(const Tensor& x) const {
    const std::size_t last = convolutions_.size() - 1;
    Tensor y = x;
    for (std::size_t i = 0; i < last; ++i) y = conv_norm({convolutions_[i], norms_[i]}, y, Activation::relu);
    // On the tape after conv1: backward meets the projection first, which overwrites x's gradient, and conv1 adds to
    // it. A bottleneck's conv1 that does not stride adds by one product of matrices.
    const Tensor identity = projection_ ? conv_norm({*projection_, *projection_norm_}, x) : x;
    return conv_norm({convolutions_[last], norms_[last]}, y, Activation::relu, identity);
  }

 private:
  std::vector<Conv2d> convolutions_;
  std::vector<BatchNorm2d> norms_;
  std::optional<Conv2d> projection_;
  std::optional<BatchNorm2d> projection_norm_;
};

class ResNet : public Network {
 public:
  ResNet(const Architecture& architecture, const ModelInfo& info)
      : Network(info, {"stem", "layer1", "layer2", "layer3", "layer4", "fc"}),
        conv1_(place() / "conv1", {.in = 3, .out = 64, .window = 7, .stride = 2, .padding = 3}),
        bn1_(place() / "bn1", {.channels = 64, .epsilon = info.bn_epsilon}) {
    const std::int64_t expansion = architecture.has_bottlenecks ? 4 : 1;
    std::int64_t in = 64;
    for (int stage = 0; stage < std::ssize(architecture.depths); ++stage) {
      const std::int64_t width = std::int64_t{64} << stage, out = expansion * width;
      const LayerPlace at = place().in_block(stage + 1) / ("layer" + std::to_string(stage + 1));
      std::vector<ResidualBlock>& blocks = stages_.emplace_back();
      for (int i = 0; i < architecture.depths[std::size_t(stage)]; ++i) {
        blocks.emplace_back(at / std::to_string(i), BlockSpec{.in = in,
                                                              .width = width,
                                                              .out = out,
                                                              .stride = i == 0 && stage > 0 ? 2 : 1,
                                                              .has_bottleneck = architecture.has_bottlenecks,
                                                              .strides_on_1x1 = info.stride_on == "1x1",
                                                              .epsilon = info.bn_epsilon});
        in = out;
      }
    }
    add_head(place().in_block(last_block()) / "fc", in);
  }

  Tensor run_body(const Tensor& x, int begin, int end) const override {
    Tensor y = x;
    for (int part = begin; part < end; ++part) {
      if (part == 0) {
        y = conv_norm({conv1_, bn1_}, y, Activation::relu);
        const Scope scope(y.context(), "maxpool");
        y = max_pool(y, {.window_h = 3, .window_w = 3, .stride_h = 2, .stride_w = 2, .pad_h = 1, .pad_w = 1});
      } else if (part == last_block()) {
        y = pooled_maps(y);
      } else {
        for (const ResidualBlock& block : stages_[std::size_t(part - 1)]) y = block(y);
      }
    }
    return y;
  }

  Tensor last_maps(const Tensor& x) const override { return run_body(x, 0, last_block()); }

  Tensor pooled_maps(const Tensor& maps) const override {
    const Scope scope(maps.context(), "avgpool");
    return adaptive_avg_pool(maps, 1, 1);
  }

 private:
  Conv2d conv1_;
  BatchNorm2d bn1_;
  std::vector<std::vector<ResidualBlock>> stages_;
};

}  // namespace

std::unique_ptr<Network> make_resnet(const Architecture& architecture, const ModelInfo& info) {
  return std::make_unique<ResNet>(architecture, info);
}

}  // namespace graft
