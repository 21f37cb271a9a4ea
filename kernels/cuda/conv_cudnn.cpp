#include "kernels/cuda/conv_cudnn.h"

#include <cudnn_frontend.h>

#include <map>
#include <unordered_map>

#include <fmt/format.h>

#include "kernels/cuda/cuda_backend.h"

namespace graft {
namespace {

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

enum Uid : std::int64_t { kX = 1, kY = 2, kW = 3, kBias = 4 };

std::string describe(const ConvKey& key) {
  const ConvSpec& s = key.spec;
  const char* pass = key.pass == ConvPass::forward     ? "conv2d"
                     : key.pass == ConvPass::data_grad ? "conv2d data gradient"
                                                       : "conv2d weight gradient";
  return fmt::format("{} (x {}, weight [{},{},{},{}])", pass, to_string(s.x), s.k, s.x.c, s.r, s.s);
}

void check(fe::error_t status, const ConvKey& key) {
  if (status.is_good()) return;
  std::string message = status.get_message();
  for (char& c : message)
    if (c == '\n') c = ' ';
  throw Error(fmt::format("{}: cuDNN failed: {}", describe(key), message));
}

std::vector<std::int64_t> dims(const Shape& s) { return {s.n, s.c, s.h, s.w}; }
std::vector<std::int64_t> nhwc(const Shape& s) { return {s.c * s.h * s.w, 1, s.w * s.c, s.c}; }

struct Plan {
  std::unique_ptr<fe::graph::Graph> graph;
  std::int64_t workspace_bytes = 0;
};

template <class Attributes>
Attributes geometry(const ConvSpec& s) {
  Attributes a;
  a.set_padding({s.pad_h, s.pad_w}).set_stride({s.stride_h, s.stride_w}).set_dilation({s.dilation_h, s.dilation_w});
  return a;
}

/// The operations of one pass, with their memory layouts.
void describe_graph(fe::graph::Graph& graph, const ConvKey& key) {
  const ConvSpec& s = key.spec;
  const Shape weight{s.k, s.x.c, s.r, s.s};
  graph.set_io_data_type(fe::DataType_t::FLOAT)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  const auto input = [&](const char* name, Uid uid, const Shape& shape) {
    return graph.tensor(
        fe::graph::Tensor_attributes().set_name(name).set_uid(uid).set_dim(dims(shape)).set_stride(nhwc(shape)));
  };
  const auto lay_out = [](const Tensor& t, const Shape& shape) { t->set_dim(dims(shape)).set_stride(nhwc(shape)); };

  Tensor out;
  Uid out_uid = kY;
  Shape out_shape = s.y();
  switch (key.pass) {
    case ConvPass::forward: {
      out =
          graph.conv_fprop(input("x", kX, s.x), input("w", kW, weight), geometry<fe::graph::Conv_fprop_attributes>(s));
      if (key.has_bias) {
        lay_out(out, out_shape);
        out = graph.pointwise(out, input("bias", kBias, {1, s.k, 1, 1}),
                              fe::graph::Pointwise_attributes().set_mode(fe::PointwiseMode_t::ADD));
      }
      break;
    }
    case ConvPass::data_grad:
      out = graph.conv_dgrad(input("y", kY, s.y()), input("w", kW, weight),
                             geometry<fe::graph::Conv_dgrad_attributes>(s));
      out_uid = kX;
      out_shape = s.x;
      break;
    case ConvPass::weight_grad:
      out = graph.conv_wgrad(input("y", kY, s.y()), input("x", kX, s.x), geometry<fe::graph::Conv_wgrad_attributes>(s));
      out_uid = kW;
      out_shape = weight;
      break;
  }
  lay_out(out, out_shape);
  out->set_output(true).set_uid(out_uid);
}

/// Plans for the GPU behind `handle`, or for `device` when that is given.
Plan make_plan(const ConvKey& key, cudnnHandle_t handle, const std::shared_ptr<const fe::DeviceProperties>& device) {
  Plan plan{std::make_unique<fe::graph::Graph>(), 0};
  fe::graph::Graph& graph = *plan.graph;
  describe_graph(graph, key);
  if (device) graph.set_device_properties(device);
  check(graph.validate(), key);
  check(device ? graph.build_operation_graph() : graph.build_operation_graph(handle), key);
  check(graph.create_execution_plans({fe::HeurMode_t::A, fe::HeurMode_t::B, fe::HeurMode_t::FALLBACK}), key);
  // For float32 tensors a tensor-core engine is a TF32 engine. Sums whose order varies are refused too, and transforms
  // that lose more digits than a plain sum.
  graph.deselect_numeric_notes({fe::NumericalNote_t::TENSOR_CORE, fe::NumericalNote_t::DOWN_CONVERT_INPUTS,
                                fe::NumericalNote_t::REDUCED_PRECISION_REDUCTION, fe::NumericalNote_t::NONDETERMINISTIC,
                                fe::NumericalNote_t::FFT, fe::NumericalNote_t::WINOGRAD_TILE_6x6,
                                fe::NumericalNote_t::WINOGRAD_TILE_13x13});
  check(graph.build_plans(fe::BuildPlanPolicy_t::HEURISTICS_CHOICE), key);  // the first that builds
  check(graph.get_workspace_size(plan.workspace_bytes), key);
  return plan;
}

void check_cudnn(cudnnStatus_t status, const char* what) {
  if (status != CUDNN_STATUS_SUCCESS)
    throw Error(fmt::format("cuda: {}: cuDNN failed: {}", what, cudnnGetErrorString(status)));
}

}  // namespace

struct ConvPlans::State {
  gpu::Handle<cudnnHandle_t, cudnnDestroy> handle;
  std::map<ConvKey, Plan> plans;

  Plan& plan(const ConvKey& key) {
    const auto it = plans.find(key);
    return it != plans.end() ? it->second : plans.emplace(key, make_plan(key, handle.get(), nullptr)).first->second;
  }
};

ConvPlans::ConvPlans(cudaStream_t stream) : state_(std::make_unique<State>()) {
  check_cudnn(cudnnCreate(state_->handle.out()), "starting");
  check_cudnn(cudnnSetStream(state_->handle.get(), stream), "starting");
}

ConvPlans::~ConvPlans() = default;

std::int64_t ConvPlans::workspace_bytes(const ConvKey& key) { return state_->plan(key).workspace_bytes; }

void ConvPlans::run(const ConvKey& key, const ConvPointers& p) {
  std::unordered_map<std::int64_t, void*> pointers{
      {kX, const_cast<void*>(p.x)}, {kY, const_cast<void*>(p.y)}, {kW, const_cast<void*>(p.w)}};
  if (key.has_bias) pointers.emplace(kBias, const_cast<void*>(p.bias));
  check(state_->plan(key).graph->execute(state_->handle.get(), pointers, p.workspace), key);
}

std::string conv_plan_without_device(const std::string& device_properties, const ConvKey& key) {
  const auto device = std::make_shared<fe::DeviceProperties>();
  check(device->deserialize({device_properties.begin(), device_properties.end()}), key);
  const Plan plan = make_plan(key, nullptr, device);
  std::string name;
  check(plan.graph->get_plan_name(name), key);
  return fmt::format("{}, {} bytes", name, plan.workspace_bytes);
}

void CudaBackend::run_conv(const ConvKey& key, const ConvPointers& pointers) {
  const cudaStream_t work = stream();
  if (!conv_plans_) conv_plans_ = std::make_unique<ConvPlans>(work);
  const CudaScratch workspace(*this, conv_plans_->workspace_bytes(key));
  ConvPointers p = pointers;
  p.workspace = workspace.as<void>();
  conv_plans_->run(key, p);
}

void CudaBackend::conv(const ConvSpec& spec, View y, ConstView x, WeightView w, const ConvEpilogue& epilogue) {
  run_conv({.spec = spec, .has_bias = epilogue.bias.data != nullptr},
           {.x = x.data, .y = y.data, .w = w.value.data, .bias = epilogue.bias.data});
  // Not part of the plan: cuDNN does not promise that its ReLU keeps a NaN.
  if (epilogue.relu) map(Relu{}, y, Write::overwrite, {y});
}

// cuDNN's float32 engines overwrite; a sum takes a copy beside the destination and one pass more.
void CudaBackend::run_conv_into(const ConvKey& key, View to, Write write, ConvPointers pointers) {
  const void*& result = key.pass == ConvPass::data_grad ? pointers.x : pointers.w;
  if (write == Write::overwrite) {
    result = to.data;
    return run_conv(key, pointers);
  }
  const CudaScratch sum(*this, to.shape.size() * std::int64_t(sizeof(float)));
  View part = to;
  part.data = sum.as<void>();
  part.pitch = to.shape.c;
  result = part.data;
  run_conv(key, pointers);
  copy(to, Write::add, part);
}

void CudaBackend::conv_data_grad(const ConvSpec& spec, View dx, Write write, ConstView dy, WeightView w) {
  run_conv_into({.pass = ConvPass::data_grad, .spec = spec}, dx, write, {.y = dy.data, .w = w.value.data});
}

void CudaBackend::conv_weight_grad(const ConvSpec& spec, View dw, Write write, ConstView dy, ConstView x) {
  run_conv_into({.pass = ConvPass::weight_grad, .spec = spec}, dw, write, {.x = x.data, .y = dy.data});
}

}  // namespace graft
