#include <array>

#include "models/constructors.h"

namespace graft {
namespace {

struct Stage {
  int blocks;
  std::int64_t width;   // channels inside a block; it gives out four times as many
  std::int64_t stride;  // of the first block
};
constexpr std::array<Stage, 4> kStages = {{{3, 64, 1}, {4, 128, 2}, {6, 256, 2}, {3, 512, 2}}};
constexpr std::int64_t kExpansion = 4;

struct BottleneckSpec {
  std::int64_t in, width, stride;
  bool strides_on_1x1;  // v1; else the 3 x 3 convolution strides (v1.5)
  double epsilon;
};

/// 1x1 - 3x3 - 1x1 with batch norm, added to the input or to its 1 x 1 projection.
class Bottleneck {
 public:
  Bottleneck(const LayerPlace& at, const BottleneckSpec& s)
      : conv1_(at / "conv1", {.in = s.in, .out = s.width, .stride = s.strides_on_1x1 ? s.stride : 1}),
        bn1_(at / "bn1", {.channels = s.width, .epsilon = s.epsilon}),
        conv2_(at / "conv2",
               {.in = s.width, .out = s.width, .window = 3, .stride = s.strides_on_1x1 ? 1 : s.stride, .padding = 1}),
        bn2_(at / "bn2", {.channels = s.width, .epsilon = s.epsilon}),
        conv3_(at / "conv3", {.in = s.width, .out = kExpansion * s.width}),
        bn3_(at / "bn3", {.channels = kExpansion * s.width, .epsilon = s.epsilon}) {
    if (s.stride == 1 && s.in == kExpansion * s.width) return;
    projection_.emplace(at / "downsample" / "0",
                        Conv2dSpec{.in = s.in, .out = kExpansion * s.width, .stride = s.stride});
    projection_bn_.emplace(at / "downsample" / "1",
                           BatchNorm2dSpec{.channels = kExpansion * s.width, .epsilon = s.epsilon});
  }

  Tensor operator()(const Tensor& x) const {
    Tensor y = conv_norm({conv1_, bn1_}, x, Activation::relu);
    y = conv_norm({conv2_, bn2_}, y, Activation::relu);
    // On the tape after conv1: backward meets the projection first, which overwrites x's gradient, and conv1 adds to it
    // by one product of matrices where it does not stride.
    const Tensor identity = projection_ ? conv_norm({*projection_, *projection_bn_}, x) : x;
    return conv_norm({conv3_, bn3_}, y, Activation::relu, identity);
  }

 private:
  Conv2d conv1_;
  BatchNorm2d bn1_;
  Conv2d conv2_;
  BatchNorm2d bn2_;
  Conv2d conv3_;
  BatchNorm2d bn3_;
  std::optional<Conv2d> projection_;
  std::optional<BatchNorm2d> projection_bn_;
};

class ResNet50 : public Network {
 public:
  explicit ResNet50(const ModelInfo& info)
      : Network(info, {"stem", "layer1", "layer2", "layer3", "layer4", "fc"}),
        conv1_(place() / "conv1", {.in = 3, .out = 64, .window = 7, .stride = 2, .padding = 3}),
        bn1_(place() / "bn1", {.channels = 64, .epsilon = info.bn_epsilon}) {
    std::int64_t in = 64;
    for (int stage = 0; stage < int(kStages.size()); ++stage) {
      const Stage& s = kStages[stage];
      const LayerPlace at = place().in_block(stage + 1) / ("layer" + std::to_string(stage + 1));
      for (int i = 0; i < s.blocks; ++i) {
        layers_[std::size_t(stage)].emplace_back(at / std::to_string(i),
                                                 BottleneckSpec{.in = in,
                                                                .width = s.width,
                                                                .stride = i == 0 ? s.stride : 1,
                                                                .strides_on_1x1 = info.stride_on == "1x1",
                                                                .epsilon = info.bn_epsilon});
        in = kExpansion * s.width;
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
        for (const Bottleneck& block : layers_[std::size_t(part - 1)]) y = block(y);
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
  std::array<std::vector<Bottleneck>, kStages.size()> layers_;
};

}  // namespace

std::unique_ptr<Network> make_resnet50(const ModelInfo& info) { return std::make_unique<ResNet50>(info); }

}  // namespace graft
