// Convolutions as graphs: which one computes a call, what x and w must look like for it, and what it leaves to passes
// of our own. Plans are chosen and run in conv_cudnn.cpp; tests run the graphs without cuDNN.
#include <memory>
#include <optional>

#include "kernels/cuda/cuda_backend.h"

namespace graft {
namespace {

/// A dense copy of x with more channels, the new ones zero.
class PaddedChannels {
 public:
  PaddedChannels(Backend& backend, const ConstView& x, std::int64_t channels)
      : memory_(backend, x.shape.size() / x.shape.c * channels * size_of(x.dtype)) {
    backend.zero(memory_.as<void>(), x.shape.size() / x.shape.c * channels * size_of(x.dtype));
    backend.copy({memory_.as<void>(), x.dtype, kNhwc, x.shape, channels}, Write::overwrite, x);
  }
  const void* data() const { return memory_.as<void>(); }

 private:
  CudaScratch memory_;
};

/// `x` itself where it has as many channels as the graph.
const void* with_channels(Backend& backend, const ConstView& x, std::int64_t channels,
                          std::optional<PaddedChannels>& padded) {
  if (x.shape.c == channels) return x.data;
  padded.emplace(backend, x, channels);
  return padded->data();
}

/// Likewise; a padded weight that does not change soon is kept with its parameter.
const void* with_channels(Backend& backend, const WeightView& w, std::int64_t channels,
                          std::optional<PaddedChannels>& padded) {
  struct Kept {
    std::uint64_t version;
    PaddedChannels weight;
  };
  if (w.value.shape.c == channels || !w.packed) return with_channels(backend, w.value, channels, padded);
  const auto* kept = static_cast<const Kept*>(w.packed->get());
  if (!kept || kept->version != w.version) {
    std::shared_ptr<Kept> made(new Kept{w.version, {backend, w.value, channels}});
    kept = made.get();
    *w.packed = std::move(made);
  }
  return kept->weight.data();
}

}  // namespace

GraphSpec CudaBackend::graph_of(GraphKind kind, const ConvSpec& spec, DType dtype) const {
  return conv_graph(kind, spec, dtype, precision_ == Precision::tf32);
}

// The whole epilogue in one graph where cuDNN can; else what is missing follows in passes of our own.
void CudaBackend::conv(const ConvSpec& spec, View y, ConstView x, WeightView w, const ConvEpilogue& epilogue) {
  GraphSpec graph = graph_of(GraphKind::conv, spec, x.dtype);
  std::optional<PaddedChannels> padded_x, padded_w;
  const GraphPointers pointers{.x = with_channels(*this, x, graph.conv.x.c, padded_x),
                               .y = y.data,
                               .w = with_channels(*this, w, graph.conv.x.c, padded_w),
                               .bias = epilogue.bias.data,
                               .residual = epilogue.residual.data};
  const GraphSpec plain = graph;
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

// cuDNN overwrites, in the type of its inputs and with their channels; anything else takes a copy beside the
// destination and one pass more.
void CudaBackend::run_conv_into(const GraphSpec& graph, View to, Write write, GraphPointers pointers) {
  const void*& result = graph.kind == GraphKind::data_grad ? pointers.x : pointers.w;
  if (write == Write::overwrite && to.dtype == graph.dtype && to.shape.c == graph.conv.x.c) {
    result = to.data;
    return conv_plans().run(graph, pointers);
  }
  const std::int64_t size = to.shape.size() / to.shape.c * graph.conv.x.c;
  const CudaScratch beside(*this, size * size_of(graph.dtype));
  result = beside.as<void>();
  conv_plans().run(graph, pointers);
  copy(to, write, ConstView{result, graph.dtype, kNhwc, to.shape, graph.conv.x.c});
}

void CudaBackend::conv_data_grad(const ConvSpec& spec, View dx, Write write, ConstView dy, WeightView w) {
  if (write == Write::add && add_pointwise_data_grad(spec, dx, dy, w)) return;
  const GraphSpec graph = graph_of(GraphKind::data_grad, spec, dy.dtype);
  std::optional<PaddedChannels> padded_w;
  run_conv_into(graph, dx, write, {.y = dy.data, .w = with_channels(*this, w, graph.conv.x.c, padded_w)});
}

void CudaBackend::conv_weight_grad(const ConvSpec& spec, View dw, Write write, ConstView dy, ConstView x) {
  if (pointwise_weight_grad(spec, dw, write, dy, x)) return;
  const GraphSpec graph = graph_of(GraphKind::weight_grad, spec, dy.dtype);
  std::optional<PaddedChannels> padded_x;
  run_conv_into(graph, dw, write, {.x = with_channels(*this, x, graph.conv.x.c, padded_x), .y = dy.data});
}

}  // namespace graft
