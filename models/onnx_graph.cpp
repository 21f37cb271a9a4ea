#include "models/onnx_graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "kernels/dry_backend.h"
#include "models/network.h"

namespace graft {
namespace {

/// Lets memory be had and filled, and anything else fail that a network should not do while it is written down.
class OnlyMemory : public DeviceObserver {
 public:
  void call(const DeviceCall& call, const std::function<void()>&) override {
    if (is_strict && call.op != "copy_in" && call.op != "zero")
      throw Error("onnx: the network calls " + std::string(call.op) + ", which has no ONNX operator here");
  }
  bool is_strict = false;  // else while parameters are made
};

/// Writes every call down as ONNX nodes. Values are known by their address: a view of several channel slices that were
/// written one by one, as in a dense block's buffer, is their concatenation.
class GraphRecorder final : public ObservedBackend {
 public:
  GraphRecorder(OnnxModel& model, OnlyMemory& observer)
      : ObservedBackend(std::make_unique<DryBackend>(Device{DeviceKind::reference}, BackendOptions{}), observer),
        model_(model),
        observer_(observer) {}

  void begin() { observer_.is_strict = true; }
  void name(const ConstView& v, const std::string& value) { written_[at(v.data)] = {value, v.shape.c}; }
  /// Running mean and variance of one batch norm.
  void name_statistics(const ConstView& v, const std::string& norm) { statistics_[v.data] = norm; }

  std::string value_of(const ConstView& v) {
    std::vector<std::string> pieces;
    const std::byte* address = at(v.data);
    for (std::int64_t c = 0; c < v.shape.c;) {
      const auto found = written_.find(address);
      if (found == written_.end() || c + found->second.channels > v.shape.c)
        throw Error("onnx: " + scope() + " reads memory that no operator has written");
      pieces.push_back(found->second.name);
      c += found->second.channels;
      address += found->second.channels * size_of(v.dtype);
    }
    return pieces.size() == 1 ? pieces[0] : add("Concat", std::move(pieces), {{"axis", std::int64_t{1}}});
  }

  void* allocate(std::int64_t bytes) override {
    void* block = ObservedBackend::allocate(bytes);
    written_.erase(written_.lower_bound(at(block)), written_.lower_bound(at(block) + bytes));
    return block;
  }
  void push_range(std::string_view range) override { ranges_.emplace_back(range); }
  void pop_range() override { ranges_.pop_back(); }

  void copy(View y, Write, ConstView x) override { name(y, value_of(x)); }

  void conv(const ConvSpec& s, View y, ConstView x, WeightView w, const ConvEpilogue& epilogue) override {
    std::vector<std::string> inputs{value_of(x), value_of(w.value)};
    if (epilogue.bias.data) inputs.push_back(value_of(epilogue.bias));
    std::string value = add("Conv", std::move(inputs),
                            {{"kernel_shape", Dimensions{s.r, s.s}},
                             {"strides", Dimensions{s.stride_h, s.stride_w}},
                             {"pads", Dimensions{s.pad_h, s.pad_w, s.pad_h, s.pad_w}},
                             {"dilations", Dimensions{s.dilation_h, s.dilation_w}}});
    if (epilogue.residual.data) value = add("Add", {value, value_of(epilogue.residual)});
    name(y, with_relu(value, epilogue.relu));
  }

  void linear(View y, ConstView x, WeightView w, ConstView bias) override {
    std::vector<std::string> inputs{add("Flatten", {value_of(x)}, {{"axis", std::int64_t{1}}}), value_of(w.value)};
    if (bias.data) inputs.push_back(value_of(bias));
    name(y, add("Gemm", std::move(inputs), {{"transB", std::int64_t{1}}}));
  }

  void normalize(View y, ConstView x, const NormalizeArgs& a, ConstView residual) override {
    const std::string& norm = statistics_.at(a.stats.data);
    std::string value =
        add("BatchNormalization",
            {value_of(x), value_of(a.gamma), value_of(a.beta), norm + ".running_mean", norm + ".running_var"},
            {{"epsilon", float(a.epsilon)}});
    if (residual.data) value = add("Add", {value, value_of(residual)});
    name(y, with_relu(value, a.relu));
  }

  void max_pool(const PoolSpec& s, View y, View, ConstView x) override { pool("MaxPool", s, y, x, {}); }
  void avg_pool(const PoolSpec& s, View y, ConstView x) override {
    pool("AveragePool", s, y, x, {{"count_include_pad", std::int64_t{s.count_padding}}});
  }

  /// Windows of PyTorch's adaptive pooling overlap unless the sizes divide; then each axis is a product with a matrix.
  void adaptive_avg_pool(View y, ConstView x) override {
    std::string value = value_of(x);
    if (y.shape.h == 1 && y.shape.w == 1) {
      value = add("GlobalAveragePool", {value});
    } else if (x.shape.h % y.shape.h == 0 && x.shape.w % y.shape.w == 0) {
      const Dimensions window{x.shape.h / y.shape.h, x.shape.w / y.shape.w};
      if (window != Dimensions{1, 1})
        value = add("AveragePool", {value}, {{"kernel_shape", window}, {"strides", window}});
    } else {
      value = add("MatMul", {constant("rows", averages(y.shape.h, x.shape.h, false), {y.shape.h, x.shape.h}), value});
      value = add("MatMul", {value, constant("columns", averages(y.shape.w, x.shape.w, true), {x.shape.w, y.shape.w})});
    }
    name(y, value);
  }

 protected:
  void run_map(const MapCall& call) override {
    if (call.name != Relu::kName)
      throw Error("onnx: the network calls " + std::string(call.name) + ", which is not known here");
    name(call.out, add("Relu", {value_of(call.in[0])}));
  }

 private:
  using Attributes = decltype(OnnxNode::attributes);
  struct Written {
    std::string name;
    std::int64_t channels = 0;
  };
  static const std::byte* at(const void* data) { return static_cast<const std::byte*>(data); }
  std::string scope() const { return fmt::format("{}", fmt::join(ranges_, ".")); }

  std::string unique(const std::string& wanted) {
    std::string found = wanted;
    for (int i = 2; !names_.insert(found).second; ++i) found = fmt::format("{}_{}", wanted, i);
    return found;
  }

  /// A node named by the layer that runs now; returns its output, which has the node's name.
  std::string add(const std::string& op, std::vector<std::string> inputs, Attributes attributes = {}) {
    const std::string value = unique(scope() + "/" + op);
    model_.nodes.push_back({op, value, std::move(inputs), {value}, std::move(attributes)});
    return value;
  }
  std::string with_relu(const std::string& value, bool has_relu) { return has_relu ? add("Relu", {value}) : value; }

  void pool(const std::string& op, const PoolSpec& s, View y, ConstView x, Attributes more) {
    Attributes attributes{{"kernel_shape", Dimensions{s.window_h, s.window_w}},
                          {"strides", Dimensions{s.stride_h, s.stride_w}},
                          {"pads", Dimensions{s.pad_h, s.pad_w, s.pad_h, s.pad_w}}};
    attributes.insert(attributes.end(), more.begin(), more.end());
    name(y, add(op, {value_of(x)}, std::move(attributes)));
  }

  std::string constant(const std::string& what, std::vector<float> values, Dimensions shape) {
    const std::string value = unique(scope() + "/" + what);
    model_.constants.push_back(std::move(values));
    model_.initializers.push_back({value, std::move(shape), model_.constants.back()});
    return value;
  }

  /// [out,in], or transposed: row i averages inputs floor(i*in/out) to ceil((i+1)*in/out).
  static std::vector<float> averages(std::int64_t out, std::int64_t in, bool is_transposed) {
    std::vector<float> matrix(std::size_t(out * in), 0.0F);
    for (std::int64_t i = 0; i < out; ++i) {
      const std::int64_t begin = i * in / out, end = ((i + 1) * in + out - 1) / out;
      for (std::int64_t k = begin; k < end; ++k)
        matrix[std::size_t(is_transposed ? k * out + i : i * in + k)] = 1.0F / float(end - begin);
    }
    return matrix;
  }

  OnnxModel& model_;
  OnlyMemory& observer_;
  std::map<const std::byte*, Written> written_;
  std::map<const void*, std::string> statistics_;
  std::vector<std::string> ranges_;
  std::set<std::string> names_;
};

}  // namespace

std::map<std::string, std::string> model_metadata(const ModelInfo& info) {
  const auto list = [](const std::array<double, 3>& v) {
    return fmt::format("{:.9g} {:.9g} {:.9g}", v[0], v[1], v[2]);
  };
  std::map<std::string, std::string> m{{"architecture", info.architecture},
                                       {"stride_on", info.stride_on},
                                       {"bn_epsilon", fmt::format("{:.9g}", info.bn_epsilon)},
                                       {"head", info.head},
                                       {"resize", std::to_string(info.resize)},
                                       {"input_size", std::to_string(info.input_size)},
                                       {"channel_order", info.channel_order},
                                       {"input_scale", fmt::format("{:.9g}", info.input_scale)},
                                       {"mean", list(info.mean)},
                                       {"std", list(info.std)},
                                       {"source_sha256", info.source_sha256}};
  if (info.is_multi_label) m["task"] = kMultiLabelTask;
  if (info.window) m["intensity_window"] = to_string(*info.window);
  if (!info.class_names.empty())
    m["class_names"] = nlohmann::json(info.class_names).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return m;
}

OnnxModel onnx_graph(const ModelFile& file) {
  const ModelInfo& info = file.info;
  if (!info.random_tensors.empty())
    throw Error(fmt::format("onnx: {} tensors of the model, such as {}, are not in its file; train it first",
                            info.random_tensors.size(), info.random_tensors.front()));
  OnnxModel model{
      .name = info.architecture,
      .description = fmt::format(
          "{} by graft. images: shorter side resized to {} pixels (antialiased bilinear), centre crop of {}, "
          "channels {}, (value / {:g} - mean) / std; see the metadata. logits: one per class, before {}.",
          info.architecture, info.resize, info.input_size, info.channel_order, info.input_scale,
          info.is_multi_label ? "sigmoids" : "softmax"),
      .input = {"images", {3, info.input_size, info.input_size}},
      .output = {"logits", {info.num_classes}},
      .nodes = {},
      .initializers = {},
      .constants = {},
      .metadata = model_metadata(info)};
  for (const WeightTensor& t : file.weights.tensors()) model.initializers.push_back({t.name, t.shape, t.values});

  OnlyMemory observer;
  auto device = std::make_unique<GraphRecorder>(model, observer);
  GraphRecorder& recorder = *device;
  Context context(std::move(device));
  const EvaluationMode evaluation(context);
  const NoGrad no_grad(context);
  const std::unique_ptr<Network> network = make_network(context, info);
  for (const Parameter& p : network->parameters().parameters()) recorder.name(p.value.view(), p.name);
  for (const RunningStatistics& s : network->parameters().statistics())
    recorder.name_statistics(s.value.view(), s.name);
  const Tensor images = empty(context, {1, 3, info.input_size, info.input_size});
  recorder.name(images.view(), model.input.name);
  recorder.begin();
  const Tensor logits = network->forward(images);
  const std::string last = recorder.value_of(logits.view());
  for (OnnxNode& node : model.nodes)
    for (std::string& output : node.outputs)
      if (output == last) output = model.output.name;
  return model;
}

}  // namespace graft
