// Convolutions as graphs: which one computes a call, what x and w must look like for it, and what it leaves to passes
// of our own. Plans are chosen and run in conv_plans.cpp; tests run the graphs without cuDNN.
#include <map>
#include <memory>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/scratch.h"

namespace graft {
namespace {

using Memory = std::unique_ptr<Scratch>;

/// What a graph reads in the place of a convolution's x and w: the same, or copies with the graph's channels. Pointers
/// are valid as long as this lives.
class GraphOperands {
 public:
  GraphOperands(Backend& backend, const GraphSpec& graph, const ConvSpec& conv, cudaStream_t stream)
      : backend_(backend),
        graph_(graph),
        conv_(conv),
        unfolding_(unfolding(graph.kind, conv, graph.dtype)),
        stream_(stream) {}

  const void* x(const ConstView& x) {
    if (!are_copies()) return x.data;
    x_ = memory(graph_.conv.x.size());
    if (unfolding_)
      gpu::unfold(x_->as<void>(), x, conv_, *unfolding_, stream_);
    else
      pad(*x_, x);
    return x_->as<void>();
  }

  /// A copy that does not change soon is kept with its parameter, for each kind of graph.
  const void* w(const WeightView& w) {
    if (!are_copies()) return w.value.data;
    if (!w.packed) return (w_ = weight(w.value))->as<void>();
    struct Kept {
      std::uint64_t version;
      std::map<GraphKind, Memory> copies;
    };
    const auto* last = static_cast<const Kept*>(w.packed->get());
    if (!last || last->version != w.version) *w.packed = std::make_shared<Kept>(Kept{w.version, {}});
    Memory& copy = static_cast<Kept*>(w.packed->get())->copies[graph_.kind];
    if (!copy) copy = weight(w.value);
    return copy->as<void>();
  }

 private:
  bool are_copies() const { return graph_.conv.x.c != conv_.x.c; }

  Memory memory(std::int64_t size) { return std::make_unique<Scratch>(backend_, size * size_of(graph_.dtype)); }

  Memory weight(const ConstView& w) {
    Memory copy = memory(graph_.conv.weight_size());
    if (unfolding_)
      gpu::unfold_weight(copy->as<void>(), w, conv_, *unfolding_, stream_);
    else
      pad(*copy, w);
    return copy;
  }

  /// More channels, of zeros.
  void pad(const Scratch& to, const ConstView& from) {
    const std::int64_t channels = graph_.conv.x.c;
    backend_.zero(to.as<void>(), from.shape.size() / from.shape.c * channels * size_of(from.dtype));
    backend_.copy({to.as<void>(), from.dtype, kNhwc, from.shape, channels}, Write::overwrite, from);
  }

  Backend& backend_;
  const GraphSpec& graph_;
  const ConvSpec& conv_;
  const std::optional<Unfolding> unfolding_;
  cudaStream_t stream_;
  Memory x_, w_;
};

}  // namespace

GraphSpec CudaBackend::graph_of(GraphKind kind, const ConvSpec& spec, DType dtype) const {
  return conv_graph(kind, spec, dtype, precision_ == Precision::tf32);
}

bool CudaBackend::run_growth(GraphKind kind, const ConvSpec& spec, View to, Write write, ConstView a, ConstView b) {
  const bool is_weight = kind == GraphKind::weight_grad;
  const bool can = is_weight ? gpu::can_conv_growth_weight_grad(spec, {a, b, to})
                             : write == Write::overwrite && gpu::can_conv_growth(spec, {a, b, to});
  if (!can) return false;  // what can be has channels enough: its graph takes no copies of x or w
  const GraphSpec graph = graph_of(kind, spec, a.dtype);
  const ConvWay by_cudnn = [&](const View& result, Write how) {
    if (kind == GraphKind::conv)
      conv_plans().run(graph, {.x = a.data, .y = result.data, .w = b.data});
    else
      run_conv_into(graph, spec, result, how, {.x = is_weight ? b.data : nullptr, .y = a.data, .w = b.data});
  };
  const ConvWay by_growth = [&](const View& result, Write how) {
    if (kind == GraphKind::conv) return gpu::conv_growth(result, a, b, stream());
    if (kind == GraphKind::data_grad) return gpu::conv_growth_data_grad(result, a, b, stream());
    const Scratch scratch(*this, gpu::conv_growth_weight_grad_scratch_bytes(spec.x));
    gpu::conv_growth_weight_grad(result, how, a, b, scratch.as<float>(), stream());
  };
  if (!prefers_growth(graph, to, by_cudnn, by_growth)) return false;
  by_growth(to, write);
  return true;
}

// The whole epilogue in one graph where cuDNN can; else what is missing follows in passes of our own.
void CudaBackend::conv(const ConvSpec& spec, View y, ConstView x, WeightView w, const ConvEpilogue& epilogue) {
  const bool has_epilogue = epilogue.bias.data || epilogue.residual.data || epilogue.relu;
  if (!has_epilogue && run_growth(GraphKind::conv, spec, y, Write::overwrite, x, w.value)) return;
  GraphSpec graph = graph_of(GraphKind::conv, spec, x.dtype);
  const GraphSpec plain = graph;
  GraphOperands operands(*this, plain, spec, stream());
  const GraphPointers pointers{.x = operands.x(x),
                               .y = y.data,
                               .w = operands.w(w),
                               .bias = epilogue.bias.data,
                               .residual = epilogue.residual.data};
  graph.has_bias = epilogue.bias.data != nullptr;
  graph.has_residual = epilogue.residual.data != nullptr;
  graph.has_relu = epilogue.relu;
  if (conv_plans().try_run(graph, pointers)) return;
  graph.has_relu = false;
  if (!epilogue.relu || !conv_plans().try_run(graph, pointers)) {
    conv_plans().run(plain, pointers);
    if (epilogue.bias.data) gpu::add_bias(y, epilogue.bias, stream());
    if (epilogue.residual.data) copy(y, Write::add, epilogue.residual);
  }
  if (epilogue.relu) map(Relu{}, y, Write::overwrite, {y});
}

// cuDNN overwrites, in the type of its inputs and with the graph's channels; anything else takes a copy beside the
// destination and one pass more.
void CudaBackend::run_conv_into(const GraphSpec& graph, const ConvSpec& spec, View to, Write write,
                                GraphPointers pointers) {
  const bool is_weight = graph.kind == GraphKind::weight_grad;
  const void*& result = is_weight ? pointers.w : pointers.x;
  const std::int64_t size = is_weight ? graph.conv.weight_size() : graph.conv.x.size();
  if (write == Write::overwrite && to.dtype == graph.dtype && to.shape.size() == size) {
    result = to.data;
    return conv_plans().run(graph, pointers);
  }
  const Scratch beside(*this, size * size_of(graph.dtype));
  result = beside.as<void>();
  conv_plans().run(graph, pointers);
  if (const std::optional<Unfolding> unfolded = unfolding(graph.kind, spec, graph.dtype))
    return gpu::fold_weight_grad(to, write, result, graph.dtype, spec, *unfolded, stream());
  copy(to, write, ConstView{result, graph.dtype, kNhwc, to.shape, graph.conv.x.c});
}

void CudaBackend::conv_data_grad(const ConvSpec& spec, View dx, Write write, ConstView dy, WeightView w) {
  if (write == Write::add && add_pointwise_data_grad(spec, dx, dy, w)) return;
  if (run_growth(GraphKind::data_grad, spec, dx, write, dy, w.value)) return;
  const GraphSpec graph = graph_of(GraphKind::data_grad, spec, dy.dtype);
  GraphOperands operands(*this, graph, spec, stream());
  run_conv_into(graph, spec, dx, write, {.y = dy.data, .w = operands.w(w)});
}

void CudaBackend::conv_weight_grad(const ConvSpec& spec, View dw, Write write, ConstView dy, ConstView x) {
  if (pointwise_weight_grad(spec, dw, write, dy, x) || run_growth(GraphKind::weight_grad, spec, dw, write, dy, x))
    return;
  const GraphSpec graph = graph_of(GraphKind::weight_grad, spec, dy.dtype);
  GraphOperands operands(*this, graph, spec, stream());
  run_conv_into(graph, spec, dw, write, {.x = operands.x(x), .y = dy.data});
}

}  // namespace graft
