#include <array>

#include "models/constructors.h"

namespace graft {
namespace {

struct Stage {
  int convolutions;
  std::int64_t width;
};
constexpr std::array<Stage, 5> kStages = {{{2, 64}, {2, 128}, {4, 256}, {4, 512}, {4, 512}}};
constexpr std::int64_t kSide = 7, kHidden = 4096;  // the first linear layer sees 7 x 7 pixels

class Vgg19 : public Network {
 public:
  explicit Vgg19(const ModelInfo& info)
      : Network(info, {"conv1_x", "conv2_x", "conv3_x", "conv4_x", "conv5_x", "classifier"}) {
    std::int64_t in = 3;
    int index = 0;  // in torchvision's sequence of convolution, ReLU, ..., pooling
    for (int stage = 0; stage < int(kStages.size()); ++stage) {
      for (int i = 0; i < kStages[stage].convolutions; ++i, index += 2) {
        stages_[std::size_t(stage)].emplace_back(
            place().in_block(stage) / "features" / std::to_string(index),
            Conv2dSpec{.in = in, .out = kStages[stage].width, .window = 3, .padding = 1, .has_bias = true});
        in = kStages[stage].width;
      }
      pool_names_[std::size_t(stage)] = "features." + std::to_string(index++);
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
    for (const Conv2d& convolution : stages_[std::size_t(stage)]) y = convolution(y, Activation::relu);
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

  std::array<std::vector<Conv2d>, kStages.size()> stages_;
  std::array<std::string, kStages.size()> pool_names_;
  std::optional<Linear> fc1_, fc2_;
};

}  // namespace

std::unique_ptr<Network> make_vgg19(const ModelInfo& info) { return std::make_unique<Vgg19>(info); }

}  // namespace graft
