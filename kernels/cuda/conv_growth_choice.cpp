// Whether DenseNet's 3x3 convolutions and their gradients are computed by conv_growth.cu or by cuDNN: by what is faster
// on the first call's operands, once both have given the same result.
#include <limits>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/trial_cuda.h"
#include "kernels/scratch.h"

namespace graft {
namespace {

const std::array<std::string, 2> kGrowthWays = {"cudnn", "own"};

/// Of two ways to compute a tensor like `like`.
class WaysTrial final : public PlanTrial {
 public:
  using Way = std::function<void(const View& to, Write write)>;
  /// `computed_in`: the type that results pass through, in which they may overflow.
  WaysTrial(const PlanDevice& device, const View& like, DType computed_in, const std::array<const Way*, 2>& ways)
      : device_(device), like_(like), computed_in_(computed_in), ways_(ways) {}

  double time(std::size_t way) override {
    const ScratchView to(device_.backend, like_.dtype, like_.shape);
    run(way, to);  // cuDNN's plan is chosen now
    return GpuStopwatch(device_.stream).seconds([&] { run(way, to); });
  }

  double difference(std::size_t a, std::size_t b) override {
    const ScratchView first(device_.backend, like_.dtype, like_.shape),
        second(device_.backend, like_.dtype, like_.shape);
    run(a, first);
    run(b, second);
    const LargestDifference found = largest_difference(device_, first.view().data, second.view().data,
                                                       like_.shape.size(), like_.dtype, computed_in_);
    compared_nothing_ = found.compared_nothing;
    return found.share;
  }
  bool compared_nothing() const override { return compared_nothing_; }

 private:
  void run(std::size_t way, const ScratchView& to) { (*ways_[way])(to, Write::overwrite); }

  const PlanDevice& device_;
  const View& like_;
  const DType computed_in_;
  const std::array<const Way*, 2> ways_;
  bool compared_nothing_ = false;  // the last time
};

}  // namespace

bool CudaBackend::prefers_growth(const GraphSpec& graph, View to, const ConvWay& by_cudnn, const ConvWay& by_growth) {
  if (plan_options_.growth != OwnKernels::timed) return plan_options_.growth == OwnKernels::always;
  if (const auto it = growth_.find(graph); it != growth_.end()) return it->second;
  // The number tells apart what the kernels were when they were timed: raise it when they change.
  const std::string name = to_string(graph) + " growth 1" + (plan_options_.deterministic ? "" : " any-order");
  WaysTrial trial(conv_plans().device(), to, graph.dtype, {&by_cudnn, &by_growth});
  const auto way = conv_plans().choose_way(name, kGrowthWays, plan_tolerance(graph.dtype, false), trial);
  if (!way) return false;  // nothing is chosen inside a capture, or by zeros: ask again
  return growth_[graph] = *way == kGrowthWays[1];
}

}  // namespace graft
