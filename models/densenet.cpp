// A dense block keeps one buffer: every layer reads all channels so far and appends 32. The mean and variance of a
// channel never change once it is written, so each slice's are computed once and shared by all layers that read it.
#include <algorithm>

#include "models/constructors.h"

namespace graft {
namespace {

constexpr std::int64_t kStem = 64, kGrowth = 32, kBottleneck = 128;

/// norm - ReLU - 1x1 - norm - ReLU - 3x3.
class DenseLayer {
 public:
  DenseLayer(const LayerPlace& at, std::int64_t in, double epsilon)
      : norm1(at / "norm1", {.channels = in, .epsilon = epsilon}),
        conv1(at / "conv1", {.in = in, .out = kBottleneck}),
        norm2(at / "norm2", {.channels = kBottleneck, .epsilon = epsilon}),
        conv2(at / "conv2", {.in = kBottleneck, .out = kGrowth, .window = 3, .padding = 1}) {}

  /// x: the buffer's first channels, stats: theirs. Returns the channels to append.
  Tensor operator()(const Tensor& x, const Tensor& stats) const {
    return conv2(norm_conv_norm(norm1, {conv1, norm2}, x, stats));
  }

  BatchNorm2d norm1;
  Conv2d conv1;
  BatchNorm2d norm2;
  Conv2d conv2;
};

/// What leads from one block to the next: norm - ReLU - 1x1 - average.
class Transition {
 public:
  Transition(const LayerPlace& at, std::int64_t in, double epsilon)
      : norm(at / "norm", {.channels = in, .epsilon = epsilon}),
        conv_(at / "conv", {.in = in, .out = in / 2}),
        pool_name_((at / "pool").name) {}

  /// x: behind the norm and its ReLU. The average comes first: it is linear and the same in every channel, and a 1x1
  /// convolution is linear and the same in every pixel, so either order gives the same sums, this one of a quarter of
  /// the pixels.
  Tensor operator()(const Tensor& x) const { return conv_(average(x)); }

  BatchNorm2d norm;

 private:
  Tensor average(const Tensor& x) const {
    const Scope scope(x.context(), pool_name_);
    return avg_pool(x, {.window_h = 2, .window_w = 2, .stride_h = 2, .stride_w = 2});
  }

  Conv2d conv_;
  std::string pool_name_;
};

/// What a block gives: all its channels, before the norm that follows, and their batch statistics if a norm needs them.
struct DenseOutput {
  Tensor channels, statistics;
};

class DenseBlock {
 public:
  DenseBlock(const LayerPlace& at, int layers, std::int64_t in, double epsilon) : name_(at.name), epsilon_(epsilon) {
    for (int i = 0; i < layers; ++i)
      layers_.emplace_back(at / ("denselayer" + std::to_string(i + 1)), in + i * kGrowth, epsilon);
  }

  /// `next`: the norm behind the block, which reads the buffer and its statistics too.
  DenseOutput operator()(const Tensor& x, const BatchNorm2d& next) const {
    Context& context = x.context();
    const std::int64_t in = x.shape().c, all = in + std::int64_t(layers_.size()) * kGrowth;
    Shape shape = x.shape();
    shape.c = all;
    const Tensor buffer =
        channel_buffer(context, shape, layers_[0].conv1.formats(context.backend(), x.shape()).x, x.dtype());

    const bool batch = next.uses_batch_statistics(context) || std::ranges::any_of(layers_, [&](const DenseLayer& l) {
                         return l.norm1.uses_batch_statistics(context);
                       });
    const Tensor stats = batch ? channel_buffer(context, {2, all, 1, 1}, kNhwc, context.dtype()) : Tensor{};
    const auto fill = [&](std::int64_t begin, const Tensor& channels) {
      const Scope scope(context, name_);
      const Tensor slice = append(buffer, begin, channels);
      if (batch) batch_statistics(slice, stats.channels(begin, begin + channels.shape().c), epsilon_);
    };

    fill(0, x);
    std::int64_t filled = in;
    for (const DenseLayer& layer : layers_) {
      fill(filled, layer(buffer.channels(0, filled), batch ? stats.channels(0, filled) : Tensor{}));
      filled += kGrowth;
    }
    return {buffer, stats};
  }

 private:
  std::string name_;
  double epsilon_;
  std::vector<DenseLayer> layers_;
};

class DenseNet : public Network {
 public:
  DenseNet(const Architecture& architecture, const ModelInfo& info)
      : Network(info, {"stem", "denseblock1", "transition1", "denseblock2", "transition2", "denseblock3", "transition3",
                       "denseblock4", "classifier"}),
        conv0_(place() / "features" / "conv0", {.in = 3, .out = kStem, .window = 7, .stride = 2, .padding = 3}),
        norm0_(place() / "features" / "norm0", {.channels = kStem, .epsilon = info.bn_epsilon}) {
    const std::vector<int>& layers = architecture.depths;
    std::int64_t in = kStem;
    int block = 0;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const std::string number = std::to_string(i + 1);
      blocks_.emplace_back(place().in_block(++block) / "features" / ("denseblock" + number), layers[i], in,
                           info.bn_epsilon);
      in += layers[i] * kGrowth;
      if (i + 1 == layers.size()) break;
      transitions_.emplace_back(place().in_block(++block) / "features" / ("transition" + number), in, info.bn_epsilon);
      in /= 2;
    }
    const LayerPlace last = place().in_block(last_block());
    norm5_.emplace(last / "features" / "norm5", BatchNorm2dSpec{.channels = in, .epsilon = info.bn_epsilon});
    add_head(last / "classifier", in);
  }

  Tensor run_body(const Tensor& x, int begin, int end) const override {
    DenseOutput y{x, {}};
    for (int part = begin; part < end; ++part) {
      const std::size_t i = std::size_t(part - 1) / 2;  // of the dense blocks and what follows them
      if (part == 0) {
        y.channels = conv_norm({conv0_, norm0_}, y.channels, Activation::relu);
        const Scope scope(y.channels.context(), "features.pool0");
        y.channels =
            max_pool(y.channels, {.window_h = 3, .window_w = 3, .stride_h = 2, .stride_w = 2, .pad_h = 1, .pad_w = 1});
      } else if (part % 2 == 1) {
        y = blocks_[i](y.channels, norm_after(i));
      } else if (part == last_block()) {
        y = {pooled_maps(activated(y, *norm5_)), {}};
      } else {
        y = {transitions_[i](activated(y, transitions_[i].norm)), {}};
      }
    }
    return y.channels;
  }

  Tensor last_maps(const Tensor& x) const override { return activated({run_body(x, 0, last_block()), {}}, *norm5_); }

  Tensor pooled_maps(const Tensor& maps) const override {
    const Scope scope(maps.context(), "avgpool");
    return adaptive_avg_pool(maps, 1, 1);
  }

 private:
  const BatchNorm2d& norm_after(std::size_t block) const {
    return block < transitions_.size() ? transitions_[block].norm : *norm5_;
  }

  /// relu(norm(x)); a run that starts here has no statistics yet.
  Tensor activated(const DenseOutput& x, const BatchNorm2d& norm) const {
    Context& context = x.channels.context();
    Tensor stats = x.statistics;
    if (!stats && norm.uses_batch_statistics(context))
      stats = batch_statistics(x.channels, empty(context, {2, x.channels.shape().c, 1, 1}), info().bn_epsilon);
    return norm.with_statistics(x.channels, stats, Activation::relu);
  }

  Conv2d conv0_;
  BatchNorm2d norm0_;
  std::vector<DenseBlock> blocks_;
  std::vector<Transition> transitions_;
  std::optional<BatchNorm2d> norm5_;
};

}  // namespace

std::unique_ptr<Network> make_densenet(const Architecture& architecture, const ModelInfo& info) {
  return std::make_unique<DenseNet>(architecture, info);
}

}  // namespace graft
