#include "kernels/cuda/graph_cudnn.h"

#define CUDNN_FRONTEND_SKIP_JSON_LIB  // graphs are never serialised; this halves the time to compile
#include <cudnn_frontend.h>

#include <algorithm>
#include <map>
#include <set>
#include <system_error>
#include <thread>
#include <unordered_map>

#include <fmt/format.h>

namespace graft {
namespace {

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;
using fe::graph::Pointwise_attributes;
using Mode = fe::PointwiseMode_t;

enum Uid : std::int64_t { kX = 1, kY = 2, kW = 3, kBias = 4, kResidual = 5, kFirstOther = 16 };

void check(fe::error_t status, const GraphSpec& spec) {
  if (status.is_good()) return;
  std::string message = status.get_message();
  std::ranges::replace(message, '\n', ' ');
  throw Error(fmt::format("{}: cuDNN failed: {}", to_string(spec), message));
}

fe::DataType_t data_type(DType dtype) {
  return dtype == DType::bf16  ? fe::DataType_t::BFLOAT16
         : dtype == DType::f16 ? fe::DataType_t::HALF
                               : fe::DataType_t::FLOAT;
}

/// A graph under construction. `plans` is what cuDNN listed.
class OpenGraph : public fe::graph::Graph {
 public:
  explicit OpenGraph(const GraphSpec& spec);

  auto& listed() { return plans; }

 private:
  using Layout = std::vector<std::int64_t>;
  static Layout dims(const Shape& s) { return {s.n, s.c, s.h, s.w}; }
  static Layout nhwc(const Shape& s, std::int64_t pitch) {
    const std::int64_t c = pitch ? pitch : s.c;
    return {s.h * s.w * c, 1, s.w * c, c};
  }
  static void lay_out(const Tensor& t, const Shape& shape, std::int64_t pitch = 0) {
    t->set_dim(dims(shape)).set_stride(nhwc(shape, pitch));
  }

  Tensor input(std::int64_t uid, const Shape& shape, std::int64_t pitch = 0) {
    return tensor(fe::graph::Tensor_attributes().set_uid(uid).set_dim(dims(shape)).set_stride(nhwc(shape, pitch)));
  }
  Tensor per_channel(std::int64_t uid, std::int64_t c) {
    Tensor t = input(uid, {1, c, 1, 1});
    t->set_data_type(fe::DataType_t::FLOAT);
    return t;
  }
  Tensor other(const Shape& shape, std::int64_t pitch = 0) { return input(next_uid_++, shape, pitch); }
  Tensor other_per_channel(std::int64_t c) { return per_channel(next_uid_++, c); }
  void output(const Tensor& t, std::int64_t uid) { t->set_output(true).set_uid(uid); }
  void other_output(const Tensor& t) { output(t, next_uid_++); }
  void float_output(const Tensor& t) {
    other_output(t);
    t->set_data_type(fe::DataType_t::FLOAT);
  }
  Tensor apply(Mode mode, const Tensor& a, const Tensor& b) {
    return pointwise(a, b, Pointwise_attributes().set_mode(mode));
  }
  Tensor relu(const Tensor& a) { return pointwise(a, Pointwise_attributes().set_mode(Mode::RELU_FWD)); }

  template <class Attributes>
  Attributes geometry() const {
    const ConvSpec& s = spec_.conv;
    Attributes a;
    a.set_padding({s.pad_h, s.pad_w}).set_stride({s.stride_h, s.stride_w}).set_dilation({s.dilation_h, s.dilation_w});
    return a;
  }
  Tensor convolution(const Tensor& x) {
    Tensor y = conv_fprop(x, input(kW, weight_), geometry<fe::graph::Conv_fprop_attributes>());
    lay_out(y, spec_.conv.y(), spec_.y_pitch);
    return y;
  }

  Tensor convolution_output(const Tensor& x) {
    Tensor y = convolution(x);
    output(y, kY);
    return y;
  }

  void describe();
  void conv();
  void data_grad();
  void weight_grad();
  void norm();
  void norm_grad();
  void statistics_of(const Tensor& y);
  void norm_conv_statistics();
  void data_grad_norm_sums();

  const GraphSpec& spec_;
  const Shape weight_;
  std::int64_t next_uid_ = kFirstOther;
};

OpenGraph::OpenGraph(const GraphSpec& spec)
    : spec_(spec), weight_{spec.conv.k, spec.conv.x.c, spec.conv.r, spec.conv.s} {
  set_io_data_type(data_type(spec.dtype))
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  describe();
}

void OpenGraph::describe() {
  switch (spec_.kind) {
    case GraphKind::conv:
      return conv();
    case GraphKind::data_grad:
      return data_grad();
    case GraphKind::weight_grad:
      return weight_grad();
    case GraphKind::norm:
      return norm();
    case GraphKind::norm_grad:
      return norm_grad();
    case GraphKind::conv_statistics:
      return statistics_of(convolution_output(input(kX, spec_.conv.x, spec_.x_pitch)));
    case GraphKind::norm_conv_statistics:
      return norm_conv_statistics();
    case GraphKind::data_grad_norm_sums:
      return data_grad_norm_sums();
  }
}

void OpenGraph::conv() {
  Tensor y = convolution(input(kX, spec_.conv.x, spec_.x_pitch));
  if (spec_.has_bias) y = apply(Mode::ADD, y, per_channel(kBias, spec_.conv.k));
  if (spec_.has_residual) y = apply(Mode::ADD, y, input(kResidual, spec_.conv.y()));
  if (spec_.has_relu) y = relu(y);
  lay_out(y, spec_.conv.y(), spec_.y_pitch);
  output(y, kY);
}

void OpenGraph::data_grad() {
  const Tensor dx = conv_dgrad(input(kY, spec_.conv.y(), spec_.y_pitch), input(kW, weight_),
                               geometry<fe::graph::Conv_dgrad_attributes>());
  lay_out(dx, spec_.conv.x, spec_.x_pitch);
  output(dx, kX);
}

void OpenGraph::weight_grad() {
  const Tensor dw = conv_wgrad(input(kY, spec_.conv.y(), spec_.y_pitch), input(kX, spec_.conv.x, spec_.x_pitch),
                               geometry<fe::graph::Conv_wgrad_attributes>());
  lay_out(dw, weight_);
  output(dw, kW);
}

void OpenGraph::norm() {
  const Shape& shape = spec_.conv.x;
  Tensor epsilon = tensor(1e-5f);
  auto [y, mean, inverse, running_mean, running_variance] =
      batchnorm(input(kX, shape, spec_.x_pitch), other_per_channel(shape.c), other_per_channel(shape.c),
                fe::graph::Batchnorm_attributes().set_epsilon(epsilon));
  float_output(mean);
  float_output(inverse);
  Tensor result = y;
  if (spec_.has_residual) result = apply(Mode::ADD, result, other(shape));
  if (spec_.has_relu) {
    result = relu(result);
    const Tensor bits = apply(Mode::CMP_GT, result, tensor(0.0f));
    bits->set_data_type(fe::DataType_t::BOOLEAN);
    other_output(bits);
  }
  lay_out(result, shape);
  output(result, kY);
}

void OpenGraph::norm_grad() {
  const Shape& shape = spec_.conv.x;
  Tensor g = input(kY, shape);
  if (spec_.has_relu) {
    const Tensor bits = other(shape);
    bits->set_data_type(fe::DataType_t::BOOLEAN);
    g = apply(Mode::MUL, g, bits);
    g->set_data_type(data_type(spec_.dtype));  // where it is no output too: cuDNN wants it so
    if (spec_.has_residual) other_output(g);
  }
  auto [dx, dscale, dshift] =
      batchnorm_backward(g, input(kX, shape, spec_.x_pitch), other_per_channel(shape.c),
                         fe::graph::Batchnorm_backward_attributes().set_saved_mean_and_inv_variance(
                             other_per_channel(shape.c), other_per_channel(shape.c)));
  lay_out(dx, shape);
  other_output(dx);
  float_output(dscale);
  float_output(dshift);
}

void OpenGraph::statistics_of(const Tensor& y) {
  auto [sum, squares] = genstats(y, fe::graph::Genstats_attributes());
  float_output(sum);
  float_output(squares);
}

void OpenGraph::norm_conv_statistics() {
  const Shape vector{1, spec_.conv.x.c, 1, 1};  // of the activations' type
  Tensor x = apply(Mode::MUL, input(kX, spec_.conv.x, spec_.x_pitch), other(vector));
  x = relu(apply(Mode::ADD, x, other(vector)));
  statistics_of(convolution_output(x));
}

void OpenGraph::data_grad_norm_sums() {
  const std::int64_t c = spec_.conv.x.c;
  const Tensor g =
      conv_dgrad(input(kY, spec_.conv.y()), input(kW, weight_), geometry<fe::graph::Conv_dgrad_attributes>());
  lay_out(g, spec_.conv.x);
  const Tensor x = input(kX, spec_.conv.x), mean = other_per_channel(c), inverse = other_per_channel(c),
               scale = other_per_channel(c);
  Tensor y = apply(Mode::MUL, apply(Mode::SUB, x, mean), inverse);  // the forward pass again, for its sign
  y = apply(Mode::ADD, apply(Mode::MUL, y, scale), other_per_channel(c));
  const Tensor masked = apply(Mode::RELU_BWD, g, y);
  lay_out(masked, spec_.conv.x);
  other_output(masked);
  for (const Tensor& sum : dbn_weight(masked, x, mean, inverse, scale, fe::graph::DBN_weight_attributes()))
    float_output(sum);
}

using Note = fe::NumericalNote_t;

bool is_plain_float32(const GraphSpec& spec) { return spec.dtype == DType::f32 && !spec.allows_tf32; }

/// Engines with these notes break a promise.
std::vector<Note> refused_notes(const GraphSpec& spec, bool deterministic) {
  std::vector<Note> notes = {Note::REDUCED_PRECISION_REDUCTION, Note::FFT, Note::WINOGRAD_TILE_6x6,
                             Note::WINOGRAD_TILE_13x13};
  if (deterministic) notes.push_back(Note::NONDETERMINISTIC);
  if (is_plain_float32(spec)) {  // for float32 tensors a tensor-core engine is a TF32 engine
    notes.push_back(Note::TENSOR_CORE);
    notes.push_back(Note::DOWN_CONVERT_INPUTS);
  }
  return notes;
}

/// A described graph with the plans that may be used.
struct Listed {
  explicit Listed(const GraphSpec& spec) : graph(spec) {}

  OpenGraph graph;
  std::vector<std::int64_t> indices;  // into cuDNN's list
  std::vector<PlanCandidate> candidates;
};

bool is_compiled_at_run_time(OpenGraph& graph, std::int64_t index) {
  const auto& notes = graph.listed().behavior_notes[std::size_t(index)];
  return std::ranges::find(notes, fe::BehaviorNote_t::RUNTIME_COMPILATION) != notes.end();
}

/// Lists for the GPU behind `handle`, or for `device` when that is given.
std::unique_ptr<Listed> list_plans(const GraphSpec& spec, cudnnHandle_t handle,
                                   const std::shared_ptr<const fe::DeviceProperties>& device, bool deterministic) {
  auto result = std::make_unique<Listed>(spec);
  OpenGraph& graph = result->graph;
  if (device) graph.set_device_properties(device);
  check(graph.validate(), spec);
  check(device ? graph.build_operation_graph() : graph.build_operation_graph(handle), spec);
  check(graph.create_execution_plans({fe::HeurMode_t::A, fe::HeurMode_t::B, fe::HeurMode_t::FALLBACK}), spec);
  graph.deselect_numeric_notes(refused_notes(spec, deterministic));
  // An engine that is compiled at run time may multiply float32 on tensor cores and have no numerical note at all.
  if (is_plain_float32(spec) && !spec.is_norm())
    graph.deselect_behavior_notes({fe::BehaviorNote_t::RUNTIME_COMPILATION});

  std::map<std::string, std::int64_t> workspaces;  // of the plans that were not refused
  for (auto& config : graph.listed().get_barred_engine_configs()) {
    std::int64_t bytes = 0;
    check(fe::detail::get_workspace_size(config, bytes), spec);
    workspaces[fe::detail::get_engine_tag(config)] = bytes;
  }
  for (std::int64_t i = 0; i < graph.get_execution_plan_count(); ++i) {
    std::string name;
    check(graph.get_plan_name_at_index(i, name), spec);
    const auto it = workspaces.find(name);
    if (it == workspaces.end()) continue;
    result->indices.push_back(i);
    result->candidates.push_back({name, it->second, is_compiled_at_run_time(graph, i)});
    workspaces.erase(it);
  }
  if (result->candidates.empty())
    throw Error(fmt::format(
        "{}: cuDNN has {} plans for it, none of which {}", to_string(spec), graph.get_execution_plan_count(),
        deterministic ? "gives the same bits every time at this precision" : "computes at this precision"));
  return result;
}

}  // namespace

CudnnLibrary::CudnnLibrary(cudaStream_t stream) {
  cudnnStatus_t status = cudnnCreate(&handle_);
  if (status == CUDNN_STATUS_SUCCESS) status = cudnnSetStream(handle_, stream);
  if (status != CUDNN_STATUS_SUCCESS)
    throw Error(fmt::format("cuda: starting cuDNN failed: {}", cudnnGetErrorString(status)));
}

CudnnLibrary::~CudnnLibrary() {
  if (handle_) static_cast<void>(cudnnDestroy(handle_));
}

std::string CudnnLibrary::version() {
  const std::size_t v = cudnnGetVersion();
  return fmt::format("{}.{}.{}", v / 10000, v % 10000 / 100, v % 100);
}

struct CudnnGraph::State {
  GraphSpec spec;  // before `listed`, which refers to it
  std::unique_ptr<Listed> listed;
};

CudnnGraph::CudnnGraph(const GraphSpec& spec, const CudnnLibrary& cudnn, bool deterministic)
    : cudnn_(cudnn), state_(std::make_unique<State>(State{spec, nullptr})) {
  state_->listed = list_plans(state_->spec, cudnn.handle(), nullptr, deterministic);
  candidates_ = state_->listed->candidates;
}

CudnnGraph::~CudnnGraph() = default;

void CudnnGraph::build(std::size_t candidate) {
  const std::int64_t index = state_->listed->indices.at(candidate);
  check(state_->listed->graph.build_plan_at_index(index), state_->spec);
  std::int64_t bytes = 0;
  check(state_->listed->graph.get_workspace_size_plan_at_index(index, bytes), state_->spec);
  if (bytes > candidates()[candidate].workspace_bytes)  // it would write beyond what it is given
    throw Error(to_string(state_->spec) + ": the plan needs more workspace than its description said");
}

void CudnnGraph::build_side_by_side(std::span<const std::size_t> candidates) {
  int gpu = 0;
  if (candidates.size() < 2 || cudaGetDevice(&gpu) != cudaSuccess)
    return;  // nothing to gain, or `build` says what it is
  // Threads on one graph, each at a place of its own in the list of plans, as in the front end's sample of parallel
  // compilation. What they all write, the index of the plan built last, is never read here.
  std::vector<std::jthread> builders;
  try {
    for (const std::size_t candidate : candidates)
      builders.emplace_back([this, candidate, gpu] {
        try {
          if (cudaSetDevice(gpu) == cudaSuccess) build(candidate);
        } catch (const std::exception&) {
        }
      });
  } catch (const std::system_error&) {  // no more threads: `build` comes to the others
  }
}

void CudnnGraph::unload(std::size_t candidate) noexcept {
  state_->listed->graph.listed().execution_plans[std::size_t(state_->listed->indices[candidate])].reset();
}

void CudnnGraph::run(std::size_t candidate, const GraphPointers& p, void* workspace) {
  std::unordered_map<std::int64_t, void*> pointers{
      {kX, const_cast<void*>(p.x)}, {kY, const_cast<void*>(p.y)}, {kW, const_cast<void*>(p.w)}};
  if (state_->spec.has_bias) pointers.emplace(kBias, const_cast<void*>(p.bias));
  if (state_->spec.has_residual) pointers.emplace(kResidual, const_cast<void*>(p.residual));
  check(state_->listed->graph.execute_plan_at_index(cudnn_.handle(), pointers, workspace,
                                                    state_->listed->indices.at(candidate)),
        state_->spec);
}

GraphSupport graph_support(const std::string& device_properties, const GraphSpec& spec) {
  GraphSupport support;
  try {
    const auto device = std::make_shared<fe::DeviceProperties>();
    check(device->deserialize({device_properties.begin(), device_properties.end()}), spec);
    const std::unique_ptr<Listed> listed = list_plans(spec, nullptr, device, true);
    support.plans = std::ssize(listed->candidates);
    std::set<std::string> engines;
    for (const PlanCandidate& c : listed->candidates) {
      engines.insert(engine_of(c.name));
      support.compiled_plans += c.compiles;
    }
    support.engines = std::ssize(engines);
    for (std::size_t i = 0; i < listed->candidates.size(); ++i) {
      const bool needs_driver = listed->candidates[i].compiles;
      if (!needs_driver) {
        fe::error_t status = listed->graph.build_plan_at_index(listed->indices[i]);
        if (status.is_bad()) {
          if (support.reason.empty()) support.reason = status.get_message();
          continue;
        }
      }
      support.plan = listed->candidates[i].name;
      support.workspace_bytes = listed->candidates[i].workspace_bytes;
      support.is_built = !needs_driver;
      support.reason.clear();
      break;
    }
  } catch (const Error& error) {
    support.reason = error.what();
  }
  std::ranges::replace(support.reason, '\n', ' ');
  return support;
}

}  // namespace graft
