// Whether a norm and the pointwise convolution behind it are one kernel each way, or cuDNN's and ours in turn: what is
// faster on the first call's x and w, once both have given the same results.
#include <cmath>
#include <limits>
#include <optional>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/trial_cuda.h"
#include "kernels/scratch.h"

namespace graft {
namespace {

constexpr std::size_t kParts = 0, kFused = 1;
const std::array<std::string, 2> kWays = {"parts", "fused"};

struct Layer {
  const ConvSpec& spec;
  const ConstView& x;
  const NormalizeArgs& norm;
  const WeightView& w;
  NormConvUse use;

  DType type() const { return x.dtype; }
  bool trains() const { return use == NormConvUse::training; }
};

/// What a layer gives, forward and backward.
struct Results {
  Results(Backend& device, const Layer& layer) : y(device, layer.type(), layer.spec.y()) {
    if (!layer.trains()) return;
    y_stats.emplace(device, DType::f32, Shape{2, layer.spec.k, 1, 1});
    dw.emplace(device, DType::f32, Shape{layer.spec.k, layer.spec.x.c, 1, 1});
    dx.emplace(device, layer.type(), layer.spec.x);
    sums.emplace(device, DType::f32, Shape{2, layer.spec.x.c, 1, 1});
  }
  ScratchView y;
  std::optional<ScratchView> y_stats, dw, dx, sums;  // of training
};

class FusionTrial final : public PlanTrial {
 public:
  FusionTrial(const PlanDevice& device, CudaBackend& backend, const Layer& layer)
      : device_(device), backend_(backend), layer_(layer), bias_(backend, DType::f32, {1, layer.spec.k, 1, 1}) {
    backend.zero(bias_.view().data, layer.spec.k * size_of(DType::f32));
  }

  double time(std::size_t way) override {
    const Results to(backend_, layer_);
    run(way, to);                   // cuDNN's plans are chosen now
    constexpr double kLong = 2e-3;  // so many calls take the host a while
    return GpuStopwatch(device_.stream).seconds([&] { run(way, to); }, kLong);
  }

  double difference(std::size_t a, std::size_t b) override {
    const Results first(backend_, layer_), second(backend_, layer_);
    run(a, first);
    run(b, second);
    double largest = 0;
    compared_nothing_ = false;
    const auto compare = [&](const ScratchView& x, const ScratchView& y) {
      const View& v = x.view();
      const LargestDifference found = largest_difference(device_, v.data, y.view().data, v.shape.size(), v.dtype);
      compared_nothing_ |= found.compared_nothing;
      largest = std::isnan(largest) || found.share <= largest ? largest : found.share;  // a NaN stays
    };
    compare(first.y, second.y);
    if (!layer_.trains()) return largest;
    compare(*first.y_stats, *second.y_stats);
    compare(*first.dw, *second.dw);
    compare(*first.dx, *second.dx);
    compare(*first.sums, *second.sums);
    return largest;
  }
  bool compared_nothing() const override { return compared_nothing_; }

 private:
  void run(std::size_t way, const Results& to) {
    if (way == kParts) return run_parts(to);
    const bool predicts = layer_.use == NormConvUse::prediction;
    backend_.norm_conv(layer_.spec, to.y.view(),
                       {.bias = predicts ? bias_.view() : View{},
                        .relu = predicts,
                        .stats = layer_.trains() ? to.y_stats->view() : View{}},
                       layer_.x, layer_.norm, layer_.w);
    if (!layer_.trains()) return;
    const ConstView dy = to.y.view();  // as good as any
    backend_.norm_conv_weight_grad(layer_.spec, to.dw->view(), Write::overwrite, dy, layer_.x, layer_.norm);
    backend_.norm_conv_data_grad(layer_.spec, to.dx->view(), Write::overwrite, to.sums->view(), {}, dy, layer_.x,
                                 layer_.norm, layer_.w);
  }

  /// As the operations do it one by one, which keep what the norm gave.
  void run_parts(const Results& to) {
    const ConvSpec& spec = layer_.spec;
    const ScratchView between(backend_, layer_.type(), spec.x), mask(backend_, DType::u8, relu_mask_shape(spec.x));
    const bool predicts = layer_.use == NormConvUse::prediction;
    NormalizeArgs norm = layer_.norm;
    if (layer_.trains()) norm.relu_mask = mask.view();
    backend_.normalize(between.view(), layer_.x, norm, {});
    backend_.conv(spec, to.y.view(), between.view(), layer_.w,
                  {.bias = predicts ? bias_.view() : View{}, .relu = predicts});
    if (!layer_.trains()) return;
    backend_.batch_statistics(to.y_stats->view(), to.y.view());
    const ConstView dy = to.y.view();
    const ScratchView gradient(backend_, layer_.type(), spec.x);
    backend_.conv_weight_grad(spec, to.dw->view(), Write::overwrite, dy, between.view());
    backend_.conv_data_grad(spec, gradient.view(), Write::overwrite, dy, layer_.w);
    backend_.normalize_parameter_grads(to.sums->view(), {}, gradient.view(), {}, layer_.x, norm);
    backend_.normalize_grad(to.dx->view(), Write::overwrite, {}, Write::overwrite, gradient.view(), {}, layer_.x, norm,
                            {});
  }

  const PlanDevice& device_;
  CudaBackend& backend_;
  const Layer& layer_;
  ScratchView bias_;
  bool compared_nothing_ = false;  // the last time, in any of a layer's results
};

const char* to_string(NormConvUse use) {
  return use == NormConvUse::training ? "" : use == NormConvUse::forward ? " forward" : " prediction";
}

}  // namespace

bool CudaBackend::fuses_norm_conv(const ConvSpec& spec, ConstView x, const NormalizeArgs& args, const WeightView& w,
                                  NormConvUse use) {
  if (plan_options_.norm_fusion == OwnKernels::never || !gpu::can_norm_conv(spec, {x, w.value})) return false;
  if (plan_options_.norm_fusion == OwnKernels::always) return true;
  // Of one image, however many there are: the last batch of an epoch is smaller, and validation's another.
  ConvSpec of_image = spec;
  of_image.x.n = 1;
  const auto chosen = [&](NormConvUse u) -> std::optional<bool> {
    const auto it = fuses_.find({of_image, u});
    return it == fuses_.end() ? std::nullopt : std::optional(it->second);
  };
  // The number tells apart what the kernels were when they were timed: raise it when they change.
  const auto name = [&](NormConvUse u) {
    return "norm+" + graft::to_string(conv_graph(GraphKind::conv, of_image, x.dtype)) + to_string(u) + " kernels 3" +
           (plan_options_.deterministic ? "" : " any-order");
  };
  if (use == NormConvUse::forward) {  // as training does it
    if (const auto known = chosen(NormConvUse::training)) return *known;
    if (const auto known = conv_plans().known_way(name(NormConvUse::training), kWays)) return *known == kWays[kFused];
  }
  if (const auto known = chosen(use)) return *known;
  const Layer layer{spec, x, args, w, use};
  FusionTrial trial(conv_plans().device(), *this, layer);
  const auto way = conv_plans().choose_way(name(use), kWays, plan_tolerance(x.dtype, false), trial);
  if (!way) return false;  // nothing is chosen inside a capture, or by zeros: ask again
  return fuses_[{of_image, use}] = *way == kWays[kFused];
}

}  // namespace graft
