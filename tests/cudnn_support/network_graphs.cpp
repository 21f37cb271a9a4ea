#include "tests/cudnn_support/network_graphs.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kernels/dry_backend.h"
#include "models/network.h"
#include "nn/losses.h"

namespace graft {
namespace {

/// Notes the graph of every call, and of the fusions that its neighbours on the tape would allow.
class GraphRecorder final : public DryBackend {
 public:
  using Graphs = std::map<std::pair<GraphSpec, bool>, NetworkGraph>;  // bool: is_used

  GraphRecorder(const GraphsRequest& request, Graphs& graphs)
      : DryBackend({DeviceKind::cuda}, {}), request_(request), graphs_(graphs) {}

  /// Addresses are never handed out again, so that each stands for one tensor.
  void* allocate(std::int64_t bytes) override {
    constexpr std::int64_t kAlignment = 256;
    void* block = reinterpret_cast<void*>(next_);  // NOLINT: never followed
    next_ += std::uintptr_t((bytes + kAlignment) / kAlignment * kAlignment);
    return block;
  }
  void release(void*) noexcept override {}

  void set_training(bool on) { is_training_ = on; }

  void push_range(std::string_view name) override { ranges_.emplace_back(name); }
  void pop_range() override { ranges_.pop_back(); }

  void conv(const ConvSpec& spec, View y, ConstView x, WeightView, const ConvEpilogue& epilogue) override {
    GraphSpec graph = of_conv(GraphKind::conv, spec);
    graph.has_bias = epilogue.bias.data != nullptr;
    graph.has_residual = epilogue.residual.data != nullptr;
    graph.has_relu = epilogue.relu;
    note(graph);
    if (graph.has_relu) {  // where the device's fused ReLU would hide a NaN
      graph.has_relu = false;
      note(graph);
    }
    made_by_conv_[y.data] = spec;
    reads_normalized_[y.data] = normalized_.contains(x.data);
  }
  void conv_data_grad(const ConvSpec& spec, View dx, Write write, ConstView dy, WeightView) override {
    if (spec.is_pointwise() && write == Write::add) return;  // a product: cuBLAS's
    note(of_conv(GraphKind::data_grad, spec));
    if (copied_from_slice_.contains(dy.data))
      note_fusion(sliced(of_conv(GraphKind::data_grad, spec), copied_from_slice_[dy.data]));
    made_by_data_grad_[dx.data] = spec;
  }
  void conv_weight_grad(const ConvSpec& spec, View, Write, ConstView dy, ConstView) override {
    if (spec.is_pointwise() && request_.dtype != DType::f32) return;
    note(of_conv(GraphKind::weight_grad, spec));
    if (copied_from_slice_.contains(dy.data))
      note_fusion(sliced(of_conv(GraphKind::weight_grad, spec), copied_from_slice_[dy.data]));
  }

  void copy(View y, Write, ConstView x) override {
    if (!y.is_dense() && made_by_conv_.contains(x.data))
      note_fusion(sliced(of_conv(GraphKind::conv, made_by_conv_[x.data]), y.pitch));
    if (!x.is_dense()) copied_from_slice_[y.data] = x.pitch;
  }

  void batch_statistics(View stats, ConstView x) override {
    has_own_statistics_.insert({stats.data, x.data});
    if (!made_by_conv_.contains(x.data)) return;
    const ConvSpec& spec = made_by_conv_[x.data];
    note_fusion(of_conv(GraphKind::conv_statistics, spec));
    if (reads_normalized_[x.data]) note_fusion(of_conv(GraphKind::norm_conv_statistics, spec));
  }
  void batch_statistics_and_running(View stats, View, double, ConstView x) override { batch_statistics(stats, x); }
  void normalize(View y, ConstView x, const NormalizeArgs& args, ConstView residual) override {
    if (has_own_statistics_.contains({args.stats.data, x.data})) {
      GraphSpec graph = of_norm(GraphKind::norm, x);
      graph.has_residual = residual.data != nullptr;
      graph.has_relu = args.relu;
      note_fusion(graph);
      if (args.relu && !residual.data) normalized_.insert(y.data);
    }
  }
  void normalize_grad(View, Write, View dresidual, Write, ConstView dy, ConstView, ConstView x,
                      const NormalizeArgs& args, ConstView sums) override {
    if (!sums.data) return;
    GraphSpec graph = of_norm(GraphKind::norm_grad, x);
    graph.has_residual = dresidual.data != nullptr;
    graph.has_relu = args.relu;
    note_fusion(graph);
    if (args.relu && !dresidual.data && made_by_data_grad_.contains(dy.data))
      note_fusion(of_conv(GraphKind::data_grad_norm_sums, made_by_data_grad_[dy.data]));
  }

 private:
  GraphSpec of_conv(GraphKind kind, const ConvSpec& spec) const {
    return conv_graph(kind, spec, request_.dtype, request_.allows_tf32);
  }
  GraphSpec of_norm(GraphKind kind, const ConstView& x) const {
    GraphSpec graph = conv_graph(kind, {.x = x.shape}, request_.dtype, request_.allows_tf32);
    if (!x.is_dense()) graph.x_pitch = x.pitch;
    return graph;
  }
  static GraphSpec sliced(GraphSpec graph, std::int64_t pitch) {
    graph.y_pitch = pitch;
    return graph;
  }

  void note(const GraphSpec& spec) { add(spec, true); }
  void note_fusion(const GraphSpec& spec) { add(spec, false); }
  void add(const GraphSpec& spec, bool is_used) {
    NetworkGraph& graph = graphs_[{spec, is_used}];
    graph.spec = spec;
    graph.is_used = is_used;
    (is_training_ ? graph.is_training : graph.is_inference) = true;
    if (graph.layer.empty() && !ranges_.empty()) graph.layer = ranges_.back();
    ++graph.layers;
  }

  const GraphsRequest& request_;
  Graphs& graphs_;
  std::uintptr_t next_ = std::uintptr_t{1} << 44;
  bool is_training_ = true;
  std::vector<std::string> ranges_;
  // By address. A gradient may take over another's memory: the last writer counts.
  std::map<const void*, ConvSpec> made_by_conv_, made_by_data_grad_;
  std::map<const void*, bool> reads_normalized_;
  std::map<const void*, std::int64_t> copied_from_slice_;  // the slice's pitch
  std::set<const void*> normalized_;                       // by batch norm with ReLU alone
  std::set<std::pair<const void*, const void*>> has_own_statistics_;
};

}  // namespace

bool may_be_refused(const GraphSpec& graph) {
  return graph.dtype == DType::f32 && !graph.allows_tf32 && graph.has_residual;
}

int engine_of(const GraphSupport& support) {
  const std::string_view plan = support.plan;
  const std::size_t digits = plan.find_first_of("0123456789");
  int engine = -1;
  if (digits != plan.npos) std::from_chars(plan.data() + digits, plan.data() + plan.size(), engine);
  return engine;
}

std::string engines_text(const std::set<int>& engines) {
  return fmt::format("engine{} {}", engines.size() == 1 ? "" : "s", fmt::join(engines, ", "));
}

std::vector<NetworkGraph> network_graphs(const GraphsRequest& request) {
  GraphRecorder::Graphs graphs;
  auto backend = std::make_unique<GraphRecorder>(request, graphs);
  GraphRecorder& recorder = *backend;
  Context context(std::move(backend));
  const auto network = make_network(context, {.architecture = request.architecture, .num_classes = 10});
  const Tensor x = empty(context, {request.batch, 3, request.size, request.size});
  const TaskLoss loss(context, {.num_classes = 10});
  const Tensor labels = labels_to_device(context, std::vector<std::int32_t>(std::size_t(request.batch), 0), 10);
  context.tape().backward(loss(network->forward(x), labels).loss);

  recorder.set_training(false);
  context.set_training(false);
  const Inference inference(context);
  network->forward(x);

  std::vector<NetworkGraph> list;
  for (auto& [key, graph] : graphs) list.push_back(std::move(graph));
  return list;
}

}  // namespace graft
